//! What earlier samples taught about frames: who called them.
//!
//! A generator that yields forgets who resumed it, a frame object that returns may forget who called it, and
//! the shim that leads from a function to the C code that called it may be gone before it is read. All
//! of that happens within the microsecond of a sample to those frames that run shortest. To read again would
//! drop just these moments, so the last known answer is taken where what was read now confirms it.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::layout::FrameLayout;
use crate::memory::CACHE_LINE;
use crate::walk::{At, CHUNK_HEADER, Place, RawFrame, USUAL_CHUNK};

/// More frames than this are not remembered.
const LIMIT: usize = 1 << 16;
/// A data stack that is followed to its oldest chunk has no more of them.
const MOST_CHUNKS: usize = 1 << 12;
/// A shim may lie so many bytes below the lowest that was met: a few more calls from C to Python and back.
const FURTHER_DOWN: u64 = 16 << 10;
/// One call in so many, and fewer, are dubious.
const RARELY: u64 = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By the address of a frame and its code, the frame before it.
    callers: FxHashMap<(u64, u64), u64>,
    /// By code object, those that were seen to call it, and in how many samples.
    calls: FxHashMap<u64, FxHashMap<u64, u64>>,
    /// By the address of a frame, the one before it when it was last seen.
    last_callers: FxHashMap<u64, u64>,
    /// By the address of a chunk of a data stack: the older one before it, and the newer one behind it.
    chunks: BTreeMap<u64, (u64, u64)>,
    /// Generators that C code resumed.
    resumed_from_c: FxHashSet<u64>,
    /// Instructions at which a generator was met on the frame, or could have been.
    sites: FxHashMap<(u64, u64), Site>,
    /// Instructions that were seen to call a function whose frame lies right behind their own.
    calls_at: FxHashSet<(u64, u64)>,
    /// The state of what decides where nothing told which of two or three was meant.
    turns: u32,
    threads: FxHashMap<u32, KnownThread>,
    /// By the oldest chunk of a data stack, the thread. One with greenlets has as many data stacks.
    stacks: BTreeMap<u64, u32>,
    /// By the frame of an outermost function, what was below it.
    feet: FxHashMap<u64, Foot>,
    /// Addresses of what may be code objects that no walk has ended at.
    strangers: FxHashSet<u64>,
    /// The one that was met last, if nobody has looked at it.
    stranger: Option<u64>,
}

/// An instruction at which the newest frame of a data stack was met.
#[derive(Debug, Default, Clone, Copy)]
struct Site {
    /// How often a generator was the current frame right behind that.
    generators: u32,
    /// How often it was this frame itself.
    itself: u32,
    /// The generator that was met last.
    last: u64,
}

impl Site {
    fn resumes(self) -> Option<u64> {
        (self.generators > self.itself).then_some(self.last)
    }
}

/// What was below the outermost function of a data stack.
#[derive(Debug, Clone, Copy)]
struct Foot {
    /// What that executed.
    code: u64,
    shim: u64,
    /// How often it was met, of the times that count.
    met: u32,
}

/// Where a thread has its stacks.
#[derive(Debug, Default)]
struct KnownThread {
    /// The lowest and the highest address of a shim, and so of its C stack.
    shims: Option<(u64, u64)>,
    /// The oldest chunk of its data stack; of the one that was met last.
    first_chunk: Option<u64>,
}

impl Known {
    /// Once in so many times: where nothing tells which of several moments was meant, each gets its part. By chance, because
    /// what counts to three falls into step with a program that does; always the same chance, so that a trial replays.
    pub(crate) fn is_turn(&mut self, of: u32) -> bool {
        // A linear congruential generator, whose upper bits are the good ones.
        self.turns = self
            .turns
            .wrapping_mul(747_796_405)
            .wrapping_add(2_891_336_453);
        (self.turns >> 16).is_multiple_of(of)
    }

    /// The frame before `frame` when it was last seen executing this code.
    pub(crate) fn caller(&self, frame: u64, code: u64) -> Option<u64> {
        self.callers.get(&(frame, code)).copied()
    }

    /// Whether one code object was seen to call another; `None` if that one was never seen to be called.
    pub(crate) fn has_called(&self, caller: u64, callee: u64) -> Option<bool> {
        Some(self.calls.get(&callee)?.contains_key(&caller))
    }

    /// The frame before the one at this address, whatever that executed.
    pub(crate) fn caller_at(&self, frame: u64) -> Option<u64> {
        self.last_callers.get(&frame).copied()
    }

    /// Whether a frame is where the first one of a chunk lies.
    pub(crate) fn is_foot(&self, frame: u64) -> bool {
        frame
            .checked_sub(CHUNK_HEADER)
            .is_some_and(|chunk| self.chunks.contains_key(&chunk))
    }

