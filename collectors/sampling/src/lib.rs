//! Reads the stacks of a live CPython process from outside.
//!
//! [`Target::attach`] finds the interpreter in a process, [`record`] samples it until it is told to stop, with
//! its descendants where that is asked for, and [`dump`] reads its stacks once. Nothing here writes to the process, and nothing stops it, but for
//! [`Options::blocking`] and for interpreters so old that they can only be read while they are paused.
//!
//! CPython 3.8 to 3.15 on Linux; 2.7 and 3.3 to 3.7 through the crate `py_spy`.

mod attach_error;
mod code_identity;
mod code_object;
mod codes;
mod descendants;
mod dict;
pub mod discovery;
mod dump;
mod elf;
mod exceptions;
mod forked;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod interpreter_lock;
mod kinship;
mod known;
pub mod layout;
mod legacy;
pub mod line_table;
mod logical;
mod maps;
pub mod memory;
mod names_schedule;
mod new_processes;
mod news;
#[cfg(test)]
mod noise;
mod pause;
pub mod process;
pub mod process_memory;
mod process_tree;
mod processor_time;
mod python_image;
mod recording;
mod ring;
mod sampler;
mod sampling_loop;
mod schedule;
#[cfg(test)]
mod simulation;
mod snapshot;
mod source;
mod stacks;
pub mod strings;
mod target;
mod task_stacks;
mod tasks;
pub mod thread_names;
mod time_window;
mod track;
mod version;
mod walk;

pub use attach_error::{AttachError, Denial};
pub use descendants::descendants;
pub use dump::{Dump, StackFrame, ThreadStack, ThreadState, WaitingTasks, dump};
pub use memory::ReadError;
pub use recording::{Ending, LeftOut, Options, Recording, Stopper, record};
pub use target::Target;
pub use tasks::{AsyncStacks, MAX_TASKS};
