//! The file: a header, a table of threads, a table of nodes, and the functions one behind the other.
//!
//! All records have a fixed size but the functions. Every field is an atomic, because another process looks on; nobody but the thread that
//! counts ever writes a node, so loads and stores are plain ones in the machine's eyes. What is zero has not been written:
//! a record becomes valid by the last store to it, so that a process killed at any instruction leaves a file that can be read.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

/// The first eight bytes, in the order of the machine: a file of a machine of the other byte order is not one of ours.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"pystrobC");
/// Changes with every change of the layout.
pub(crate) const VERSION: u32 = 2;
/// Where the table of threads begins.
pub(crate) const HEADER_BYTES: usize = 16 * 1024;
/// How many threads are recorded one by one; the calls of those that come after are only counted.
/// Miri looks at every field whenever a table is borrowed, so that there the tables are small.
pub(crate) const MAX_THREADS: u32 = if cfg!(miri) { 8 } else { 65_536 };
/// Bytes kept of a thread's name.
pub(crate) const THREAD_NAME_BYTES: usize = 72;
/// Bytes for the patterns of `--only`, joined by newlines.
pub(crate) const PATTERN_BYTES: usize = if cfg!(miri) { 64 } else { 12 * 1024 };
/// Bytes for the reason why the agent does not record.
pub(crate) const REFUSAL_BYTES: usize = 256;
/// Bytes for the version of the interpreter.
pub(crate) const PYTHON_BYTES: usize = 32;
/// Bytes kept of the command line.
pub(crate) const COMMAND_BYTES: usize = if cfg!(miri) { 64 } else { 2048 };
/// Words of a function's record before its strings.
pub(crate) const FUNCTION_WORDS: usize = 3;
/// `Node::function` of the root of a thread.
pub(crate) const ROOT: u32 = u32::MAX;

/// States of a recording, in the order in which they are reached.
pub(crate) mod state {
    /// The profiler has made the file.
    pub(crate) const PREPARED: u32 = 0;
    /// The agent records.
    pub(crate) const RECORDING: u32 = 1;
    /// The agent has ended the recording.
    pub(crate) const ENDED: u32 = 2;
    /// The agent does not record, and says why.
    pub(crate) const REFUSED: u32 = 3;
}

/// Bits of [`Header::flags`].
pub(crate) mod flag {
    /// C functions are recorded.
    pub(crate) const BUILTINS: u32 = 1;
    /// Child processes are recorded, each in a file of its own.
    pub(crate) const SUBPROCESSES: u32 = 2;
}

/// The head of the file.
#[repr(C, align(64))]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    /// [`layout`] of who made the file.
    pub(crate) layout: AtomicU32,
    pub(crate) state: AtomicU32,
    pub(crate) flags: AtomicU32,
    /// Room for nodes, number 0 (which is nobody) included.
    pub(crate) node_capacity: AtomicU32,
    /// Room for functions, in words of eight bytes.
    pub(crate) heap_capacity: AtomicU32,
    pub(crate) pattern_bytes: AtomicU32,
    pub(crate) pid: AtomicU32,
    pub(crate) started_unix_ns: AtomicU64,
    /// The same moment on both clocks.
    pub(crate) started_monotonic_ns: AtomicU64,
    pub(crate) started_ticks: AtomicU64,
    /// How long a tick is, in nanoseconds / 2^32. One word, so that nobody reads the halves of two measurements.
    pub(crate) tick_ns: AtomicU64,
    /// Over how many nanoseconds that was measured.
    pub(crate) calibrated_ns: AtomicU64,
    pub(crate) ended_ticks: AtomicU64,
    /// What it costs to record a call, in ticks: see `calls::Cost`.
    pub(crate) python_cost: AtomicU64,
    pub(crate) python_inside: AtomicU64,
    pub(crate) builtin_cost: AtomicU64,
    pub(crate) builtin_inside: AtomicU64,
    /// Calls without a node of their own.
    pub(crate) folded: AtomicU64,
    pub(crate) threads_used: AtomicU32,
    pub(crate) nodes_used: AtomicU32,
    /// In words.
    pub(crate) heap_used: AtomicU32,
    pub(crate) unused: AtomicU32,
    pub(crate) python: [AtomicU8; PYTHON_BYTES],
    pub(crate) command: [AtomicU8; COMMAND_BYTES],
    pub(crate) refusal: [AtomicU8; REFUSAL_BYTES],
    pub(crate) patterns: [AtomicU8; PATTERN_BYTES],
}

