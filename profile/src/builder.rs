//! Turns what a collector says into a profile, and believes none of its ids.

use crate::{
    Batch, CallTree, Counters, Frame, Node, Observation, Process, Profile, Recording, Thread,
    Weights,
};

/// What is wrong with a batch. Positions count from the start of the recording, as the ids do.
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
    /// The sum of all times, or of all samples, no longer fits.
    #[error("more time than 64 bits can hold")]
    TooMuch,
}

/// Builds a profile from batches.
#[derive(Debug, Clone)]
pub struct Builder {
    profile: Profile,
    /// What was seen so far. Checked here, so that no sum over a profile can overflow.
    total: Weights,
    elapsed_ns: u64,
}

impl Builder {
    /// An empty profile of these processes.
    #[must_use]
    pub fn new(processes: Vec<Process>) -> Self {
        Self {
            profile: Profile {
                recording: Recording::default(),
                processes,
                threads: Vec::new(),
                functions: Vec::new(),
                tree: CallTree::default(),
            },
            total: Weights::default(),
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
        let profile = &mut self.profile;
        profile.functions.extend(batch.functions.iter().cloned());
        profile.threads.extend(batch.threads.iter().cloned());
        for (thread, name) in &batch.renamed {
            profile.threads[thread.index()].name.clone_from(name);
        }
        for node in &batch.nodes {
            profile.tree.push(*node, Weights::default());
        }
        for seen in &batch.observations {
            profile.tree.observe(seen.node, seen.weights());
        }
        profile.recording.counters = batch.counters;
        self.elapsed_ns = batch.elapsed;
        Ok(())
    }

    /// How the recording went so far, as the last batch says.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.profile.recording.counters
    }

    /// Nanoseconds since the recording started, as the last batch says.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns
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
        self.total = Weights::default();
    }

    /// The profile; `recording` says what it is of.
    #[must_use]
    pub fn finish(self, recording: Recording) -> Profile {
        Profile {
            recording,
            ..self.profile
        }
    }

    /// What was seen so far with this batch, when nothing is wrong with it.
    fn check(&self, batch: &Batch) -> Result<Weights, BatchError> {
        let profile = &self.profile;
        let functions = count(&profile.functions, &batch.functions)?;
        let threads = count(&profile.threads, &batch.threads)?;
        let first_node = profile.tree.len();
        let nodes = first_node + batch.nodes.len();
        if nodes >= u32::MAX as usize {
            return Err(BatchError::TooMany);
        }
        for (index, thread) in batch.threads.iter().enumerate() {
            if thread.process as usize >= profile.processes.len() {
                return Err(BatchError::UnknownProcess {
                    thread: profile.threads.len() + index,
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
        for seen in &batch.observations {
            if seen.node.index() >= nodes {
                return Err(BatchError::UnknownNode { node: seen.node.0 });
            }
            total = total
                .checked_add(seen.weights())
                .ok_or(BatchError::TooMuch)?;
        }
        Ok(total)
    }
}

impl Observation {
    fn weights(&self) -> Weights {
        Weights {
            nanoseconds: self.nanoseconds,
            samples: self.samples,
        }
    }
}

/// Number of entries with the new ones, where ids can number them.
fn count<T>(known: &[T], new: &[T]) -> Result<usize, BatchError> {
    let count = known.len() + new.len();
    if count >= u32::MAX as usize {
        return Err(BatchError::TooMany);
    }
    Ok(count)
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
