//! Which frame ran at the moment when the data stack was read.
//!
//! Each region is copied at a moment of its own, and functions of a few dozen nanoseconds come and go in between. So one
//! region has to decide, and it is the first one of the thread that is read: the newest chunk of its data stack.
//! Every frame there tells of itself whether it runs, all of them at one moment. It has to be the first
//! because reading is felt: a line of the cache that was copied is shared from then on, and the thread's next store to
//! it waits until the reader's copy is given up. A thread whose state is read a moment before its data
//! stack is therefore found calling and returning up to twice as often as it does.
//!
//! Frames on the heap (of generators) cannot be asked at that moment. For them there is the thread state, which is read
//! right behind the data stack, and their own bytes, later still.

use crate::memory::{CACHE_LINE, ReadError, Region, RemoteMemory};

use super::data_stack::CHUNK_HEADER;
use super::told::{Life, Told};
use super::{SETTLING_STEPS, Walk};

/// More lines than this make no difference any more.
const MOST_LINES: u32 = 64;

/// As many lines are copied in the time from a caller's first store for a call to the callee's first instruction.
const LINES_OF_A_CALL: u32 = 2;

/// What the thread state said a moment after the data stack was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stated {
    /// The current frame.
    pub(super) current: u64,
    /// Where the data stack ended.
    pub(super) top: u64,
}

