//! A finished recording.

use crate::{
    CallTree, Clock, Counters, Frame, Function, FunctionId, Measured, Node, NodeId, NotMeasured,
    Process, Thread, ThreadId,
};

/// What a profile counts beside the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Counted {
    /// A sampler's samples: each is seen at the node on top of a stack, and so on all nodes below.
    #[default]
    Samples,
    /// A tracer's calls: each is seen at the node that was called, and nowhere else.
    Calls,
}

impl Counted {
    /// One word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Counted::Samples => "samples",
            Counted::Calls => "calls",
        }
    }

    /// What is counted under that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Counted> {
        [Counted::Samples, Counted::Calls]
            .into_iter()
            .find(|counted| counted.name() == name)
    }
}

/// What was recorded, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// Command line of the process that was attached to or started, words joined by spaces.
    pub command: String,
    /// Its process id, as the recorder's PID namespace numbers it.
    pub pid: u32,
    /// Version of its Python, as `3.12.1`.
    pub python: String,
    /// Nanoseconds from one sample to the next, as asked for; 0 where calls are counted.
    pub interval_ns: u64,
    /// When it started: milliseconds since 1970, UTC.
    pub started_unix_ms: u64,
    /// How long it took, in nanoseconds.
    pub elapsed_ns: u64,
    /// How it went.
    pub counters: Counters,
    /// What recorded it: `sampling`, `sampling, blocking`, `tracing`, or `tracing, not corrected`.
    pub collector: String,
    /// What its counts are.
    pub counted: Counted,
    /// Which clocks it measured.
    pub measured: Measured,
}

/// A finished recording: what was seen, and of what. Made by [`Builder`](crate::Builder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub(crate) recording: Recording,
    pub(crate) processes: Vec<Process>,
    /// How the recording of each process went.
    pub(crate) process_counters: Vec<Counters>,
    pub(crate) threads: Vec<Thread>,
    pub(crate) functions: Vec<Function>,
    pub(crate) tree: CallTree,
}

impl Profile {
    /// What was recorded, and how.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The processes, as [`Thread::process`] numbers them.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// How the recording of each process went, in the order of [`Self::processes`].
    #[must_use]
    pub fn process_counters(&self) -> &[Counters] {
        &self.process_counters
    }

    /// The threads, as [`ThreadId`] numbers them.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// The functions, as [`FunctionId`] numbers them.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The stacks that were seen.
    #[must_use]
    pub fn tree(&self) -> &CallTree {
        &self.tree
    }

    /// The clock whose time and samples all weights of the tree are; all that is derived from
    /// the profile follows it. A recording starts with that of the wall.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.tree.clock()
    }

    /// The same recording by another clock. Nothing is lost: the others can still be chosen.
    ///
    /// # Errors
    ///
    /// When the recording did not measure it.
    pub fn with_clock(mut self, clock: Clock) -> Result<Profile, NotMeasured> {
        if !self.recording.measured.has(clock) {
            return Err(NotMeasured(clock));
        }
        self.tree.choose(clock);
        Ok(self)
    }

    /// Whether nothing was seen: no sample, no call and no time on the chosen clock.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.total().is_zero()
    }

    /// The processes of which threads are in the profile, as positions in [`Self::processes`], in that order.
    #[must_use]
    pub fn seen_processes(&self) -> Vec<usize> {
        let mut seen = vec![false; self.processes.len()];
        for thread in &self.threads {
            seen[thread.process as usize] = true;
        }
        (0..seen.len()).filter(|&process| seen[process]).collect()
    }

    /// What was recorded of one process, as if it had been recorded alone.
    ///
    /// # Panics
    ///
    /// When there is no process at that position.
    #[must_use]
    pub fn of_process(&self, process: usize) -> Profile {
        let about = self.processes[process].clone();
        let mut profile = self.with_threads(|thread| thread.process as usize == process);
        for thread in &mut profile.threads {
            thread.process = 0;
        }
        profile.recording = Recording {
            command: about.command.clone(),
            pid: about.pid,
            python: about.python.clone(),
            counters: self.process_counters[process],
            ..profile.recording
        };
        profile.processes = vec![about];
        profile.process_counters = vec![self.process_counters[process]];
        profile
    }

    /// The same recording with only the threads that `keep` chooses. The functions that were seen
    /// on none of them are left out too.
    #[must_use]
    pub fn with_threads(&self, mut keep: impl FnMut(&Thread) -> bool) -> Profile {
        let mut kept = Profile {
            recording: self.recording.clone(),
            processes: self.processes.clone(),
            process_counters: self.process_counters.clone(),
            threads: Vec::new(),
            functions: Vec::new(),
            tree: CallTree::default(),
        };
        kept.tree.choose(self.clock());
        let threads: Vec<Option<ThreadId>> = self
            .threads
            .iter()
            .map(|thread| {
                keep(thread).then(|| {
                    kept.threads.push(thread.clone());
                    ThreadId::from_index(kept.threads.len() - 1)
                })
            })
            .collect();
        let mut functions: Vec<Option<FunctionId>> = vec![None; self.functions.len()];
        let mut nodes: Vec<Option<NodeId>> = Vec::with_capacity(self.tree.len());
        for id in self.tree.ids() {
            let node = self.tree.node(id);
            let moved = match (node.parent, node.frame) {
                (None, Frame::Thread(thread)) => threads[thread.index()].map(|thread| Node {
                    parent: None,
                    frame: Frame::Thread(thread),
                }),
                (Some(parent), Frame::Call { function, line }) => {
                    nodes[parent.index()].map(|parent| {
                        let function = *functions[function.index()].get_or_insert_with(|| {
                            kept.functions
                                .push(self.functions[function.index()].clone());
                            FunctionId::from_index(kept.functions.len() - 1)
                        });
                        Node {
                            parent: Some(parent),
                            frame: Frame::Call { function, line },
                        }
                    })
                }
                // The tree holds neither a thread with a parent nor a call without one.
                (Some(_), Frame::Thread(_)) | (None, Frame::Call { .. }) => None,
            };
            nodes.push(moved.map(|node| kept.tree.push(node, self.tree.seen(id))));
        }
        kept
    }
}
