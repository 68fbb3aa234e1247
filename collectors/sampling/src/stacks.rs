//! All stacks of a process at one moment.
//!
//! One read decides. A stack that is possible is accepted, even when its current frame has moved on
//! since; only an impossible one is read again, at once and a few times, and after that what was proven
//! of it is kept and marked as truncated. Frames that the plan did not foresee are fetched by a second
//! call and the walk goes on: reading everything again instead would drop just those moments at which a
//! rare frame was live. What is judged here is whether frames fit each other: each executes a code
//! object, and lies where the frame before it on the data stack ends.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::codes::{CodeId, Codes};
use crate::discovery::Roots;
use crate::interpreter_lock::{Gil, InterpreterMoment, Locks};
use crate::known::Known;
use crate::layout::Layout;
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::ring::Ring;
use crate::snapshot::{Group, Snapshot};
use crate::walk::{
    At, End, Found, LastWalk, Learnt, Mark, Place, RawFrame, Subject, join_marks, walk,
};

/// How often a moment is read again while a stack is impossible.
const REPAIRS: u32 = 8;
/// A code object that is read for the first time is read after the frame that executes it. No program
/// frees one, compiles another and puts it in its place within this time.
const UNDISTURBED: Duration = Duration::from_micros(100);
/// More interpreters or threads than this are a list that was read while it changed.
pub(crate) const MAX_LIST: usize = 1 << 17;
/// All stacks together have no more frames: they would not fit into a snapshot.
pub(crate) const MAX_FRAMES: usize = 1 << 21;

/// What tells a thread from another one whose state is at the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadKey {
    /// Address of its `PyThreadState`.
    pub(crate) state: u64,
    /// `threading.get_ident()`.
    pub(crate) ident: u64,
    /// The kernel's id, where the state has it.
    pub(crate) native_id: Option<u64>,
    /// Address of its interpreter.
    pub(crate) interpreter: u64,
}

/// A thread and its stack at the moment of the last reading.
#[derive(Debug)]
pub(crate) struct ThreadStack {
    pub(crate) key: ThreadKey,
    /// `PyInterpreterState.id`.
    pub(crate) interpreter_id: u64,
    /// Grows with each thread that was met: tells this one from an earlier one in the same slot.
    pub(crate) serial: u64,
    /// Outermost first, with the code object that each executes.
    pub(crate) frames: Vec<(RawFrame, CodeId)>,
    /// How many of them are those of the reading before.
    pub(crate) kept: usize,
    /// Whether the frames reach the foot of the thread.
    pub(crate) complete: bool,
    /// By what the walk to these frames went, outermost first.
    marks: Vec<Mark>,
    found: Found,
    end: End,
    settled: bool,
    /// The sample of the snapshot that the frames were found in, whole and proven, and the stamp of the proof.
    as_of: (u64, u64),
    /// The reading it was last met in.
    seen: u64,
}

/// How a reading went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Stacks needed more than the one call.
    pub(crate) repaired: bool,
    /// Stacks that stayed impossible.
    pub(crate) truncated: u64,
}

/// Reads the stacks of one process again and again.
#[derive(Debug)]
pub(crate) struct Stacks<M> {
    pub(crate) memory: M,
    pub(crate) layout: Layout,
    pub(crate) codes: Codes,
    roots: Roots,
    snapshot: Snapshot,
    slots: Vec<Option<ThreadStack>>,
    /// The slots that are empty.
    free: Vec<usize>,
    by_state: FxHashMap<u64, usize>,
    /// The slots of the threads of the last reading, in the order of the interpreter's list.
    current: Vec<usize>,
    readings: u64,
    serials: u64,
    /// The freed-code counts of all interpreters as last seen, and how often they have changed.
    generations: Vec<(u64, u64)>,
    stamp: u64,
    unproven: Vec<u64>,
    /// Frames that are being judged.
    fitting: Vec<(RawFrame, CodeId)>,
    known: Known,
    /// Whether code objects were freed since the reading before, or there are new ones.
    freed: bool,
    locks: Locks,
    /// What each interpreter was doing in the last reading, by its address.
    moments: FxHashMap<u64, InterpreterMoment>,
    /// Whether it is asked if they collect garbage.
    pub(crate) gc: bool,
    /// Whether all stacks are walked to the foot each time, as if nothing were known of the walk before.
    #[cfg(test)]
    pub(crate) walks_whole: bool,
}