impl<M: RemoteMemory> Walk<'_, M> {
    /// The frame that ran when the data stack was read.
    pub(super) fn settle(&mut self, stated: Stated) -> Result<u64, ReadError> {
        let mut at = stated.current;
        if self.is_left_over(at)? {
            return Ok(self.newest_of_all().unwrap_or(at));
        }
        for _ in 0..SETTLING_STEPS {
            let Some(told) = self.ask(at) else {
                match self.caller_of_lost(at) {
                    Some(caller) => at = caller,
                    None if at == stated.current => {
                        // A generator that no sample has met, or not for a while.
                        let length = self.frame_length();
                        self.fetch_heap(Region {
                            address: at,
                            length,
                        })?;
                        if self.ask(at).is_none() {
                            break;
                        }
                    }
                    None => break,
                }
                continue;
            };
            if !told.stacked {
                return Ok(self.on_generator(told, stated));
            }
            if let Some(newest) = self.newest_above(told, stated) {
                return Ok(self.oldest_running(newest));
            }
            match told.life {
                Life::Runs | Life::Executes if at == stated.current => {
                    return Ok(self.on_itself(told));
                }
                // What was called since may have been called by a generator on it, whose own call of it is not read yet.
                Life::Runs | Life::Executes => {
                    let generator = self
                        .resumed_by(told)
                        .filter(|generator| generator.life != Life::Gone);
                    return Ok(match generator {
                        Some(generator) => generator.address,
                        None => self.oldest_running(at),
                    });
                }
                Life::Waits => {
                    if let Some(generator) = self.last_on(told) {
                        return Ok(generator);
                    }
                    // What it called has returned.
                    if self.has_called(told) {
                        return Ok(self.oldest_running(at));
                    }
                }
                // Of the time before its first instruction it is the current one for all but the first part.
                Life::Unstarted
                    if at == stated.current
                        && !self.called_by_running(told)
                        && !self.known.is_turn(5) =>
                {
                    return Ok(at);
                }
                Life::Unstarted | Life::Gone => {}
            }
            match self
                .caller_of(told)
                .map(|caller| (caller, self.ask(caller)))
            {
                // It went back to the generator that called it.
                Some((_, Some(generator))) if !generator.stacked => {
                    return Ok(self.left_for(generator, stated));
                }
                Some((caller, _)) => at = caller,
                None => break,
            }
        }
        // It is gone, and its chunk may be gone with it.
        Ok(match self.ask(stated.current) {
            Some(told) if told.life != Life::Gone => stated.current,
            _ => self.newest_of_all().unwrap_or(stated.current),
        })
    }

    /// Whether the frame that called this one says that it runs itself.
    fn called_by_running(&mut self, told: Told) -> bool {
        self.ask(told.caller)
            .is_some_and(|caller| caller.life == Life::Runs)
    }

    /// Whether a frame was put on the data stack only after that had been read: then what is in its place executes nothing
    /// that is known, and does not stand on anything that does.
    fn is_left_over(&mut self, frame: u64) -> Result<bool, ReadError> {
        let mut at = frame;
        let mut fetched = 0;
        for _ in 0..SETTLING_STEPS {
            let Some(told) = self.ask(at).filter(|told| told.stacked) else {
                return Ok(false);
            };
            let is_first =
                self.known.is_foot(at) || self.chunk.is_some_and(|chunk| chunk.foot() == at);
            if told.end.is_some() || told.through_c || is_first {
                return Ok(false);
            }
            let Some(caller) = self.ask(told.caller) else {
                // A generator or a shim that nobody has met, or nothing at all.
                if fetched == told.caller || !told.caller.is_multiple_of(8) {
                    return Ok(true);
                }
                fetched = told.caller;
                let length = self.frame_length();
                self.fetch_heap(Region {
                    address: fetched,
                    length,
                })?;
                continue;
            };
            if !caller.stacked || caller.end == Some(at) {
                return Ok(false);
            }
            if caller.end.is_some() || caller.address >= at {
                return Ok(true);
            }
            at = caller.address;
        }
        Ok(false)
    }

    /// Of a frame and those below it the oldest one that runs itself. 3.11 does not mark a frame that has returned, but
    /// its caller marks itself; and it was copied before.
    pub(super) fn oldest_running(&mut self, newest: u64) -> u64 {
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
    pub(super) fn newest_above(&mut self, told: Told, stated: Stated) -> Option<u64> {
        let mut newest = None;
        let (mut below, mut end) = (told, told.end?);
        for _ in 0..SETTLING_STEPS {
            let Some(callee) = self.callee_of(below, end) else {
                break;
            };
            let direct = callee.caller == below.address && !callee.through_c;
            // Else that is what it waits for.
            let direct =
                direct && below.life == Life::Waits && !self.carries(below, stated.current);
            match callee.life {
                Life::Runs | Life::Executes => newest = Some(callee.address),
                // It goes back, or on: what called nothing goes back. (3.11 pops it before it goes back.)
                Life::Waits
                    if direct
                        && self.may_go_on(below, callee, stated, newest == Some(below.address)) =>
                {
                    newest = Some(callee.address);
                }
                Life::Waits => {
                    if self.carries(callee, stated.current) {
                        newest = Some(stated.current);
                    }
                }
                // It went back between its caller's line and its own, which are read in this order, or its caller is about
                // to go on. That takes as long as to copy one line.
                Life::Gone
                    if direct
                        && self.known.calls_at(below.site)
                        && !self.known.is_turn(1 + lines_between(below, callee)) =>
                {
                    return Some(callee.address);
                }
                // From 3.14 on a caller does not tell that it waits. The reading of its line holds up the next call, by its
                // first store there (`instr_ptr`), so that calls are missed that come before its callee's line is read.
                // Where that is much later, as many returns are taken for not made yet: those that have not
                // forgotten their code.
                Life::Gone
                    if below.life == Life::Executes
                        && callee.caller == below.address
                        && callee.site.0 != 0
                        && lines_between(below, callee) > LINES_OF_A_CALL
                        && self.known.calls_at(below.site) =>
                {
                    return Some(callee.address);
                }
                Life::Unstarted | Life::Gone => break,
            }
            if callee.through_c && newest == Some(callee.address) {
                self.neighbour = Some(below.address);
            }
            let Some(next) = callee.end else { break };
            (below, end) = (callee, next);
        }
        newest
    }

    /// Whether a frame that does not run, and whose caller does not run either, has not returned.
    fn may_go_on(&mut self, below: Told, told: Told, stated: Stated, in_doubt: bool) -> bool {
        if !self.layout.shim_free() {
            return self.has_called(told);
        }
        if below.end != Some(told.address) {
            // Of a chunk of its own, which was read later.
            return !in_doubt && !self.known.is_turn(8)
                || in_doubt && told.address < stated.top && self.known.is_turn(2);
        }
        // Or the caller is about to go on: that is a small part of such moments.
        self.known.calls_at(below.site) && !self.known.is_turn(10)
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
            if !callee.stacked {
                return None;
            }
            let called =
                behind || callee.caller == below.address || self.carries(below, callee.caller);
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

/// How many lines of the cache after a frame on the data stack another one is read.
fn lines_between(below: Told, above: Told) -> u32 {
    let lines = (above.address / CACHE_LINE).saturating_sub(below.address / CACHE_LINE);
    u32::try_from(lines).map_or(MOST_LINES, |lines| lines.clamp(1, MOST_LINES))
}
