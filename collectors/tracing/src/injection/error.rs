//! Why a line of Python was not run in a process, and what its user can do about it.

use std::time::Duration;

use pystrobe_sampling::AttachError;
use thiserror::Error;

/// What stands between a process and a line of Python. Unless a variant says otherwise the line was not executed and will
/// not be, and the process is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InjectionError {
    /// It is not there, is no Python, has ended meanwhile, or may not be touched by this user.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// 3.14 and later: it was started with `PYTHON_DISABLE_REMOTE_DEBUG` or `-X disable-remote-debug`, or its Python was
    /// built `--without-remote-debug`.
    #[error("remote debugging is off in process {pid}")]
    RemoteDebuggingOff {
        /// Its id.
        pid: u32,
    },
    /// A Python before 3.8, or one whose tables are not known yet.
    #[error("process {pid} runs Python {version}, into which nothing can be injected")]
    Unsupported {
        /// Its id.
        pid: u32,
        /// As `3.7.16`.
        version: String,
    },
    /// A build without a GIL.
    #[error(
        "process {pid} runs a free-threaded Python {version}, into which nothing can be injected"
    )]
    FreeThreaded {
        /// Its id.
        pid: u32,
        /// As `3.14.0`.
        version: String,
    },
    /// Before 3.14 this needs to know the processor, and knows x86-64 only.
    #[error("injecting into Python {version} is not supported on this processor yet")]
    Processor {
        /// As `3.12.1`.
        version: String,
    },
    /// Before 3.14: its processor keeps a second copy of all return addresses (CET), which a call from outside would
    /// contradict.
    #[error("process {pid} has a shadow stack, past which nothing can be called from outside")]
    ShadowStack {
        /// Its id.
        pid: u32,
    },
    /// What has to be called, or known, is not where it should be: a Python that exports nothing.
    #[error("the Python in process {pid} does not show {what}")]
    Hidden {
        /// Its id.
        pid: u32,
        /// What was looked for.
        what: &'static str,
    },
    /// A debugger, `strace`, or another pystrobe holds it.
    #[error("process {pid} is traced by process {tracer}")]
    Traced {
        /// Its id.
        pid: u32,
        /// The id of the other.
        tracer: u32,
    },
    /// It was stopped by a signal, as by Ctrl-Z.
    #[error("process {pid} is stopped")]
    Stopped {
        /// Its id.
        pid: u32,
    },
    /// Its main thread has not come back to Python code: it waits in C, or computes there. What was queued does nothing when
    /// it is reached after all; before 3.14, a page of memory stays with the process for that.
    #[error("the main thread of process {pid} executed no Python code for {} s", .waited.as_secs_f32())]
    Blocked {
        /// Its id.
        pid: u32,
        /// How long that was waited for.
        waited: Duration,
    },
    /// The queue of the interpreter is full of calls that its main thread has not come to yet; or another debugger has asked
    /// it for something.
    #[error("the main thread of process {pid} has too much to do already")]
    Busy {
        /// Its id.
        pid: u32,
    },
    /// There is no folder in which both sides can read and write.
    #[error("found no folder to share with process {pid}: {}", .cause.escape_debug())]
    NoPlace {
        /// Its id.
        pid: u32,
        /// What stood in the way, of the last place that was tried.
        cause: String,
    },
    /// The line was executed, and raised an exception.
    #[error("process {pid} raised {}", .exception.escape_debug())]
    Raised {
        /// Its id.
        pid: u32,
        /// As the last line of a traceback.
        exception: String,
    },
    /// The line is being executed, and has not come to its end.
    #[error("process {pid} has not finished for {} s", .waited.as_secs_f32())]
    Unfinished {
        /// Its id.
        pid: u32,
        /// How long that was waited for.
        waited: Duration,
    },
    /// The kernel refused something for which there is no word here.
    #[error("{what} failed in process {pid} (errno {errno})")]
    System {
        /// Its id.
        pid: u32,
        /// What was asked for.
        what: &'static str,
        /// The number of the kernel's error.
        errno: i32,
    },
}

impl InjectionError {
    /// What the user can do; nothing where the message says it, and for [`Self::Attach`], which others know.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::RemoteDebuggingOff { .. } => {
                "start the program without PYTHON_DISABLE_REMOTE_DEBUG and -X disable-remote-debug, or trace it from its start"
            }
            Self::Processor { .. } | Self::ShadowStack { .. } | Self::Hidden { .. } => {
                "trace the program from its start"
            }
            Self::Traced { .. } => "let the other tracer detach first",
            Self::Stopped { .. } => "continue the process with `kill -CONT` first",
            Self::Blocked { .. } => {
                "try again when its main thread is at work, with more patience, or trace the program from its start"
            }
            Self::Busy { .. } => "try again when its main thread has been at work",
            Self::NoPlace { .. } => "give the process a /tmp or /dev/shm in which it may write",
            _ => return None,
        })
    }
}