    /// The chunk that a frame lies in, if it is one of those that were met and of the usual size.
    pub(crate) fn chunk_around(&self, frame: u64) -> Option<u64> {
        let (&chunk, _) = self.chunks.range(..=frame).next_back()?;
        (frame - chunk < USUAL_CHUNK).then_some(chunk)
    }

    /// The frames below one, as far as they were remembered.
    pub(crate) fn below(&self, frame: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(frame), |frame| self.caller_at(*frame)).skip(1)
    }

    /// Whether an address lies between two shims of the thread or not far below, and so on its C stack.
    pub(crate) fn may_be_shim(&self, thread: u32, address: u64) -> bool {
        self.threads
            .get(&thread)
            .and_then(|thread| thread.shims)
            .is_some_and(|(low, high)| (low.saturating_sub(FURTHER_DOWN)..=high).contains(&address))
    }

    /// Forgets where a thread has its stacks, because its number is given to another one.
    pub(crate) fn forget_thread(&mut self, thread: u32) {
        if self.threads.remove(&thread).is_some() {
            self.stacks.retain(|_, of| *of != thread);
        }
    }

    /// The oldest chunk of a thread's data stack.
    pub(crate) fn first_chunk(&self, thread: u32) -> Option<u64> {
        self.threads.get(&thread)?.first_chunk
    }

    /// Whether below this frame there was this shim at the foot of its thread when that was last read.
    pub(crate) fn is_shim_at_foot(&self, frame: &RawFrame, shim: u64) -> bool {
        let known = self.feet.get(&frame.address);
        known.is_some_and(|foot| (foot.code, foot.shim) == (frame.code, shim))
    }

    /// Remembers the shim below an outermost function. Gives how often it was the same, of the times that count.
    pub(crate) fn met_foot(&mut self, frame: &RawFrame, shim: u64, counts: bool) -> u32 {
        if self.feet.len() > LIMIT {
            self.feet.clear();
        }
        let new = Foot {
            code: frame.code,
            shim,
            met: 0,
        };
        let known = self.feet.entry(frame.address).or_insert(new);
        if (known.code, known.shim) != (new.code, new.shim) {
            *known = new;
        }
        known.met = known.met.saturating_add(u32::from(counts));
        known.met
    }

    pub(crate) fn met_first_chunk(&mut self, thread: u32, chunk: u64) {
        let known = &mut self.threads.entry(thread).or_default().first_chunk;
        if known.replace(chunk) != Some(chunk) {
            if self.stacks.len() > LIMIT {
                self.stacks.clear();
            }
            self.stacks.insert(chunk, thread);
        }
    }

    /// The chunk that a frame lies in, where that is of another data stack of this thread than the chunk `newest` is.
    pub(crate) fn on_another_stack(&self, thread: u32, frame: u64, newest: u64) -> Option<u64> {
        let (&oldest, _) = self.stacks.range(..=frame).next_back()?;
        let chunk = match frame - oldest < USUAL_CHUNK {
            true => oldest,
            false => self.chunk_around(frame)?,
        };
        let stack = self.oldest_chunk(chunk);
        let known = self.stacks.get(&stack) == Some(&thread);
        (known && stack != self.oldest_chunk(newest)).then_some(chunk)
    }

    /// The oldest chunk of the data stack that a chunk is of, as far as they were met.
    pub(crate) fn oldest_chunk(&self, chunk: u64) -> u64 {
        let older = |chunk: &u64| Some(self.chunks_beside(*chunk).0).filter(|older| *older != 0);
        let chain = std::iter::successors(Some(chunk), older).take(MOST_CHUNKS);
        chain.last().unwrap_or(chunk)
    }

    fn met_shim(&mut self, thread: u32, address: u64) {
        let shims = &mut self.threads.entry(thread).or_default().shims;
        let (low, high) = shims.unwrap_or((address, address));
        *shims = Some((low.min(address), high.max(address)));
    }

    /// Whether the generator whose frame is at this address was resumed by C code when that was last told.
    pub(crate) fn is_resumed_from_c(&self, frame: u64) -> bool {
        self.resumed_from_c.contains(&frame)
    }

    fn met_generator_on_c(&mut self, frame: u64) {
        if self.resumed_from_c.len() > LIMIT {
            self.resumed_from_c.clear();
        }
        self.resumed_from_c.insert(frame);
    }

    /// Something executes what may be a code object, which is not known yet. A function that runs for a few dozen
    /// nanoseconds may never be the current one in a sample, and so never be proven: it is worth a look, once.
    pub(crate) fn met_stranger(&mut self, code: u64) {
        if self.strangers.len() > LIMIT {
            self.strangers.clear();
        }
        if self.strangers.insert(code) {
            self.stranger = Some(code);
        }
    }

    pub(crate) fn take_stranger(&mut self) -> Option<u64> {
        self.stranger.take()
    }

    /// A frame was the newest of its data stack, at this code object and instruction, and right behind that a generator on
    /// it was the current frame, or it was so itself. Gives the generator that this instruction resumes, if it
    /// is one that does: a generator is mostly met where it is waited for.
    pub(crate) fn met_site(&mut self, site: (u64, u64), generator: Option<u64>) -> Option<u64> {
        if self.sites.len() > LIMIT {
            self.sites.clear();
        }
        let seen = self.sites.entry(site).or_default();
        match generator {
            Some(generator) => {
                seen.generators = seen.generators.saturating_add(1);
                seen.last = generator;
            }
            None => seen.itself = seen.itself.saturating_add(1),
        }
        seen.resumes()
    }

    /// The generator that an instruction resumes, if it is one that does.
    pub(crate) fn resumed_at(&self, site: (u64, u64)) -> Option<u64> {
        self.sites.get(&site)?.resumes()
    }

    /// Whether a frame was met at an instruction, and hardly ever a generator on it.
    pub(crate) fn never_resumes(&self, site: (u64, u64)) -> bool {
        self.sites
            .get(&site)
            .is_some_and(|seen| seen.itself > seen.generators.saturating_mul(16))
    }

    /// Whether an instruction calls functions. A frame that waits there has not come to its end.
    pub(crate) fn calls_at(&self, site: (u64, u64)) -> bool {
        self.calls_at.contains(&site) && self.resumed_at(site).is_none()
    }

    /// The chunk before one, and the one that was begun behind it; 0 where none is known.
    pub(crate) fn chunks_beside(&self, chunk: u64) -> (u64, u64) {
        self.chunks.get(&chunk).copied().unwrap_or_default()
    }

    pub(crate) fn met_chunk(&mut self, chunk: u64, older: u64) {
        if self.chunks_beside(chunk).0 == older {
            return;
        }
        if self.chunks.len() > LIMIT {
            self.chunks.clear();
        }
        self.chunks.entry(chunk).or_default().0 = older;
        self.chunks.entry(older).or_default().1 = chunk;
    }

    /// Whether a generator of this stack calls something which it calls so rarely that the reading is the likelier cause:
    /// the two words of a frame that say so may lie on two lines of the cache, and be of two calls.
    pub(crate) fn is_dubious(&mut self, layout: &FrameLayout, frames: &[RawFrame]) -> bool {
        let line = |frame: &RawFrame, offset| frame.address.wrapping_add(offset) / CACHE_LINE;
        frames.windows(2).any(|pair| {
            let [callee, caller] = pair else { return false };
            let torn = line(callee, layout.code) != line(callee, layout.previous);
            if caller.place != Place::Heap || callee.place == Place::Heap || !torn {
                return false;
            }
            let callers = self.calls.entry(callee.code).or_default();
            let total: u64 = callers.values().sum();
            let seen = callers.entry(caller.code).or_default();
            *seen += 1;
            *seen * RARELY < total + RARELY
        })
    }

    /// Remembers the stack of a thread, which was found whole. Of others nothing is remembered: what one torn reading
    /// takes for the thread's C stack would mislead all that follow.
    pub(crate) fn learn(&mut self, thread: u32, frames: &[RawFrame]) {
        if self.callers.len() > LIMIT {
            self.callers.clear();
            self.last_callers.clear();
            self.calls.clear();
        }
        self.learn_call(frames);
        for frame in frames.iter().filter(|frame| frame.shim != 0) {
            self.met_shim(thread, frame.shim);
            if frame.place == Place::Heap {
                self.met_generator_on_c(frame.address);
            }
        }
        for pair in frames.windows(2) {
            let [callee, caller] = pair else { continue };
            if !callee.learnable && caller.place != Place::Heap {
                continue;
            }
            self.callers
                .insert((callee.address, callee.code), caller.address);
            self.last_callers.insert(callee.address, caller.address);
            *self
                .calls
                .entry(callee.code)
                .or_default()
                .entry(caller.code)
                .or_default() += 1;
        }
    }

    /// Remembers the instruction at which the frame below the innermost one waits.
    fn learn_call(&mut self, frames: &[RawFrame]) {
        let [callee, caller, ..] = frames else { return };
        let (Place::DataStack { .. }, Place::DataStack { .. }) = (callee.place, caller.place)
        else {
            return;
        };
        let At::Address(at) = caller.at else { return };
        // What is called often is met often, and to remember it every time would cost each sample.
        if callee.shim == 0 && self.is_turn(8) {
            if self.calls_at.len() > LIMIT {
                self.calls_at.clear();
            }
            self.calls_at.insert((caller.code, at));
        }
    }
}
