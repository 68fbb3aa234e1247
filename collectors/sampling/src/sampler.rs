//! Turns readings into the news that a profile is built from.
//!
//! A stack is told as a node of the call tree. Two stacks of one thread mostly share their older frames,
//! so a stack costs what it does not share with the one before it; and while a thread stays where it is,
//! its samples are one observation that grows.

use pystrobe_profile::{
    Batch, Clocks, Counters, Frame, FunctionId, Node, NodeId, Observation, Thread, ThreadId,
};
use rustc_hash::FxHashMap;

use crate::codes::CodeId;
use crate::layout::TaskLayout;
use crate::memory::{ReadError, RemoteMemory};
use crate::process;
use crate::processor_time::{Accounting, Accounts};
use crate::schedule::nanoseconds;
use crate::stacks::{Stacks, ThreadKey, ThreadStack};
use crate::tasks::{AsyncStacks, TaskSearch};
use crate::thread_names::{native_id, thread_names};
use crate::track::{Doing, Place, Track};
use crate::walk::RawFrame;

use std::collections::BTreeMap;
use std::time::Duration;

/// What stands for the older frames of a stack that could not be followed to its foot.
const TRUNCATED: &str = "<truncated>";
/// What stands for the collection of garbage, on top of what it interrupts; named as CPython's own sampler does.
const GC: &str = "<GC>";
/// Of all threads together one is looked at so many nanoseconds after another for whether it waits for the GIL, on average: that takes two
/// thousandths of a core.
const LOOKED_FOR_WAITS: u64 = 500_000;
/// Observations that a batch holds before those of the same node are put together, while nobody takes it.
const COMPACT_AT: usize = 1 << 16;

/// Why asyncio tasks are missing in what is told of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UntoldTasks {
    /// Its version does not tell them.
    pub(crate) version: bool,
    /// There were too many.
    pub(crate) number: bool,
}

/// Samples a process, and collects what is new in a [`Batch`].
#[derive(Debug)]
pub(crate) struct Sampler<M> {
    /// Whom to ask for the kernel's ids of its threads, where the interpreter does not keep them.
    pid: u32,
    stacks: Stacks<M>,
    /// Where the kernel accounts for the time of its threads.
    accounts: Option<Accounts>,
    /// What all samples so far stand for, in nanoseconds.
    time: u64,
    /// By slot of the thread.
    tracks: Vec<Option<Track>>,
    nodes: FxHashMap<Node, NodeId>,
    /// The function that stands for what was cut off, once there was any.
    truncated: Option<FunctionId>,
    /// The function that stands for the collection of garbage, once there was any.
    gc: Option<FunctionId>,
    threads: usize,
    batch: Batch,
    counters: Counters,
}

