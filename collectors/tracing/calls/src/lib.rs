//! The call tree that a traced process keeps in memory shared with its profiler.
//!
//! The file is made by the profiler ([`Options::write_to`]), mapped by the agent inside the traced process
//! ([`Recording::open`]), which counts calls in it ([`ThreadTree`]), and read by the profiler ([`read`]) while the
//! process runs, or after it has ended in whatever way. What is read is not trusted.
//!
//! The crate has no dependencies: it becomes part of a library inside a process that is not ours.

mod calls;
mod clock;
mod error;
mod format;
mod index;
mod mapping;
#[cfg(test)]
mod model_tests;
mod options;
mod pattern;
mod read;
mod recording;
mod thread_tree;

pub use calls::{About, Calls, Cost, Function, Kind, Node, Thread};
pub use clock::{monotonic_ns, ticks, unix_ns};
pub use error::FormatError;
pub use options::{Options, OptionsError};
pub use pattern::{Pattern, PatternError, Place};
pub use read::{read, read_until};
pub use recording::{FunctionId, OpenError, Recording};
pub use thread_tree::ThreadTree;
