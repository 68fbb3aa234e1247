//! Records every call of a CPython process, by an agent inside it.
//!
//! [`Launch`] prepares what a program needs to be recorded from its first line, [`Attachment`] records one that runs
//! already. What is recorded is read by [`pystrobe_calls::read`].

mod attach;
mod attachment;
pub mod injection;
mod launch;

pub use attach::{agent_file, attach_source, detach_source};
pub use attachment::{Attachment, AttachmentError};
pub use launch::{Launch, LaunchError};
