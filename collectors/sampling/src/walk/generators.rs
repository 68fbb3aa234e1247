//! Which generator ran at the moment when the data stack was read, if one did.
//!
//! Its frame lies elsewhere and is read later. For that moment there is what waits for it on the data stack: the instruction
//! there tells whether it resumes a generator, and which one was met behind it.

use crate::memory::RemoteMemory;

use super::running::Stated;
use super::told::{Life, Told};
use super::{SETTLING_STEPS, Walk};

impl<M: RemoteMemory> Walk<'_, M> {
    /// The generator that the instruction of a frame resumes. A frame that runs itself can wait for one only in C code.
    pub(super) fn resumed_by(&mut self, base: Told) -> Option<Told> {
        let generator = self.known.resumed_at(base.site)?;
        let told = self.ask(generator)?;
        let possible = base.life != Life::Runs || told.through_c;
        (possible && self.carries(base, generator)).then_some(told)
    }

    /// The generator that a frame waits for, which is suspended by now: that which its instruction resumes, or which called
    /// what lies behind the frame.
    pub(super) fn last_on(&mut self, waiting: Told) -> Option<u64> {
        if let Some(generator) = self.known.resumed_at(waiting.site)
            && self.carries(waiting, generator)
        {
            return Some(generator);
        }
        let callee = waiting.end.and_then(|end| self.ask(end))?;
        let generator = self.ask(callee.caller).filter(|told| !told.stacked)?;
        self.carries(waiting, generator.address)
            .then_some(generator.address)
    }

    /// What ran where the thread state has a generator: that, unless whoever resumed it says that it ran itself, or
    /// something that it called.
    pub(super) fn on_generator(&mut self, generator: Told, stated: Stated) -> u64 {
        let mut at = generator;
        for _ in 0..SETTLING_STEPS {
            let through_c = at.through_c;
            let Some(caller) = self.caller_of(at).and_then(|caller| self.ask(caller)) else {
                return self.stayed_below(at, stated).unwrap_or(generator.address);
            };
            if caller.stacked {
                if let Some(newest) = self.newest_above(caller, stated) {
                    return newest;
                }
                if caller.life == Life::Runs && !through_c {
                    return caller.address;
                }
                // Else it was resumed a moment later.
                let resumes = self.known.met_site(caller.site, Some(generator.address));
                return match resumes {
                    Some(_) => generator.address,
                    None => caller.address,
                };
            }
            at = caller;
        }
        generator.address
    }

    /// What ran where the thread state has the newest frame of the data stack: that, unless it was at an instruction that
    /// resumes a generator. Then that may have yielded since. The way there and back is this frame's own time, and takes
    /// longer through C code.
    pub(super) fn on_itself(&mut self, newest: Told) -> u64 {
        let resumed = self.known.met_site(newest.site, None);
        if let Some(generator) = resumed.and_then(|generator| self.ask(generator))
            && self.carries(newest, generator.address)
            && !self.known.is_turn(if generator.through_c { 3 } else { 4 })
        {
            return generator.address;
        }
        self.oldest_running(newest.address)
    }

    /// What ran below a frame that did not, where its bytes have a generator as its caller. If it was called after the data
    /// stack was read, those bytes are of an earlier call, which any other generator may have made. What waits for a
    /// generator on the data stack tells which: by its instruction, and that generator by being resumed still.
    pub(super) fn left_for(&mut self, generator: Told, stated: Stated) -> u64 {
        let Some(base) = self.base_of(generator) else {
            return generator.address;
        };
        if let Some(newest) = self.newest_above(base, stated) {
            return newest;
        }
        if let Some(resumed) = self.resumed_by(base) {
            return resumed.address;
        }
        let own = base.life == Life::Runs && !generator.through_c
            || generator.life == Life::Gone
                && (self.known.never_resumes(base.site) || self.known.is_turn(3));
        if own { base.address } else { generator.address }
    }

    /// The frame on the data stack on which a generator runs, be it through others.
    pub(super) fn base_of(&mut self, generator: Told) -> Option<Told> {
        let mut at = generator;
        for _ in 0..SETTLING_STEPS {
            let caller = self.caller_of(at)?;
            at = self.ask(caller)?;
            if at.stacked {
                return Some(at);
            }
        }
        None
    }

    /// The newest frame on the data stack, where that was never seen to resume a generator of which nothing tells who did.
    pub(super) fn stayed_below(&mut self, generator: Told, stated: Stated) -> Option<u64> {
        let newest = self.newest_from_the_foot()?;
        let code = self.code_of(generator.address)?;
        let resumed = self.has_called_before(newest, code);
        (newest == stated.current && resumed == Some(false)).then_some(newest)
    }

    /// Whether a generator runs on this frame, be it through others.
    pub(super) fn carries(&mut self, base: Told, generator: u64) -> bool {
        self.ask(generator)
            .filter(|told| !told.stacked)
            .and_then(|told| self.base_of(told))
            .is_some_and(|found| found.address == base.address)
    }
}
