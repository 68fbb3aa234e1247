//! Python 2.7 and 3.3 to 3.7, read by the crate `py_spy`, which pauses the target for each sample.
//!
//! Its frames carry the first line of a function or the executing one, never both. The first line is
//! what names a function in every profile, so that is what is asked for; the executing line is unknown.

use std::time::Duration;

use py_spy::config::{Config, LineNo, LockingStrategy};
use py_spy::{PythonSpy, StackTrace};
use pystrobe_profile::{
    Batch, Clocks, Counters, Frame, Function, FunctionId, Node, NodeId, Observation, Thread,
    ThreadId,
};
use rustc_hash::FxHashMap;

use crate::attach_error::AttachError;
use crate::memory::ReadError;
use crate::pause::Pause;
use crate::process;
use crate::schedule::nanoseconds;

/// Samples an old interpreter, and collects what is new in a [`Batch`].
pub(crate) struct LegacySampler {
    pid: u32,
    spy: PythonSpy,
    functions: FxHashMap<Function, FunctionId>,
    nodes: FxHashMap<Node, NodeId>,
    threads: FxHashMap<u64, (ThreadId, String)>,
    batch: Batch,
    counters: Counters,
}

impl std::fmt::Debug for LegacySampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacySampler")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl LegacySampler {
    /// Names functions by their first line, or tells where they are.
    pub(crate) fn new(pid: u32, lineno: LineNo) -> Result<Self, AttachError> {
        // It would take the exit status of a child of ours that ends while it is stopped, so the
        // stopping is left to `pause`.
        let config = Config {
            lineno,
            blocking: LockingStrategy::NonBlocking,
            ..Config::default()
        };
        let unreadable = |what: String| AttachError::Unreadable { pid, what };
        let id = py_spy::Pid::try_from(pid).map_err(|error| unreadable(error.to_string()))?;
        let spy = PythonSpy::new(id, &config).map_err(|error| unreadable(format!("{error:#}")))?;
        Ok(Self {
            pid,
            spy,
            functions: FxHashMap::default(),
            nodes: FxHashMap::default(),
            threads: FxHashMap::default(),
            batch: Batch::default(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// All stacks at one moment.
    pub(crate) fn traces(&mut self) -> Result<Vec<StackTrace>, ReadError> {
        let pid = self.pid;
        let _pause = Pause::new(pid)?;
        self.spy.get_stack_traces().map_err(|error| {
            // The crate's errors carry the kernel's answer somewhere in their chain, or not at all.
            let errno = error
                .chain()
                .find_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
            match errno {
                Some(errno) if errno == nix::errno::Errno::ESRCH as i32 => ReadError::Gone,
                Some(errno) if errno == nix::errno::Errno::EPERM as i32 => ReadError::Denied,
                _ if !process::is_alive(pid) => ReadError::Gone,
                _ => ReadError::Implausible {
                    address: 0,
                    expected: "a stack",
                },
            }
        })
    }

    /// Takes a sample that stands for `weight`.
    pub(crate) fn sample(&mut self, weight: Duration) -> Result<(), ReadError> {
        let traces = self.traces()?;
        self.counters.taken += 1;
        for trace in &traces {
            let thread = self.thread(trace);
            let mut node = self.node(Node {
                parent: None,
                frame: Frame::Thread(thread),
            });
            for frame in trace.frames.iter().rev() {
                let function = self.function(function_of(frame));
                node = self.node(Node {
                    parent: Some(node),
                    frame: Frame::Call { function, line: 0 },
                });
            }
            if !trace.frames.is_empty() {
                self.batch.observations.push(Observation {
                    node,
                    nanoseconds: Clocks::of_wall(nanoseconds(weight)),
                    samples: Clocks::of_wall(1),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn take_batch(&mut self, elapsed: Duration) -> Batch {
        self.batch.counters = self.counters;
        self.batch.elapsed = nanoseconds(elapsed);
        std::mem::take(&mut self.batch)
    }

    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.batch = batch;
    }

    fn thread(&mut self, trace: &StackTrace) -> ThreadId {
        let name = trace.thread_name.clone().unwrap_or_default();
        if let Some((thread, known)) = self.threads.get_mut(&trace.thread_id) {
            if *known != name && !name.is_empty() {
                self.batch.renamed.push((*thread, name.clone()));
                *known = name;
            }
            return *thread;
        }
        let thread = ThreadId::from_index(self.threads.len());
        self.batch.threads.push(describe(trace));
        self.threads.insert(trace.thread_id, (thread, name));
        thread
    }

    fn function(&mut self, function: Function) -> FunctionId {
        let next = FunctionId::from_index(self.functions.len());
        *self
            .functions
            .entry(function)
            .or_insert_with_key(|function| {
                self.batch.functions.push(function.clone());
                next
            })
    }

    fn node(&mut self, node: Node) -> NodeId {
        let next = NodeId::from_index(self.nodes.len());
        *self.nodes.entry(node).or_insert_with(|| {
            self.batch.nodes.push(node);
            next
        })
    }
}

/// A thread as the crate describes it.
pub(crate) fn describe(trace: &StackTrace) -> Thread {
    Thread {
        process: 0,
        name: trace.thread_name.clone().unwrap_or_default(),
        native_id: trace.os_thread_id,
        ident: trace.thread_id,
        interpreter: 0,
    }
}

/// The function of a frame, and the line that was asked for.
pub(crate) fn function_of(frame: &py_spy::Frame) -> Function {
    Function {
        file: frame.filename.clone(),
        first_line: u32::try_from(frame.line).unwrap_or(0),
        name: frame.name.clone(),
        qualified_name: String::new(),
    }
}
