//! All stacks of a process at one moment.
//!
//! One read decides. A stack that is possible is accepted, even when its current frame has moved on
//! since; only an impossible one is read again, at once and a few times, and after that what was proven
//! of it is kept and marked as truncated. Frames that the plan did not foresee are fetched by a second
//! call and the walk goes on: reading everything again instead would drop just those moments at which a
//! rare frame was live. What is judged here is whether frames fit each other: each executes a code
//! object, and lies where the frame before it on the data stack ends.

mod fitting;
mod joining;
mod listing;
mod moved_on;

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::codes::{CodeId, Codes};
use crate::discovery::Roots;
use crate::interpreter_lock::{Gil, InterpreterMoment, Locks};
use crate::known::Known;
use crate::layout::Layout;
use crate::memory::{ReadError, RemoteMemory};
use crate::snapshot::Snapshot;
use crate::tasks::Tasks;
use crate::walk::{At, End, Found, LastWalk, Learnt, Mark, RawFrame, Subject, join_marks, walk};

use fitting::fit;
use listing::thread_region;
use moved_on::{Last, moved_on};

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
    /// Whether it is busy with an exception.
    pub(crate) in_exception: bool,
    /// Whether no byte of it has changed since the reading before, or none but what the function that runs changes.
    unchanged: bool,
    /// Whether the bytes alone say how the walk to these frames went.
    firm: bool,
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
    /// When the reading began.
    began: Instant,
    /// The only interpreter, and until when it is taken for that.
    only: Option<(u64, Instant)>,
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
    /// Tells asyncio tasks, where that is asked for and they were found.
    tasks: Option<Box<Tasks>>,
    /// The address of `None`; without it nobody is asked for exceptions.
    pub(crate) none: Option<u64>,
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
            began: Instant::now(),
            only: None,
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
            tasks: None,
            none: None,
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

    /// The lock that a thread may have waited for in the last reading: another one held it.
    pub(crate) fn lock_held_by_another(&self, key: &ThreadKey) -> Option<u64> {
        let moment = self.moments.get(&key.interpreter)?;
        moment
            .lock
            .filter(|_| matches!(moment.gil, Gil::Held(holder) if holder != key.state))
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
            self.began = self.memory.now();
            self.snapshot.read(&self.memory)?;
            match self.list_threads() {
                Ok(()) => {
                    self.walk_all()?;
                    let repaired = self.snapshot.extra_calls() > 0 || attempt > 0;
                    let news = self.prove_codes()?;
                    let disturbed = news
                        && self.memory.now().saturating_duration_since(self.began) > UNDISTURBED
                        && !last_attempt;
                    let truncated = self.judge(disturbed, attempt == 0);
                    if truncated == 0 || last_attempt {
                        let calls = self.snapshot.extra_calls();
                        self.join()?;
                        let repaired = repaired || self.snapshot.extra_calls() > calls;
                        self.ask_for_exceptions()?;
                        self.look_at_stranger()?;
                        self.retire();
                        return Ok(Reading {
                            repaired,
                            truncated,
                        });
                    }
                }
                Err(ReadError::Fault(_) | ReadError::Implausible { .. }) if !last_attempt => {
                    self.only = None;
                }
                Err(error) => {
                    self.only = None;
                    self.retire();
                    return Err(error);
                }
            }
            attempt += 1;
        }
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
            // Asked first, since it has mostly changed where anything has, and is short.
            let top = thread.marks.last();
            if is_last
                && top.is_none_or(|top| top.is_unchanged(&self.snapshot))
                && self.snapshot.is_thread_unchanged(number(slot))
            {
                thread.kept = thread.frames.len();
                thread.as_of = (self.snapshot.sample(), self.stamp);
                thread.settled = true;
                thread.unchanged = true;
                frames += thread.frames.len();
                continue;
            }
            thread.unchanged = false;
            if is_last
                && thread.firm
                && let Some((top, id)) = thread.frames.last_mut()
                && let Some((_, code)) = self.codes.get(*id)
                && let Some(at) = moved_on(
                    &self.snapshot,
                    &mut self.known,
                    &self.layout,
                    &Last {
                        number: number(slot),
                        state,
                        top: *top,
                        code,
                    },
                )
            {
                top.at = at;
                thread.kept = thread.frames.len() - 1;
                thread.as_of = (self.snapshot.sample(), self.stamp);
                thread.settled = true;
                thread.unchanged = true;
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
                thread.firm = found.marks.iter().all(|mark| mark.firm);
                join_marks(&mut thread.marks, found.kept, &found.marks);
                thread.as_of = (self.snapshot.sample(), self.stamp);
            }
            impossible += u64::from(!thread.settled);
        }
        impossible
    }
}

/// The number by which the regions of the thread in a slot are planned. There are at most [`MAX_LIST`] slots.
fn number(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}
