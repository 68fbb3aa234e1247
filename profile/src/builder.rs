//! Turns what a collector says into a profile, and believes none of its ids.

use std::collections::HashMap;

use crate::{
    Batch, CallTree, Counters, Frame, Function, FunctionId, Node, NodeId, Observation, Process,
    Profile, Recording, Seen, Thread, ThreadId,
};

/// What is wrong with a batch. Positions are those of its source, as the ids are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// A thread belongs to a process that does not exist.
    #[error("thread {thread} belongs to process {process}, which is not known")]
    UnknownProcess {
        /// The thread.
        thread: usize,
        /// Index of its process.
        process: u32,
    },
    /// A new name for a thread that does not exist.
    #[error("thread {thread} is renamed before it is described")]
    RenamedUnknown {
        /// The thread.
        thread: u32,
    },
    /// A node stands for a thread that does not exist.
    #[error("node {node} stands for thread {thread}, which is not known")]
    UnknownThread {
        /// The node.
        node: usize,
        /// The thread.
        thread: u32,
    },
    /// A node stands for a function that does not exist.
    #[error("node {node} stands for function {function}, which is not known")]
    UnknownFunction {
        /// The node.
        node: usize,
        /// The function.
        function: u32,
    },
    /// A node hangs below one that does not come before it.
    #[error("node {node} hangs below node {parent}, which is not known yet")]
    UnknownParent {
        /// The node.
        node: usize,
        /// Its parent.
        parent: u32,
    },
    /// A thread hangs below a node, or a call below none.
    #[error("node {node} is a thread with a parent or a call without one")]
    Misplaced {
        /// The node.
        node: usize,
    },
    /// Time was seen at a node that does not exist.
    #[error("time was seen at node {node}, which is not known")]
    UnknownNode {
        /// The node.
        node: u32,
    },
    /// An id no longer fits.
    #[error("more entries than 32 bits can number")]
    TooMany,
    /// The sum of all times, or of all samples, no longer fits, on whichever clock.
    #[error("more time than 64 bits can hold")]
    TooMuch,
}

/// Builds a profile from batches.
#[derive(Debug, Clone)]
pub struct Builder {
    profile: Profile,
    sources: HashMap<u32, Source>,
    /// The functions by what they are, as soon as there are several sources: each describes those of the program
    /// anew.
    functions: Option<HashMap<Function, FunctionId>>,
    /// What was seen so far. Checked here, so that no sum over a profile can overflow.
    total: Seen,
    elapsed_ns: u64,
}

/// What the ids of a source stand for in the profile.
#[derive(Debug, Clone, Default)]
struct Source {
    processes: Vec<u32>,
    threads: Vec<ThreadId>,
    functions: Vec<FunctionId>,
    nodes: Vec<NodeId>,
    counters: Counters,
}

impl Builder {
    /// An empty profile of these processes, as source 0 numbers them.
    #[must_use]
    pub fn new(processes: Vec<Process>) -> Self {
        let first = Source {
            processes: (0..).take(processes.len()).collect(),
            ..Source::default()
        };
        Self {
            profile: Profile {
                recording: Recording::default(),
                process_counters: vec![Counters::default(); processes.len()],
                processes,
                threads: Vec::new(),
                functions: Vec::new(),
                tree: CallTree::default(),
            },
            sources: HashMap::from([(0, first)]),
            functions: None,
            total: Seen::default(),
            elapsed_ns: 0,
        }
    }

