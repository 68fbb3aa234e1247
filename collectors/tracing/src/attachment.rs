//! A program that runs already, recorded from now on.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pystrobe_calls::{Options, OptionsError};
use pystrobe_sampling::discovery;

use crate::attach::{AGENT, attach_source, detach_source};
use crate::injection::{self, InjectionError, Place};

const AGENT_NAME: &str = "pystrobe_agent.so";
const RECORDING_NAME: &str = "first.calls";

/// Why a recording of a running program cannot begin or end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// The agent cannot be told.
    #[error(transparent)]
    Injection(#[from] InjectionError),
    /// The folder that is shared with the program cannot be filled.
    #[error("cannot prepare a folder for the recording: {0}")]
    Io(#[from] io::Error),
    /// The options cannot be written.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// A recording in a running program. The folder with the recording and the agent is removed when this is dropped; what is
/// [open](Self::recording) can still be read.
#[derive(Debug)]
pub struct Attachment {
    pid: u32,
    place: Place,
    recording: File,
}

impl Attachment {
    /// Begins to record a process. The frames that run are the roots of what follows.
    ///
    /// `patience` is how long its main thread may take to come to Python code.
    ///
    /// # Errors
    ///
    /// [`AttachmentError`]; the program is then as it was.
    pub fn start(pid: u32, options: &Options, patience: Duration) -> Result<Self, AttachmentError> {
        let version = discovery::attach(pid, patience)
            .map_err(InjectionError::from)?
            .layout
            .version;
        let place = Place::named(pid, Some(&name(pid)))?;
        place.write(AGENT_NAME, AGENT)?;
        let recording = place.file(RECORDING_NAME)?;
        options.write_to(&recording)?;
        let attachment = Self {
            pid,
            place,
            recording,
        };
        let source = attach_source(
            &attachment.agent(),
            &attachment.place.inside(RECORDING_NAME),
            injection::frames(version),
        );
        injection::run(pid, &source, patience)?;
        Ok(attachment)
    }

    /// The recording, for [`pystrobe_calls::read`]: at any time.
    #[must_use]
    pub fn recording(&self) -> &File {
        &self.recording
    }

    /// Ends the recording, and takes everything out of the process again; but for the library of the agent, which no
    /// interpreter can unload: it stays for the next time.
    ///
    /// # Errors
    ///
    /// [`AttachmentError::Injection`]. If the process has ended, so has the recording. Else it goes on, and this can be tried
    /// again.
    pub fn stop(&self, patience: Duration) -> Result<(), AttachmentError> {
        Ok(injection::run(
            self.pid,
            &detach_source(&self.agent()),
            patience,
        )?)
    }

    fn agent(&self) -> PathBuf {
        self.place.inside(AGENT_NAME)
    }
}

/// The name of the folder: the same for each attachment to a process. The dynamic linker knows a library that it has loaded
/// by its path, and would load the agent once more from another one.
fn name(pid: u32) -> String {
    let mut hasher = DefaultHasher::new();
    AGENT.hash(&mut hasher);
    format!("pystrobe-agent-{pid}-{:016x}", hasher.finish())
}
