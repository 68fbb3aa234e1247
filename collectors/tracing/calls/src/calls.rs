//! What was recorded, as the profiler's side sees it.

/// A recording: functions, threads, and for each thread a tree of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// Of which process, when, and how.
    pub about: About,
    /// The functions that were called. Two entries may be alike: other code objects of the same name and place.
    pub functions: Vec<Function>,
    /// The threads, in the order in which the first call was seen in them.
    pub threads: Vec<Thread>,
    /// The nodes of all threads' trees; a parent comes before its children.
    pub nodes: Vec<Node>,
}

/// Of which process a recording is, when it was made, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The process id, in its own PID namespace.
    pub pid: u32,
    /// Version of its Python, as `3.12.1`.
    pub python: String,
    /// Its command line, words joined by spaces; the beginning of a long one.
    pub command: String,
    /// When the recording began, in nanoseconds since 1970.
    pub started_unix_ns: u64,
    /// How long it took until it ended, or up to the moment for which it was read.
    pub elapsed_ns: u64,
    /// What a call costs because it is recorded.
    pub cost: Cost,
    /// Calls for which there was no room for a node of their own: their time is part of the node that they were called
    /// from, and they are counted here and in that node's [`Node::calls_out`].
    pub folded: u64,
    /// The recording was ended by the agent; otherwise the process still runs, or was killed.
    pub ended: bool,
}

/// What a call (its beginning and its end) costs because it is recorded, in nanoseconds, as it was estimated when the recording began.
/// All of it lies in the time that was measured: `*_inside` within the call itself, the rest within its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// A call of a Python function: the whole.
    pub python_ns: u64,
    /// Of that, what counts as own time of the called function.
    pub python_inside_ns: u64,
    /// A call of a C function: the whole.
    pub builtin_ns: u64,
    /// Of that, what counts as own time of the called function.
    pub builtin_inside_ns: u64,
}

/// A function that was called.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    /// `co_filename`; `~` for a C function.
    pub file: String,
    /// `co_name`; for a C function what cProfile calls it, as `<built-in method builtins.len>`.
    pub name: String,
    /// `co_qualname` where the interpreter has one (3.11 and later), else empty.
    pub qualified_name: String,
    /// `co_firstlineno`; 0 for a C function.
    pub first_line: u32,
    /// What it is written in.
    pub kind: Kind,
}

/// What a function is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Python: it has a code object.
    Python,
    /// C: a `PyCFunction`, or a method that becomes one.
    Builtin,
}

/// A thread in which calls were seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The kernel's thread id, in the process's own PID namespace.
    pub native_id: u64,
    /// `threading.get_ident()`.
    pub ident: u64,
    /// Id of its interpreter: 0 is the main one.
    pub interpreter: u64,
    /// `threading.Thread.name`; empty where the program never made it known, cut to 72 bytes.
    pub name: String,
    /// Index of the root of its tree in [`Calls::nodes`].
    pub root: u32,
}

/// A function below those that called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Index of the caller's node; `None` for the root of a thread.
    pub parent: Option<u32>,
    /// Index into [`Calls::functions`]; `None` for the root of a thread.
    pub function: Option<u32>,
    /// How often it was called from its parent. A generator's or coroutine's resumption is a call. 0 for roots, and for what was running when the
    /// recording began and was not called again.
    pub calls: u64,
    /// Time in this function itself, called in this way. What it costs to record is in it; see [`Cost`]. 0 for roots.
    pub own_ns: u64,
    /// Calls made from here: those of the children, and those that were folded into this node.
    pub calls_out: u64,
}