impl<M: RemoteMemory> Stacks<M> {
    pub(crate) fn new(memory: M, layout: Layout, roots: Roots, code_type: Option<u64>) -> Self {
        Self {
            memory,
            layout,
            codes: Codes::new(code_type),
            roots,
            locks: Locks::new(roots),
            snapshot: Snapshot::default(),
            slots: Vec::new(),
            free: Vec::new(),
            by_state: FxHashMap::default(),
            current: Vec::new(),
            readings: 0,
            serials: 0,
            generations: Vec::new(),
            stamp: 0,
            unproven: Vec::new(),
            fitting: Vec::new(),
            known: Known::default(),
            freed: true,
            moments: FxHashMap::default(),
            gc: false,
            #[cfg(test)]
            walks_whole: false,
        }
    }

    /// Whether a thread held the GIL in the last reading, and whether it collected garbage.
    pub(crate) fn gil_and_gc(&self, key: &ThreadKey) -> (bool, bool) {
        let moment = self.moments.get(&key.interpreter);
        let holds = moment.is_some_and(|moment| moment.gil == Gil::Held(key.state));
        (holds, holds && moment.is_some_and(|moment| moment.collects))
    }

    /// Whether some interpreter collected garbage in the last reading.
    pub(crate) fn collects(&self) -> bool {
        self.moments.values().any(|moment| moment.collects)
    }

    /// The threads of the last reading, each with its slot.
    pub(crate) fn threads(&self) -> impl Iterator<Item = (usize, &ThreadStack)> {
        self.current
            .iter()
            .filter_map(|&slot| Some((slot, self.slots.get(slot)?.as_ref()?)))
    }

    /// Reads all stacks.
    ///
    /// # Errors
    ///
    /// Where not even the list of threads could be read, after the same number of attempts.
    pub(crate) fn read(&mut self) -> Result<Reading, ReadError> {
        self.readings += 1;
        self.codes.drop_outdated();
        let mut attempt = 0;
        loop {
            let last_attempt = attempt == REPAIRS;
            let began = self.memory.now();
            self.snapshot.read(&self.memory)?;
            match self.list_threads() {
                Ok(()) => {
                    self.walk_all()?;
                    let repaired = self.snapshot.extra_calls() > 0 || attempt > 0;
                    let news = self.prove_codes()?;
                    let disturbed = news
                        && self.memory.now().saturating_duration_since(began) > UNDISTURBED
                        && !last_attempt;
                    let truncated = self.judge(disturbed, attempt == 0);
                    if truncated == 0 || last_attempt {
                        self.look_at_stranger()?;
                        self.retire();
                        return Ok(Reading {
                            repaired,
                            truncated,
                        });
                    }
                }
                Err(ReadError::Fault(_) | ReadError::Implausible { .. }) if !last_attempt => {}
                Err(error) => {
                    self.retire();
                    return Err(error);
                }
            }
            attempt += 1;
        }
    }

    /// The 8 bytes at an address, as a root.
    fn root(&mut self, address: u64) -> Result<u64, ReadError> {
        let region = Region { address, length: 8 };
        let bytes = self
            .snapshot
            .get_or_fetch(&self.memory, region, region, Group::Root)?;
        bytes.u64_at(0).ok_or(ReadError::Fault(address))
    }