    /// Adds a batch: all of it, or nothing when anything in it is wrong.
    ///
    /// # Errors
    ///
    /// When the batch refers to what was never described.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), BatchError> {
        self.total = self.check(batch)?;
        let several = self.sources.keys().any(|source| *source != batch.source);
        let source = self.sources.entry(batch.source).or_default();
        let profile = &mut self.profile;
        for process in &batch.processes {
            // It was checked that 32 bits can number them.
            source.processes.push(profile.processes.len() as u32);
            profile.processes.push(process.clone());
            profile.process_counters.push(Counters::default());
        }
        for thread in &batch.threads {
            source
                .threads
                .push(ThreadId::from_index(profile.threads.len()));
            profile.threads.push(Thread {
                process: source.processes[thread.process as usize],
                ..thread.clone()
            });
        }
        for (thread, name) in &batch.renamed {
            profile.threads[source.threads[thread.index()].index()]
                .name
                .clone_from(name);
        }
        if several && self.functions.is_none() && !batch.functions.is_empty() {
            let ids = (0..).map(FunctionId::from_index);
            self.functions = Some(profile.functions.iter().cloned().zip(ids).collect());
        }
        for function in &batch.functions {
            let next = FunctionId::from_index(profile.functions.len());
            let id = match &mut self.functions {
                None => next,
                Some(known) => *known.entry(function.clone()).or_insert(next),
            };
            if id == next {
                profile.functions.push(function.clone());
            }
            source.functions.push(id);
        }
        for node in &batch.nodes {
            let node = source.translate(*node);
            source.nodes.push(profile.tree.push(node, Seen::default()));
        }
        for seen in &batch.observations {
            profile
                .tree
                .observe(source.nodes[seen.node.index()], seen.seen());
        }
        let counters = &mut profile.recording.counters;
        counters.replace(source.counters, batch.counters);
        source.counters = batch.counters;
        if let [process] = source.processes[..] {
            profile.process_counters[process as usize] = batch.counters;
        }
        self.elapsed_ns = self.elapsed_ns.max(batch.elapsed);
        Ok(())
    }

    /// Says how the recording of one of several processes went, where its source is not of that process alone.
    /// A process that does not exist has none.
    pub fn count(&mut self, process: usize, counters: Counters) {
        if let Some(place) = self.profile.process_counters.get_mut(process) {
            *place = counters;
        }
    }

    /// How the recording went so far, as the last batches of all sources say.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.profile.recording.counters
    }

    /// Nanoseconds since the recording started, as the latest batch says.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns
    }

    /// The processes that were described so far.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.profile.processes
    }

    /// The threads that were described so far.
    #[must_use]
    pub fn threads(&self) -> &[Thread] {
        &self.profile.threads
    }

    /// What was seen so far. What it is a recording of is known when it is [finished](Self::finish); of that this
    /// profile has the counters only.
    #[must_use]
    pub fn so_far(&self) -> &Profile {
        &self.profile
    }

    /// Forgets the time that was seen. What was described stays, since later batches refer to it.
    pub fn forget_time(&mut self) {
        self.profile.tree.forget_time();
        self.total = Seen::default();
    }

    /// The profile; `recording` says what it is of.
    #[must_use]
    pub fn finish(mut self, recording: Recording) -> Profile {
        if let [counters] = &mut self.profile.process_counters[..] {
            *counters = recording.counters;
        }
        Profile {
            recording,
            ..self.profile
        }
    }

    /// What was seen so far with this batch, when nothing is wrong with it.
    fn check(&self, batch: &Batch) -> Result<Seen, BatchError> {
        let profile = &self.profile;
        let nothing = Source::default();
        let source = self.sources.get(&batch.source).unwrap_or(&nothing);
        fits(profile.processes.len(), batch.processes.len())?;
        fits(profile.functions.len(), batch.functions.len())?;
        fits(profile.threads.len(), batch.threads.len())?;
        fits(profile.tree.len(), batch.nodes.len())?;
        let processes = source.processes.len() + batch.processes.len();
        let functions = source.functions.len() + batch.functions.len();
        let threads = source.threads.len() + batch.threads.len();
        let first_node = source.nodes.len();
        let nodes = first_node + batch.nodes.len();
        for (index, thread) in batch.threads.iter().enumerate() {
            if thread.process as usize >= processes {
                return Err(BatchError::UnknownProcess {
                    thread: source.threads.len() + index,
                    process: thread.process,
                });
            }
        }
        for (thread, _) in &batch.renamed {
            if thread.index() >= threads {
                return Err(BatchError::RenamedUnknown { thread: thread.0 });
            }
        }
        for (index, node) in batch.nodes.iter().enumerate() {
            check_node(first_node + index, *node, functions, threads)?;
        }
        let mut total = self.total;
        for observation in &batch.observations {
            let node = observation.node;
            if node.index() >= nodes {
                return Err(BatchError::UnknownNode { node: node.0 });
            }
            total = total
                .checked_add(observation.seen())
                .ok_or(BatchError::TooMuch)?;
        }
        Ok(total)
    }
}

impl Observation {
    fn seen(&self) -> Seen {
        Seen {
            nanoseconds: self.nanoseconds,
            samples: self.samples,
        }
    }
}

impl Source {
    /// A node as the profile numbers things; it was checked.
    fn translate(&self, node: Node) -> Node {
        Node {
            parent: node.parent.map(|parent| self.nodes[parent.index()]),
            frame: match node.frame {
                Frame::Thread(thread) => Frame::Thread(self.threads[thread.index()]),
                Frame::Call { function, line } => Frame::Call {
                    function: self.functions[function.index()],
                    line,
                },
            },
        }
    }
}

/// Whether ids can number the entries with the new ones.
fn fits(known: usize, new: usize) -> Result<(), BatchError> {
    if known + new >= u32::MAX as usize {
        return Err(BatchError::TooMany);
    }
    Ok(())
}

fn check_node(
    index: usize,
    node: Node,
    functions: usize,
    threads: usize,
) -> Result<(), BatchError> {
    match (node.parent, node.frame) {
        (None, Frame::Thread(thread)) if thread.index() < threads => Ok(()),
        (None, Frame::Thread(thread)) => Err(BatchError::UnknownThread {
            node: index,
            thread: thread.0,
        }),
        (Some(parent), Frame::Call { function, .. }) => {
            if parent.index() >= index {
                return Err(BatchError::UnknownParent {
                    node: index,
                    parent: parent.0,
                });
            }
            if function.index() >= functions {
                return Err(BatchError::UnknownFunction {
                    node: index,
                    function: function.0,
                });
            }
            Ok(())
        }
        (Some(_), Frame::Thread(_)) | (None, Frame::Call { .. }) => {
            Err(BatchError::Misplaced { node: index })
        }
    }
}