impl<M: RemoteMemory> Sampler<M> {
    /// Samples the process that `stacks` reads; without `accounts` nothing is known of processor time.
    pub(crate) fn new(pid: u32, stacks: Stacks<M>, accounts: Option<Accounts>) -> Self {
        Self {
            pid,
            stacks,
            accounts,
            time: 0,
            tracks: Vec::new(),
            nodes: FxHashMap::default(),
            truncated: None,
            gc: None,
            threads: 0,
            batch: Batch::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Takes a sample that stands for `weight`.
    ///
    /// # Errors
    ///
    /// Where the process could not be read at all.
    pub(crate) fn sample(&mut self, weight: Duration) -> Result<(), ReadError> {
        let reading = self.stacks.read().inspect_err(|_| {
            // What stayed as it was is told from reading to reading, and nobody was told of this one.
            for track in self.tracks.iter_mut().flatten() {
                track.path.clear();
            }
        })?;
        self.counters.taken += 1;
        self.counters.repaired += u64::from(reading.repaired);
        self.counters.truncated += reading.truncated;
        if reading.truncated > 0 && self.truncated.is_none() {
            self.truncated = Some(self.stacks.codes.functions.synthetic(TRUNCATED));
        }
        if self.gc.is_none() && self.stacks.collects() {
            self.gc = Some(self.stacks.codes.functions.synthetic(GC));
        }
        let weight = nanoseconds(weight);
        self.time += weight;
        let threads = self.stacks.threads().count() as u64;
        let mut native_ids = None;
        let mut tracks = std::mem::take(&mut self.tracks);
        for (slot, stack) in self.stacks.threads() {
            // A thread that runs no Python code at the moment is not seen.
            if stack.frames.is_empty() && stack.complete {
                continue;
            }
            if tracks.len() <= slot {
                tracks.resize_with(slot + 1, || None);
            }
            let mut nodes = Nodes {
                ids: &mut self.nodes,
                fresh: &mut self.batch.nodes,
            };
            let observations = &mut self.batch.observations;
            let track = match tracks.get_mut(slot) {
                Some(Some(track)) if track.serial == stack.serial => track,
                Some(place) => {
                    if let Some(mut old) = place.take() {
                        old.hand_out(|seen| observations.push(seen));
                        old.logical.hand_out(observations);
                    }
                    let thread = ThreadId::from_index(self.threads);
                    self.threads += 1;
                    let foot = nodes.id(Node {
                        parent: None,
                        frame: Frame::Thread(thread),
                    });
                    let (native_id, accounting) = identify(
                        self.pid,
                        &self.stacks.memory,
                        &stack.key,
                        &mut self.accounts,
                        &mut native_ids,
                    );
                    self.batch.threads.push(Thread {
                        process: 0,
                        name: String::new(),
                        native_id,
                        ident: stack.key.ident,
                        interpreter: stack.interpreter_id,
                    });
                    let id = (stack.serial, stack.key);
                    place.insert(Track::new(id, thread, foot, accounting, weight))
                }
                None => continue,
            };
            let task = track.logical.see(
                self.stacks.joined(slot, stack),
                (track.foot, &mut nodes),
                (self.counters.taken, weight),
                observations,
            );
            let node = match (task, self.truncated) {
                // What is missing below a task's coroutine is the event loop.
                (None, Some(function)) if !stack.complete => {
                    part(&self.stacks, &mut nodes, track, stack, function)
                }
                _ => {
                    let base = task.unwrap_or((track.foot, 0));
                    whole(&self.stacks, &mut nodes, track, stack, base)
                }
            };
            let (gil, collects) = self.stacks.gil_and_gc(&stack.key);
            let node = match self.gc {
                Some(function) if collects => nodes.id(Node {
                    parent: Some(node),
                    frame: Frame::Call { function, line: 0 },
                }),
                _ => node,
            };
            let lock = self.stacks.lock_held_by_another(&stack.key);
            let least = LOOKED_FOR_WAITS * threads;
            let place = Place {
                node,
                doing: Doing {
                    gil,
                    gil_wait: lock
                        .is_some_and(|lock| track.waits_for(lock, node, self.time, least)),
                    exception: stack.in_exception,
                },
                sample: self.counters.taken,
                time: self.time,
            };
            track.see(place, weight, |seen| observations.push(seen));
        }
        self.tracks = tracks;
        if self.batch.observations.len() >= COMPACT_AT {
            compact(&mut self.batch.observations);
        }
        Ok(())
    }

    /// What is new since the last batch. `elapsed` is the time since the recording started.
    pub(crate) fn take_batch(&mut self, elapsed: Duration) -> Batch {
        for track in self.tracks.iter_mut().flatten() {
            track.hand_out(|seen| self.batch.observations.push(seen));
            track.logical.hand_out(&mut self.batch.observations);
        }
        self.batch
            .functions
            .append(&mut self.stacks.codes.functions.fresh);
        self.batch.counters = self.counters;
        self.batch.elapsed = nanoseconds(elapsed);
        std::mem::take(&mut self.batch)
    }

    /// Takes back a batch for which there was no room. Nothing is lost: it goes out with the next one.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.batch = batch;
    }

    /// Goes on with another interpreter in the same process, after it has executed another program.
    pub(crate) fn follow(&mut self, mut stacks: Stacks<M>) {
        std::mem::swap(
            &mut stacks.codes.functions,
            &mut self.stacks.codes.functions,
        );
        self.stacks = stacks;
        for mut track in self.tracks.drain(..).flatten() {
            track.hand_out(|seen| self.batch.observations.push(seen));
            track.logical.hand_out(&mut self.batch.observations);
        }
    }

    /// Looks for the asyncio tasks of the process, unless they are found.
    pub(crate) fn look_for_tasks(
        &mut self,
        search: &mut TaskSearch,
        now: Duration,
        which: AsyncStacks,
    ) {
        self.stacks.look_for_tasks(search, now, which);
    }

    /// What samples do not tell of the process's asyncio tasks.
    pub(crate) fn untold_tasks(&self) -> UntoldTasks {
        UntoldTasks {
            version: !TaskLayout::is_published_by(self.stacks.layout.version),
            number: self.stacks.has_too_many_tasks(),
        }
    }

    /// How many threads were ever met.
    pub(crate) fn threads_met(&self) -> usize {
        self.threads
    }

    /// Whether threads were met whose name is not known yet.
    pub(crate) fn has_unnamed(&self) -> bool {
        self.tracks
            .iter()
            .flatten()
            .any(|track| track.name.is_none())
    }

    /// Reads the names of all threads anew, and tells those that changed.
    pub(crate) fn refresh_names(&mut self) {
        let mut by_interpreter: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (slot, track) in self.tracks.iter().enumerate() {
            if let Some(track) = track {
                by_interpreter
                    .entry(track.key.interpreter)
                    .or_default()
                    .push(slot);
            }
        }
        for (interpreter, slots) in by_interpreter {
            let names = thread_names(&self.stacks.memory, &self.stacks.layout, interpreter);
            for slot in slots {
                if let Some(Some(track)) = self.tracks.get_mut(slot)
                    && let Some(name) = names.get(&track.key.ident)
                    && track.name.as_ref() != Some(name)
                {
                    self.batch.renamed.push((track.thread, name.clone()));
                    track.name = Some(name.clone());
                }
            }
        }
    }
}

/// The nodes that were described.
pub(crate) struct Nodes<'a> {
    ids: &'a mut FxHashMap<Node, NodeId>,
    fresh: &'a mut Vec<Node>,
}