    fn list_threads(&mut self) -> Result<(), ReadError> {
        let fields = self.layout.interpreter;
        self.current.clear();
        self.moments.clear();
        let mut interpreter = match self.roots {
            Roots::Runtime(runtime) => {
                self.root(runtime.wrapping_add(self.layout.runtime.interpreters_head))?
            }
            Roots::Interpreter(interpreter) => interpreter,
        };
        let mut ring = Ring::new(interpreter);
        let mut count = 0;
        // Now and then all of what proves them is asked for, or it would be forgotten.
        let mut changed = fields.code_generation.is_none()
            && (self.snapshot.is_before_forgetting() || !self.snapshot.are_codes_unchanged());
        while interpreter != 0 {
            let (region, skipped) = interpreter_region(&self.layout, interpreter);
            let bytes = self
                .snapshot
                .get_or_fetch(&self.memory, region, region, Group::Root)?;
            let field = |offset: u64| {
                let bytes = bytes.u64_at(offset.wrapping_sub(skipped));
                bytes.ok_or(ReadError::Fault(interpreter))
            };
            let (id, next) = (field(fields.id)?, field(fields.next)?);
            let threads = field(fields.threads_head)?;
            if let Some(generation) = fields.code_generation.map(field).transpose()? {
                changed |= self.generations.get(count) != Some(&(interpreter, generation));
                match self.generations.get_mut(count) {
                    Some(known) => *known = (interpreter, generation),
                    None => self.generations.push((interpreter, generation)),
                }
            }
            self.list_interpreter(interpreter, id, threads)?;
            let moment = self.locks.look(
                &self.memory,
                &mut self.snapshot,
                &self.layout,
                (interpreter, id),
                self.gc,
            )?;
            self.moments.insert(interpreter, moment);
            count += 1;
            if count > MAX_LIST || ring.closes(next) {
                return Err(ReadError::Implausible {
                    address: interpreter,
                    expected: "a list of interpreters",
                });
            }
            interpreter = next;
        }
        changed |= self.generations.len() > count;
        self.generations.truncate(count);
        // A code object that is freed is counted before its bytes are gone, so what was proven while the count
        // moved proves nothing for later: a frame has to be seen with it after the count came to rest.
        if changed || self.freed {
            self.stamp += 1;
        }
        self.freed = changed;
        Ok(())
    }

    fn list_interpreter(&mut self, interpreter: u64, id: u64, head: u64) -> Result<(), ReadError> {
        let fields = self.layout.thread;
        let mut ring = Ring::new(head);
        let mut address = head;
        while address != 0 {
            let slot = self.slot(address);
            let state = thread_region(&self.layout, address);
            let group = Group::Thread(number(slot));
            let bytes = self
                .snapshot
                .get_or_fetch(&self.memory, state, state, group)?;
            let field = |offset| bytes.u64_at(offset).ok_or(ReadError::Fault(address));
            let key = ThreadKey {
                state: address,
                ident: field(fields.thread_id)?,
                native_id: fields.native_thread_id.map(field).transpose()?,
                interpreter: field(fields.interpreter)?,
            };
            let next = field(fields.next)?;
            if key.interpreter != interpreter || self.current.len() >= MAX_LIST || ring.closes(next)
            {
                return Err(ReadError::Implausible {
                    address,
                    expected: "a thread state",
                });
            }
            self.meet(slot, key, id);
            self.current.push(slot);
            address = next;
        }
        Ok(())
    }

    /// The slot of the thread whose state is at an address; a free one where it was not met before.
    fn slot(&mut self, state: u64) -> usize {
        if let Some(&slot) = self.by_state.get(&state) {
            return slot;
        }
        if let Some(&slot) = self.free.last() {
            return slot;
        }
        self.slots.push(None);
        self.free.push(self.slots.len() - 1);
        self.slots.len() - 1
    }

    fn meet(&mut self, slot: usize, key: ThreadKey, interpreter_id: u64) {
        if let Some(Some(thread)) = self.slots.get_mut(slot)
            && thread.key == key
        {
            thread.settled &= thread.seen == self.readings;
            thread.seen = self.readings;
            return;
        }
        self.serials += 1;
        self.known.forget_thread(number(slot));
        if self.free.last() == Some(&slot) {
            self.free.pop();
        }
        self.by_state.insert(key.state, slot);
        self.slots[slot] = Some(ThreadStack {
            key,
            interpreter_id,
            serial: self.serials,
            frames: Vec::new(),
            kept: 0,
            complete: false,
            marks: Vec::new(),
            found: Found::default(),
            end: End::Foot,
            settled: false,
            as_of: (0, 0),
            seen: self.readings,
        });
    }

