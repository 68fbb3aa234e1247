//! Which frame runs, as the frames themselves tell.
//!
//! Each region is copied at a moment of its own, and functions of a few dozen nanoseconds come and go in between. Every
//! frame on the data stack is therefore asked about itself: it runs if its own bytes say so, whatever the thread state
//! said a moment before. All of them are in one region, so their bytes are of one moment. To take the
//! thread state's word where it fits and the frames' where it does not would mix two moments, and give the
//! time of those that change fastest to their neighbours.
//!
//! Frames on the heap (of generators) cannot be asked at that moment. For them the thread state is read once more right
//! behind the data stack.

use crate::memory::{Region, RemoteMemory};

use super::data_stack::CHUNK_HEADER;
use super::told::{Life, Told};
use super::{SETTLING_STEPS, Walk};

/// The current frame as the thread state had it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stated {
    /// Before the data stack was read.
    pub(super) before: u64,
    /// Behind it.
    pub(super) after: u64,
    /// Where the data stack ended, before it was read.
    pub(super) top: u64,
}

impl<M: RemoteMemory> Walk<'_, M> {
    /// The frame that ran when the data stack was read.
    pub(super) fn settle(&mut self, stated: Stated) -> u64 {
        let mut at = stated.after;
        for _ in 0..SETTLING_STEPS {
            let Some(told) = self.ask(at) else {
                match self.caller_of_lost(at) {
                    Some(caller) => at = caller,
                    // It was not foreseen.
                    None if at == stated.after && self.ask(stated.before).is_some() => {
                        let length = self.frame_length();
                        let address = at;
                        self.snapshot
                            .foresee(Region { address, length }, self.group);
                        at = stated.before;
                    }
                    None => break,
                }
                continue;
            };
            if let Some(newest) = self.newest_above(told, stated) {
                return self.oldest_running(newest);
            }
            let left = at != stated.after;
            if !(told.stacked || left && told.life == Life::Gone) {
                return self.below_generator(told, stated);
            }
            match told.life {
                Life::Runs => {
                    // C code that it called may have resumed a generator, which 3.11 always does.
                    let resumed = self.layout.shim_free().then_some(stated.before);
                    return match resumed.and_then(|before| self.generator_on(told, before)) {
                        Some(generator) if left || self.known.take_turns() => generator,
                        _ => self.oldest_running(at),
                    };
                }
                Life::Executes => {
                    return match self.generator_on(told, stated.before) {
                        Some(generator) if left || self.known.take_turns() => generator,
                        _ => at,
                    };
                }
                // Else these are the bytes of what lay there before.
                Life::Unstarted if at == stated.before && !self.called_by_running(told) => {
                    return at;
                }
                Life::Waits => {
                    if let Some(generator) = self.generator_on(told, stated.before) {
                        return generator;
                    }
                    // What it called has returned.
                    if left || self.has_called(told) {
                        return self.oldest_running(at);
                    }
                }
                Life::Unstarted | Life::Gone => {}
            }
            match self.caller_of(told) {
                Some(caller) => at = caller,
                None if at == stated.after && at != stated.before => at = stated.before,
                None => break,
            }
        }
        if self.ask(stated.after).is_some() {
            return stated.after;
        }
        // It is gone, and its chunk may be gone with it.
        self.newest_of_all().unwrap_or(stated.after)
    }

    /// Whether the frame that called this one says that it runs itself.
    fn called_by_running(&mut self, told: Told) -> bool {
        self.ask(told.caller)
            .is_some_and(|caller| caller.life == Life::Runs)
    }

    /// What ran where the thread state has a generator: that, unless whoever resumed it says that it ran itself, or
    /// something else that it called.
    fn below_generator(&mut self, generator: Told, stated: Stated) -> u64 {
        let stayed = stated.before == generator.address;
        let mut at = generator;
        for _ in 0..SETTLING_STEPS {
            let through_c = at.through_c;
            let Some(caller) = self.caller_of(at).and_then(|caller| self.ask(caller)) else {
                return self.stayed_below(at, stated).unwrap_or(generator.address);
            };
            if caller.stacked {
                let before = stated.before;
                let changed = before == caller.address && caller.life != Life::Waits
                    || before != generator.address && self.generator_on(caller, before).is_some();
                let runs = caller.life == Life::Runs && !through_c && !stayed;
                let otherwise = match (runs, changed) {
                    (true, _) => caller.address,
                    (false, true) if self.known.take_turns() => before,
                    _ => generator.address,
                };
                return self.newest_above(caller, stated).unwrap_or(otherwise);
            }
            at = caller;
        }
        generator.address
    }

    /// The frame on the data stack that ran before a generator of which nothing tells who resumed it, if it was the newest
    /// one there still, and it is others that were seen to resume that generator.
    fn stayed_below(&mut self, generator: Told, stated: Stated) -> Option<u64> {
        let newest = self.newest_from_the_foot()?;
        let code = self.code_of(generator.address)?;
        let resumed = self.has_called_before(newest, code);
        (newest == stated.before && resumed == Some(false)).then_some(newest)
    }

    /// The generator that the thread state had, if it runs on this frame, be it through others.
    fn generator_on(&mut self, base: Told, generator: u64) -> Option<u64> {
        let mut at = self.ask(generator).filter(|told| !told.stacked)?;
        for _ in 0..SETTLING_STEPS {
            let caller = self.caller_of(at)?;
            if caller == base.address {
                return Some(generator);
            }
            at = self.ask(caller).filter(|told| !told.stacked)?;
        }
        None
    }

    /// Of a frame and those below it the oldest one that runs itself. 3.11 does not mark a frame that has returned, but
    /// its caller marks itself; and it was copied before.
    fn oldest_running(&mut self, newest: u64) -> u64 {
        let (mut oldest, mut at) = (newest, newest);
        if !self.layout.shim_free() {
            return newest;
        }
        for _ in 0..SETTLING_STEPS {
            let Some(told) = self.ask(at).filter(|told| !told.through_c && told.stacked) else {
                break;
            };
            let Some(caller) = self.ask(told.caller).filter(|caller| caller.stacked) else {
                break;
            };
            if caller.life == Life::Runs {
                oldest = caller.address;
            }
            at = caller.address;
        }
        oldest
    }

    /// The newest frame on the data stack above this one that runs, by what is in its bytes.
    fn newest_above(&mut self, told: Told, stated: Stated) -> Option<u64> {
        let mut newest = None;
        let mut below = told;
        let mut end = match told.end {
            Some(end) => end,
            None if told.stacked => return None,
            None => self.end_below(told).unwrap_or(stated.top),
        };
        for _ in 0..SETTLING_STEPS {
            let Some(callee) = self.callee_of(below, end) else {
                break;
            };
            // Then that is what it waits for.
            let resumed = self.generator_on(below, stated.before).is_some()
                || self.generator_on(below, stated.after).is_some();
            match callee.life {
                Life::Runs | Life::Executes => newest = Some(callee.address),
                // It goes back, or on: what called nothing goes back. (3.11 pops it before it goes back.)
                Life::Waits
                    if below.life == Life::Waits
                        && below.stacked
                        && !callee.through_c
                        && !resumed
                        && self.may_go_on(callee, newest == Some(below.address), stated.top) =>
                {
                    newest = Some(callee.address);
                }
                Life::Waits => {
                    let resumed = self
                        .generator_on(callee, stated.before)
                        .or_else(|| self.generator_on(callee, stated.after));
                    newest = resumed.or(newest);
                }
                Life::Unstarted | Life::Gone => break,
            }
            if callee.through_c && newest == Some(callee.address) {
                self.neighbour = below.stacked.then_some(below.address);
            }
            let Some(next) = callee.end else { break };
            (below, end) = (callee, next);
        }
        newest
    }

    /// Whether a frame that does not run, and whose caller does not run either, has not returned. `in_doubt`: neither was
    /// its caller seen to run.
    fn may_go_on(&mut self, told: Told, in_doubt: bool, top: u64) -> bool {
        if self.layout.shim_free() {
            !in_doubt || (told.address < top && self.known.take_turns())
        } else {
            self.has_called(told)
        }
    }

    /// Whether something lies right behind a frame on the data stack that it called, be it over.
    fn has_called(&mut self, told: Told) -> bool {
        let newer = self
            .chunk
            .map_or(0, |chunk| self.known.chunks_beside(chunk.address).1);
        told.end
            .and_then(|end| self.ask(end))
            .is_some_and(|callee| callee.caller == told.address)
            || newer != 0 && self.known.caller_at(newer + CHUNK_HEADER) == Some(told.address)
    }

    /// Where the data stack ends below a generator.
    fn end_below(&mut self, generator: Told) -> Option<u64> {
        let mut at = generator;
        for _ in 0..SETTLING_STEPS {
            let caller = self.caller_of(at)?;
            at = self.ask(caller)?;
            if at.stacked {
                return at.end;
            }
        }
        None
    }

    /// What lies right behind a frame on the data stack, if that frame called it.
    pub(super) fn callee_of(&mut self, below: Told, end: u64) -> Option<Told> {
        let chunk = self.chunk?;
        let newer = match self.known.chunks_beside(chunk.address) {
            (_, 0) => 0,
            (_, newer) => newer + CHUNK_HEADER,
        };
        // It is the first of a newer chunk where there was no room left.
        [end, newer, chunk.foot()].into_iter().find_map(|address| {
            let callee = self.ask(address)?;
            let behind = callee.through_c && callee.caller == 0 && address == end;
            if !callee.stacked || callee.life == Life::Gone {
                return None;
            }
            let called = behind
                || callee.caller == below.address
                || self.generator_on(below, callee.caller).is_some();
            if called && callee.end.is_none() {
                // What executes no code object that was met before may be what was left there by something else.
                let code = self.code_of(address)?;
                self.known.met_stranger(code);
                return None;
            }
            called.then_some(callee)
        })
    }
}
