//! Records every call of a CPython process, by an agent inside it.
//!
//! [`Launch`] prepares what a program needs to be recorded from its first line, [`Attachment`] records one that runs
//! already. What is recorded is read by [`read`]; [`recording`] makes a profile of it.

mod attach;
mod attachment;
mod correction;
pub mod injection;
mod launch;
pub mod recording;

pub use attach::{agent_file, attach_source, detach_source};
pub use attachment::{Attachment, AttachmentError};
pub use launch::{Launch, LaunchError};
pub use pystrobe_calls::{
    Calls, Cost, FormatError, Options, OptionsError, Pattern, PatternError, read, read_until,
};