    /// Walks all threads that are not settled yet.
    fn walk_all(&mut self) -> Result<(), ReadError> {
        self.unproven.clear();
        let mut frames = 0;
        for &slot in &self.current {
            let Some(Some(thread)) = self.slots.get_mut(slot) else {
                continue;
            };
            if thread.settled {
                continue;
            }
            if frames >= MAX_FRAMES {
                // Only stacks that share their frames come to this.
                thread.found = Found::default();
                thread.end = End::Impossible("there are more frames than memory can hold");
                continue;
            }
            let state = thread_region(&self.layout, thread.key.state);
            let moment = self.moments.get(&thread.key.interpreter);
            let stands = match moment.map_or(Gil::Unknown, |moment| moment.gil) {
                Gil::Held(holder) => holder != thread.key.state,
                Gil::Free => true,
                Gil::Unknown => false,
            };
            let subject = Subject {
                number: number(slot),
                state,
                stands,
            };
            let is_last = thread.as_of == (self.snapshot.sample() - 1, self.stamp)
                && !self.snapshot.is_before_forgetting();
            #[cfg(test)]
            let is_last = is_last && !self.walks_whole;
            if is_last && self.snapshot.is_thread_unchanged(number(slot)) {
                thread.kept = thread.frames.len();
                thread.as_of = (self.snapshot.sample(), self.stamp);
                thread.settled = true;
                frames += thread.frames.len();
                continue;
            }
            let last = match is_last {
                true => LastWalk::unchanged(&self.snapshot, &thread.frames, &thread.marks),
                false => LastWalk::default(),
            };
            thread.end = walk(
                &self.memory,
                &mut self.snapshot,
                &self.layout,
                Learnt {
                    codes: &self.codes,
                    known: &mut self.known,
                },
                subject,
                last,
                &mut thread.found,
            )?;
            let raw = &mut thread.found.frames;
            frames += raw.len() + thread.found.kept.unwrap_or(0);
            for frame in &mut *raw {
                // From 3.14 on a frame that returns forgets its code (`PyStackRef_CLEAR` of
                // `f_executable`), before anything else lies in its place. It was live when the thread
                // said so, and its instruction still tells what it executed. To read again instead would
                // drop just those frames that return fastest.
                if frame.code == 0
                    && let At::Address(instruction) = frame.at
                {
                    frame.code = self.codes.of_instruction(instruction).unwrap_or(0);
                }
            }
            // One that has returned and cannot be told is on the stack no more.
            let returned = raw.iter().take_while(|frame| frame.code == 0);
            let returned = returned.count();
            if returned < raw.len() {
                raw.drain(..returned);
            }
            for frame in raw {
                if self.codes.proven(frame.code, self.stamp).is_none() {
                    self.unproven.push(frame.code);
                }
            }
        }
        Ok(())
    }

    fn prove_codes(&mut self) -> Result<bool, ReadError> {
        if self.unproven.is_empty() {
            return Ok(false);
        }
        self.unproven.sort_unstable();
        self.unproven.dedup();
        let news = self.codes.prove(
            &self.memory,
            &mut self.snapshot,
            &self.layout,
            &self.unproven,
            self.stamp,
        )?;
        // What was read for the first time has been proven by no snapshot yet.
        self.freed |= news;
        Ok(news)
    }

    /// Learns a code object that no stack of this reading has, for the next one.
    fn look_at_stranger(&mut self) -> Result<(), ReadError> {
        let Some(code) = self.known.take_stranger() else {
            return Ok(());
        };
        let (memory, snapshot) = (&self.memory, &mut self.snapshot);
        self.freed |= self
            .codes
            .prove(memory, snapshot, &self.layout, &[code], self.stamp)?;
        Ok(())
    }

