//! What a collector hands to the [`Builder`](crate::Builder): new names, new nodes, and time.

use crate::{Clocks, FunctionId, NodeId, ThreadId};

/// A function as its code object describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    /// `co_filename`.
    pub file: String,
    /// `co_firstlineno`; 0 for what has no source.
    pub first_line: u32,
    /// `co_name`.
    pub name: String,
    /// `co_qualname` where the interpreter has one (3.11 and later), else empty.
    pub qualified_name: String,
}

/// A process that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id, as the recorder's PID namespace numbers it.
    pub pid: u32,
    /// Its command line, words joined by spaces.
    pub command: String,
    /// Version of its Python, as `3.12.1`.
    pub python: String,
}

/// A thread of a recorded process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Index into the profile's processes.
    pub process: u32,
    /// The name Python gives it (`threading.Thread.name`); empty while unknown.
    pub name: String,
    /// The kernel's thread id in the target's namespace, where it is known.
    pub native_id: Option<u64>,
    /// `threading.get_ident()`.
    pub ident: u64,
    /// Id of the interpreter it runs in: 0 is the main one.
    pub interpreter: u64,
}

/// What a node of the call tree stands for, below its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Frame {
    /// The foot of a thread's stacks; it has no parent.
    Thread(ThreadId),
    /// A function that is executing a line. Line 0 where it is not known.
    Call {
        /// The function.
        function: FunctionId,
        /// The line that was executing, 1 for the first of the file.
        line: u32,
    },
}

/// A node of the call tree: a frame below a parent. The same frame below the same parent is one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// The node that called it; `None` for the foot of a thread.
    pub parent: Option<NodeId>,
    /// What it stands for.
    pub frame: Frame,
}

/// What was seen at one node: from a sampler, the frame there was on top; from a tracer, it was called, and
/// spent time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The top of the stack.
    pub node: NodeId,
    /// How long it stands for, in nanoseconds.
    pub nanoseconds: Clocks,
    /// How many samples it stands for, or how many calls: see [`Counted`](crate::Counted).
    pub samples: Clocks,
}

/// How a recording went, in counts since its start. All are counts of samples but `skipped`; where calls are
/// counted, of calls: all of them are `taken`, and `truncated` are those that were added to their caller's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Samples taken: moments at which the target was read, whatever the number of its threads.
    pub taken: u64,
    /// Samples that had to be read again.
    pub repaired: u64,
    /// Stacks of which only a part was proven.
    pub truncated: u64,
    /// Samples that could not be read, or that the consumer had no room for.
    pub lost: u64,
    /// Samples taken later than one interval after they were due.
    pub late: u64,
    /// Ticks that passed while an earlier sample was being taken, and were not caught up.
    pub skipped: u64,
}

impl Counters {
    /// The sum without `old` and with `new`: what one source of several said before, and says now.
    pub(crate) fn replace(&mut self, old: Counters, new: Counters) {
        let exchange = |sum: &mut u64, old: u64, new: u64| {
            *sum = sum.saturating_sub(old).saturating_add(new);
        };
        exchange(&mut self.taken, old.taken, new.taken);
        exchange(&mut self.repaired, old.repaired, new.repaired);
        exchange(&mut self.truncated, old.truncated, new.truncated);
        exchange(&mut self.lost, old.lost, new.lost);
        exchange(&mut self.late, old.late, new.late);
        exchange(&mut self.skipped, old.skipped, new.skipped);
    }

    /// What was counted since `earlier`, counters of the same recording.
    #[must_use]
    pub fn since(self, earlier: Counters) -> Counters {
        Counters {
            taken: self.taken.saturating_sub(earlier.taken),
            repaired: self.repaired.saturating_sub(earlier.repaired),
            truncated: self.truncated.saturating_sub(earlier.truncated),
            lost: self.lost.saturating_sub(earlier.lost),
            late: self.late.saturating_sub(earlier.late),
            skipped: self.skipped.saturating_sub(earlier.skipped),
        }
    }
}

/// News from a collector. Ids count up from 0 in the order in which things are first described, over
/// all batches of one source: the n-th function that it ever describes is its `FunctionId(n)`.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Whose ids these are. Where several processes are recorded, each is a source of its own, and numbers
    /// what it describes without asking the others.
    pub source: u32,
    /// Processes described for the first time; [`Thread::process`] numbers them likewise.
    pub processes: Vec<Process>,
    /// Functions described for the first time.
    pub functions: Vec<Function>,
    /// Threads described for the first time.
    pub threads: Vec<Thread>,
    /// Threads whose description changed (their name became known).
    pub renamed: Vec<(ThreadId, String)>,
    /// Nodes described for the first time; a parent comes before its children.
    pub nodes: Vec<Node>,
    /// Time, in the order in which it passed.
    pub observations: Vec<Observation>,
    /// How the recording of this source went so far.
    pub counters: Counters,
    /// Nanoseconds of wall clock since the recording started, at the last observation.
    pub elapsed: u64,
}