/// A thread. What changes with each call is on the first cache line.
#[repr(C, align(64))]
pub(crate) struct ThreadRecord {
    /// The node whose function runs.
    pub(crate) current: AtomicU32,
    /// Calls above `current` that have no nodes.
    pub(crate) folded_depth: AtomicU32,
    /// Up to when the time has been given to nodes.
    pub(crate) last_ticks: AtomicU64,
    /// Its root; 0 while the record is not complete.
    pub(crate) root: AtomicU32,
    /// 1 when no call will come any more.
    pub(crate) ended: AtomicU32,
    pub(crate) native_id: AtomicU64,
    pub(crate) ident: AtomicU64,
    pub(crate) interpreter: AtomicU64,
    pub(crate) name: [AtomicU8; THREAD_NAME_BYTES],
}

/// A node: one cache line.
#[repr(C, align(64))]
pub(crate) struct NodeRecord {
    /// The function's number and one, or [`ROOT`]; 0 while the record is not complete.
    pub(crate) function: AtomicU32,
    pub(crate) parent: AtomicU32,
    pub(crate) calls: AtomicU64,
    pub(crate) own_ticks: AtomicU64,
    pub(crate) folded: AtomicU64,
    /// For the writer: what the function was called by last (a code object, a method's definition).
    pub(crate) key: AtomicUsize,
    /// For the writer: the child that was called last.
    pub(crate) last_child: AtomicU32,
    /// For the writer: the sibling that was called after this one the last time.
    pub(crate) successor: AtomicU32,
    pub(crate) unused: [AtomicU64; 2],
}

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES);
const _: () = assert!(size_of::<ThreadRecord>() == 128);
const _: () = assert!(size_of::<NodeRecord>() == 64);

/// A sum over the sizes of all records: differs where the compiler laid them out differently.
pub(crate) const fn layout() -> u32 {
    (size_of::<Header>() * 1_000 + size_of::<ThreadRecord>() * 10 + size_of::<NodeRecord>()) as u32
}

/// Where the parts of a file lie, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) node_capacity: u32,
    pub(crate) heap_words: u32,
}

impl Parts {
    pub(crate) const THREADS: u64 = HEADER_BYTES as u64;
    pub(crate) const NODES: u64 =
        Self::THREADS + MAX_THREADS as u64 * size_of::<ThreadRecord>() as u64;

    pub(crate) fn heap(self) -> u64 {
        Self::NODES + u64::from(self.node_capacity) * size_of::<NodeRecord>() as u64
    }

    pub(crate) fn file_bytes(self) -> u64 {
        self.heap() + u64::from(self.heap_words) * 8
    }
}

/// A function's record in words: `[lengths of file and name, length of the qualified name and kind, first line]`, then the three strings one behind the other,
/// filled up to a whole word. The first word is stored last, and is never zero: bit 63 is set.
pub(crate) mod function_record {
    /// Set in the first word of every complete record.
    pub(crate) const COMPLETE: u64 = 1 << 63;
    /// Set in the second word for a C function.
    pub(crate) const BUILTIN: u64 = 1 << 63;
    /// The longest string that is kept, in bytes; what is longer is cut. It fits into the 31 bits of a length.
    pub(crate) const MAX_STRING: usize = 4096;
}