impl Nodes<'_> {
    pub(crate) fn id(&mut self, node: Node) -> NodeId {
        let next = NodeId::from_index(self.ids.len());
        *self.ids.entry(node).or_insert_with(|| {
            self.fresh.push(node);
            next
        })
    }

    fn call<M: RemoteMemory>(
        &mut self,
        stacks: &Stacks<M>,
        parent: NodeId,
        (frame, code): (RawFrame, CodeId),
    ) -> NodeId {
        match stacks.codes.get(code) {
            Some((function, code)) if !code.hidden => {
                let frame = Frame::Call {
                    function: *function,
                    line: code.line(frame.at),
                };
                self.id(Node {
                    parent: Some(parent),
                    frame,
                })
            }
            _ => parent,
        }
    }
}

/// The node of a stack that reaches the foot, or the coroutine of a task: `base` is what it stands on, and the number of its frames
/// that are not shown for that. What it shares with the last one is not looked up again.
fn whole<M: RemoteMemory>(
    stacks: &Stacks<M>,
    nodes: &mut Nodes<'_>,
    track: &mut Track,
    stack: &ThreadStack,
    base: (NodeId, usize),
) -> NodeId {
    if track.base != base {
        track.base = base;
        track.path.clear();
    }
    let (foot, start) = base;
    let frames = stack.frames.get(start..).unwrap_or_default();
    let kept = stack.kept.saturating_sub(start).min(track.path.len());
    let changed = frames.iter().zip(&track.path).skip(kept);
    let same = changed.take_while(|((frame, code), (old_frame, old_code, _))| {
        frame == old_frame && code == old_code
    });
    let shared = kept + same.count();
    track.path.truncate(shared);
    let mut parent = track.path.last().map_or(foot, |&(_, _, node)| node);
    for &(frame, code) in frames.iter().skip(shared) {
        parent = nodes.call(stacks, parent, (frame, code));
        track.path.push((frame, code, parent));
    }
    parent
}

/// The node of a stack of which only the newer frames are known: they stand on a frame that says so.
fn part<M: RemoteMemory>(
    stacks: &Stacks<M>,
    nodes: &mut Nodes<'_>,
    track: &mut Track,
    stack: &ThreadStack,
    truncated: FunctionId,
) -> NodeId {
    track.path.clear();
    let frame = Frame::Call {
        function: truncated,
        line: 0,
    };
    let mut parent = nodes.id(Node {
        parent: Some(track.foot),
        frame,
    });
    for &frame in &stack.frames {
        parent = nodes.call(stacks, parent, frame);
    }
    parent
}

/// The kernel's id of a thread in its own PID namespace, and what is known of its time. `native_ids` are those of all threads, as
/// soon as they are known: the list is made once for all that are met in a sample.
fn identify<M: RemoteMemory>(
    pid: u32,
    memory: &M,
    key: &ThreadKey,
    accounts: &mut Option<Accounts>,
    native_ids: &mut Option<Vec<u64>>,
) -> (Option<u64>, Accounting) {
    let told = key.native_id.filter(|id| *id != 0);
    let accounting = told.map(|id| Accounts::of_thread(accounts, id));
    if let Some(accounting @ (Accounting::Open(_) | Accounting::Off)) = accounting {
        return (told, accounting);
    }
    // 3.8 to 3.10 do not say. After a fork the others say what the parent's thread was, until the interpreter is told; an extension
    // that forks may not do that.
    let ids = native_ids.get_or_insert_with(|| process::native_ids(pid));
    let id = native_id(memory, key.ident, ids).or(told);
    let accounting = match (id, &accounts) {
        (Some(id), _) => Accounts::of_thread(accounts, id),
        (None, Some(_)) => Accounting::Ended,
        (None, None) => Accounting::Off,
    };
    (id, accounting)
}

/// Puts observations of the same node together.
fn compact(observations: &mut Vec<Observation>) {
    let mut by_node: FxHashMap<NodeId, (Clocks, Clocks)> = FxHashMap::default();
    for seen in observations.drain(..) {
        let (nanoseconds, samples) = by_node.entry(seen.node).or_default();
        *nanoseconds += seen.nanoseconds;
        *samples += seen.samples;
    }
    let sums = by_node
        .into_iter()
        .map(|(node, (nanoseconds, samples))| Observation {
            node,
            nanoseconds,
            samples,
        });
    observations.extend(sums);
}