    /// Settles the threads whose stack is possible, and gives the number of the others. `first`: this is the first attempt,
    /// so what is dubious is looked at once more.
    fn judge(&mut self, disturbed: bool, first: bool) -> u64 {
        let mut impossible = 0;
        for &slot in &self.current {
            let Some(Some(thread)) = self.slots.get_mut(slot) else {
                continue;
            };
            if thread.settled {
                continue;
            }
            let found = &thread.found;
            let kept = found.kept.unwrap_or(0);
            let below = thread.frames.get(..kept).unwrap_or_default();
            let fitting = fit(&self.codes, self.stamp, found, below, &mut self.fitting);
            thread.kept = if fitting { kept } else { 0 };
            thread.frames.truncate(thread.kept);
            thread.frames.extend(self.fitting.drain(..).rev());
            let generator_at_foot = self.layout.frame.owner.is_none()
                && thread.frames.first().is_some_and(|(_, code)| {
                    self.codes.get(*code).is_none_or(|(_, code)| code.generator)
                });
            thread.complete = fitting && thread.end == End::Foot && !generator_at_foot;
            let dubious = first
                && thread.complete
                && self.known.is_dubious(&self.layout.frame, &found.frames);
            thread.settled = thread.complete && !disturbed && !dubious;
            if thread.settled {
                self.known.learn(number(slot), &found.frames);
                join_marks(&mut thread.marks, found.kept, &found.marks);
                thread.as_of = (self.snapshot.sample(), self.stamp);
            }
            impossible += u64::from(!thread.settled);
        }
        impossible
    }

    /// Drops threads that were not met in this reading.
    fn retire(&mut self) {
        if self.by_state.len() == self.current.len() {
            return;
        }
        let readings = self.readings;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(thread) = slot
                && thread.seen != readings
            {
                self.by_state.remove(&thread.key.state);
                *slot = None;
                self.free.push(number);
            }
        }
    }
}

/// The frames that a walk found, from the innermost down to the first that does not fit what is above it; `below` is what
/// lies below them. Gives whether they all fit.
fn fit(
    codes: &Codes,
    stamp: u64,
    found: &Found,
    below: &[(RawFrame, CodeId)],
    frames: &mut Vec<(RawFrame, CodeId)>,
) -> bool {
    frames.clear();
    // The frame above, where it lies on the data stack: its address, its chunk, whether it is at the foot.
    let mut above: Option<(u64, u64, bool)> = None;
    let mut fits = |frame: &RawFrame, id| {
        if let Place::DataStack { chunk, first } = frame.place {
            let size = codes
                .get(id)
                .and_then(|(_, code)| code.frame_size)
                .unwrap_or(0);
            let fits = above.is_none_or(|(address, above_chunk, above_first)| {
                if chunk == above_chunk {
                    frame.address + size == address
                } else {
                    above_first
                }
            });
            above = Some((frame.address, chunk, first));
            return fits;
        }
        true
    };
    for frame in &found.frames {
        let Some(id) = codes.proven(frame.code, stamp) else {
            return false;
        };
        if !fits(frame, id) {
            return false;
        }
        frames.push((*frame, id));
    }
    // Those below fit each other; the next of them on the data stack has to fit these.
    let on_data_stack =
        |(frame, _): &&(RawFrame, CodeId)| matches!(frame.place, Place::DataStack { .. });
    let next = below.iter().rev().find(on_data_stack);
    next.is_none_or(|(frame, id)| fits(frame, *id))
}

/// The number by which the regions of the thread in a slot are planned. There are at most [`MAX_LIST`] slots.
fn number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

/// The part of an interpreter's state that is read, and how far into the state it starts. Its fields lie
/// within a few hundred bytes of each other.
fn interpreter_region(layout: &Layout, address: u64) -> (Region, u64) {
    let fields = &layout.interpreter;
    let offsets = [fields.id, fields.next, fields.threads_head];
    let generation = fields.code_generation.unwrap_or(fields.id);
    let first = offsets.into_iter().fold(generation, u64::min);
    let last = offsets.into_iter().fold(generation, u64::max);
    let region = Region {
        address: address.wrapping_add(first),
        length: usize::try_from(last + 8 - first).unwrap_or(0),
    };
    (region, first)
}

/// The part of a thread state that is read.
fn thread_region(layout: &Layout, address: u64) -> Region {
    let fields = &layout.thread;
    let last = [
        fields.next,
        fields.interpreter,
        fields.frame,
        fields.thread_id,
        fields.native_thread_id.unwrap_or(0),
        fields.datastack_chunk.map_or(0, |offset| offset + 8),
        fields.base_frame.unwrap_or(0),
    ]
    .into_iter()
    .max()
    .unwrap_or(0);
    Region {
        address,
        length: usize::try_from(last + 8).unwrap_or(0),
    }
}
