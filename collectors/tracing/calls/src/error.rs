//! Why a recording cannot be read.

use std::fmt;
use std::io;

/// Why a recording cannot be read. Written by hand, not derived: this crate has no dependencies.
#[derive(Debug)]
#[non_exhaustive]
pub enum FormatError {
    /// The file could not be read.
    Io(io::Error),
    /// It is not a recording of calls.
    NotARecording,
    /// It was written by an agent of another version.
    Version {
        /// The version that the file has.
        found: u32,
        /// The version that this reader knows.
        known: u32,
    },
    /// What it says of itself cannot be.
    Damaged(&'static str),
    /// The agent has not begun to record: it was not loaded, or the program ended before.
    NotStarted,
    /// The agent was loaded and refused to record; with the reason in a few words.
    Refused(String),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Io(error) => write!(f, "cannot read the recorded calls: {error}"),
            FormatError::NotARecording => f.write_str("not a recording of calls"),
            FormatError::Version { found, known } => {
                write!(
                    f,
                    "the calls were recorded by an agent of version {found}, not {known}"
                )
            }
            FormatError::Damaged(what) => write!(f, "the recorded calls are damaged: {what}"),
            FormatError::NotStarted => f.write_str("the recording of calls did not begin"),
            FormatError::Refused(why) => write!(f, "the calls cannot be recorded: {why}"),
        }
    }
}

impl std::error::Error for FormatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FormatError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for FormatError {
    fn from(error: io::Error) -> Self {
        FormatError::Io(error)
    }
}
