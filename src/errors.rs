//! Everything that can go wrong for the user: one line, a hint where there is something to do, an exit code.
//!
//! The crates below say what happened; what to do about it is known only here, where the options are.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pystrobe_exporters::{ExportError, PstatsError};
use pystrobe_profile::{BatchError, Clock, escape};
use pystrobe_sampling::{AttachError, ReadError};
use pystrobe_tracing::injection::InjectionError;
use pystrobe_tracing::recording::Damage;
use pystrobe_tracing::{AttachmentError, LaunchError};

use crate::exit_code;
use crate::hint::hint;
use crate::typing;

/// Why pystrobe could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// clap's: a mistake on the command line, or a request for help.
    #[error("{}", typing::message(.0))]
    Typing(#[from] clap::Error),

    /// A command line that can be parsed and not be meant.
    #[error("{message}")]
    Usage { message: String, hint: String },

    /// The process cannot be sampled.
    #[error(transparent)]
    Attach(#[from] AttachError),

    /// Reading failed midway.
    #[error("the recording broke off: {0}")]
    BrokeOff(ReadError),

    /// The sampler contradicts itself: a bug.
    #[error("internal error: {0}")]
    Batch(#[from] BatchError),

    /// Not a single sample, or none with time on the clock that was asked for.
    #[error("{}, and no output was written", nothing(*.clock))]
    NothingSampled { clock: Clock },

    /// The tracer has counted nothing.
    #[error("no call was counted, and no output was written")]
    NothingTraced,

    /// What the tracer has recorded contradicts itself: a bug, or somebody wrote to its memory.
    #[error("what was traced cannot be read: {0}")]
    Damage(#[from] Damage),

    /// The tracer cannot be made ready.
    #[error(transparent)]
    Launch(#[from] LaunchError),

    /// The tracer does not come into a running program.
    #[error(transparent)]
    TracerAttach(AttachmentError),

    /// It does not come out again.
    #[error("the tracer is still in the process: {0}")]
    TracerStays(AttachmentError),

    /// The counts of a pstats flavor are samples, and the input of `convert` has calls.
    #[error("{} counts calls, and the flavor 3.15 is one of samples", .path.display())]
    CountsCalls { path: PathBuf },

    /// The sampler does not know a clock of this interpreter.
    #[error("{} time cannot be measured of Python {python}", .clock.name())]
    NotMeasurable { python: String, clock: Clock },

    /// The interpreter does not tell its asyncio tasks.
    #[error("the asyncio tasks of Python {python} cannot be told")]
    NoTasks { python: String },

    /// The input of `convert` does not know a clock.
    #[error("{}: {} time was not measured", .path.display(), .clock.name())]
    NotMeasured { path: PathBuf, clock: Clock },

    /// `--thread` chose none.
    #[error("no thread is named {}", names(.wanted))]
    NoSuchThread {
        wanted: Vec<String>,
        seen: Vec<String>,
    },

    /// An output cannot be opened or written.
    #[error("cannot {doing} {}: {}", .path.display(), reason(.source))]
    Output {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    /// An output is complete and cannot be put in its place.
    #[error("cannot replace {}: {}", .path.display(), reason(.source))]
    Unplaced {
        path: PathBuf,
        kept: Option<PathBuf>,
        source: io::Error,
    },

    /// A format cannot be made of this profile.
    #[error("cannot write {}: {source}", .path.display())]
    Export { path: PathBuf, source: ExportError },

    /// The input of `convert` cannot be read.
    #[error("cannot read {}: {}", .path.display(), reason(.source))]
    Input { path: PathBuf, source: io::Error },

    /// The input of `convert` is not a profile.
    #[error("{}: {source}", .path.display())]
    NotAProfile { path: PathBuf, source: PstatsError },

    /// The input of `convert` has no call paths, or no threads.
    #[error("{} is a table of functions without {missing}", .path.display())]
    OnlyATable {
        path: PathBuf,
        missing: &'static str,
    },

    /// `run` could not start the program.
    #[error("cannot run {program}: {}", not_found_or_reason(.source))]
    Spawn {
        program: String,
        hint: Option<&'static str>,
        source: io::Error,
    },

    /// `run` lost the program.
    #[error("cannot wait for the program: {}", reason(.0))]
    Wait(io::Error),

    /// The command of `--open-with` could not be started.
    #[error("cannot start {command}: {}", reason(.source))]
    OpenWith { command: String, source: io::Error },

    /// The command of `--open-with` failed.
    #[error("{command} ended with {status}")]
    OpenedBadly {
        command: String,
        status: std::process::ExitStatus,
    },

    /// `top` has nowhere to draw.
    #[error("top draws on a terminal, and {0}")]
    NoTerminal(&'static str),

    /// Signals cannot be handled, stderr and stdout not be used: nothing that a user can bring about easily.
    #[error("{doing}: {}", reason(.source))]
    System {
        doing: &'static str,
        source: io::Error,
    },
}

impl Failure {
    /// A command line that can be parsed and not be meant.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Usage {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// An output that could not be opened or written.
    pub(crate) fn output(doing: &'static str, path: &Path, source: io::Error) -> Failure {
        Failure::Output {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }

    /// The exit status that goes with it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            // clap's own status is 0 for --help and --version.
            Failure::Typing(error) => u8::try_from(error.exit_code()).unwrap_or(exit_code::USAGE),
            Failure::Usage { .. } => exit_code::USAGE,
            Failure::Attach(error) => attach_code(error),
            Failure::TracerAttach(AttachmentError::Injection(error)) => match error {
                InjectionError::Attach(error) => attach_code(error),
                InjectionError::Unsupported { .. } | InjectionError::FreeThreaded { .. } => {
                    exit_code::NOT_PYTHON
                }
                _ => exit_code::NOT_LET_IN,
            },
            Failure::TracerAttach(_) | Failure::TracerStays(_) => exit_code::NOT_LET_IN,
            Failure::BrokeOff(_) => exit_code::UNREADABLE,
            Failure::NothingSampled { .. }
            | Failure::NothingTraced
            | Failure::NoSuchThread { .. } => exit_code::NOTHING_SAMPLED,
            Failure::NotMeasurable { .. } | Failure::NoTasks { .. } => exit_code::NOT_PYTHON,
            Failure::Output { .. } | Failure::Unplaced { .. } | Failure::Export { .. } => {
                exit_code::OUTPUT
            }
            Failure::Input { .. }
            | Failure::NotAProfile { .. }
            | Failure::OnlyATable { .. }
            | Failure::CountsCalls { .. }
            | Failure::NotMeasured { .. } => exit_code::BAD_INPUT,
            Failure::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                exit_code::PROGRAM_NOT_FOUND
            }
            Failure::Spawn { .. } => exit_code::NOT_EXECUTABLE,
            Failure::OpenWith { .. } | Failure::OpenedBadly { .. } => exit_code::OPEN_WITH,
            Failure::NoTerminal(_) => exit_code::NO_TERMINAL,
            Failure::Batch(_)
            | Failure::Damage(_)
            | Failure::Launch(_)
            | Failure::Wait(_)
            | Failure::System { .. } => exit_code::UNEXPECTED,
        }
    }

    /// Prints it on stderr. Whatever came from the target or the file system is escaped: it shall not drive
    /// the terminal.
    pub(crate) fn report(&self) {
        let text = match self {
            Failure::Typing(error) if !typing::is_mistake(error) => {
                // Help and the version. A closed stdout or stderr is nobody's fault here.
                let _ = error.print();
                return;
            }
            _ => self.text(),
        };
        // Where stderr is closed there is nobody to tell.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn text(&self) -> String {
        let mut text = format!("pystrobe: error: {}\n", escape(&self.to_string()));
        if let Some(hint) = hint(self) {
            text.push_str(&format!("\nhint: {}\n", escape(&hint)));
        }
        text
    }
}

/// The exit status that goes with a process that is out of reach.
fn attach_code(error: &AttachError) -> u8 {
    match error {
        AttachError::NotFound { .. } => exit_code::NOT_FOUND,
        AttachError::Ended { .. } | AttachError::Zombie { .. } | AttachError::GaveUp { .. } => {
            exit_code::ENDED
        }
        AttachError::NotPython { .. }
        | AttachError::Unsupported { .. }
        | AttachError::Starting { .. } => exit_code::NOT_PYTHON,
        AttachError::Denied { .. } => exit_code::NOT_PERMITTED,
        AttachError::Unreadable { .. } => exit_code::UNREADABLE,
    }
}

/// That there is nothing to write, by this clock.
pub(crate) fn nothing(clock: Clock) -> String {
    match clock {
        Clock::Wall => String::from("nothing was sampled"),
        clock => format!("no {} time was seen", clock.name()),
    }
}

/// What the system said, without Rust's ` (os error 13)`.
fn reason(error: &io::Error) -> String {
    let full = error.to_string();
    let plain = match full.find(" (os error ") {
        Some(end) => &full[..end],
        None => &full,
    };
    let mut characters = plain.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::from("unknown error"),
    }
}

/// A shell says of a program that it was not found, not that a file does not exist.
fn not_found_or_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => String::from("not found"),
        _ => reason(error),
    }
}

/// Names in a row, each in backticks.
pub(crate) fn names(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use pystrobe_sampling::Denial;

    use super::*;

    #[test]
    fn one_line_then_a_hint() {
        let failure = Failure::from(AttachError::Denied {
            pid: 12,
            cause: Denial::PtraceScope(1),
        });
        let text = failure.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("pystrobe: error: "), "{text}");
        assert_eq!(lines[1], "");
        assert!(lines[2].starts_with("hint: "), "{text}");
        assert!(lines[2].contains("ptrace_scope"), "{text}");
        assert_eq!(failure.exit_code(), exit_code::NOT_PERMITTED);
    }

    #[test]
    fn what_the_target_calls_itself_cannot_break_the_line() {
        let text = Failure::from(AttachError::NotPython {
            pid: 1,
            command: String::from("evil\n\x1b[2J"),
        })
        .text();
        assert!(!text.contains('\x1b'), "{text:?}");
        assert_eq!(text.lines().count(), 3, "{text:?}");
    }

    #[test]
    fn attach_errors_have_their_codes() {
        let ended = Failure::from(AttachError::Ended { pid: 1 });
        assert_eq!(ended.exit_code(), exit_code::ENDED);
        let missing = Failure::from(AttachError::NotFound { pid: 1 });
        assert_eq!(missing.exit_code(), exit_code::NOT_FOUND);
        let shell = Failure::from(AttachError::NotPython {
            pid: 1,
            command: String::new(),
        });
        assert_eq!(shell.exit_code(), exit_code::NOT_PYTHON);
    }

    #[test]
    fn a_program_that_cannot_start_ends_as_in_a_shell() {
        let spawn = |kind: io::ErrorKind| Failure::Spawn {
            program: String::from("x"),
            hint: None,
            source: kind.into(),
        };
        assert_eq!(spawn(io::ErrorKind::NotFound).exit_code(), 127);
        assert_eq!(spawn(io::ErrorKind::PermissionDenied).exit_code(), 126);
    }

    #[test]
    fn reasons_are_fragments() {
        let denied = io::Error::from_raw_os_error(13);
        assert_eq!(reason(&denied), "permission denied");
    }
}
