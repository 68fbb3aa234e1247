//! What is about to be recorded: a process, or one with its descendants.

use std::time::Duration;

use pystrobe_profile::Measured;

use crate::attach_error::AttachError;
use crate::discovery::{self, Interpreter, Roots};
use crate::layout::{GilPlace, TaskLayout};
use crate::process;
use crate::processor_time::{is_accounted, tells_waits};

/// How long an interpreter that is still starting is waited for.
const STARTING: Duration = Duration::from_secs(2);

/// A Python process, looked at and found readable; or any process whose descendants are to be recorded.
#[derive(Debug)]
pub struct Target {
    pid: u32,
    /// `None` where nobody has looked for it: it may be a Python, become one, or start some.
    pub(crate) interpreter: Option<Interpreter>,
    command: String,
}

impl Target {
    /// Finds the interpreter in a running process. Quick, whatever the process is.
    ///
    /// # Errors
    ///
    /// What stands in the way; see [`AttachError`].
    pub fn attach(pid: u32) -> Result<Self, AttachError> {
        discovery::attach(pid, STARTING).map(Self::of)
    }

    /// Keeps looking until the process has become a Python: it may execute shells and wrappers first.
    /// Ends without one when the process has ended or `give_up` says so.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`], and [`AttachError::GaveUp`].
    pub fn wait_for(pid: u32, give_up: impl FnMut() -> bool) -> Result<Self, AttachError> {
        discovery::wait_for(pid, give_up).map(Self::of)
    }

    /// Finds the interpreter in a descendant of another process, which may still be in that one's memory, or be about to
    /// execute another program: what it is now.
    ///
    /// # Errors
    ///
    /// As [`Self::attach`].
    pub fn attach_descendant(pid: u32) -> Result<Self, AttachError> {
        discovery::attach_descendant(pid).map(Self::of)
    }

    /// A process that is to be recorded with its descendants ([`Options::subprocesses`](crate::Options)),
    /// whatever it executes itself.
    #[must_use]
    pub fn tree(pid: u32) -> Self {
        Self {
            pid,
            interpreter: None,
            command: process::command_line(pid),
        }
    }

    fn of(interpreter: Interpreter) -> Self {
        Self {
            interpreter: Some(interpreter.clone()),
            ..Self::tree(interpreter.pid)
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The command line, words joined by spaces.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The version of its Python, as `3.12.1`; empty where that is not known.
    #[must_use]
    pub fn python(&self) -> &str {
        match &self.interpreter {
            Some(interpreter) => &interpreter.python,
            None => "",
        }
    }

    /// Which clocks a recording of it measures. Of a tree these are all that the kernel lets us: which processes it will have is
    /// not known, and those that have fewer are counted ([`LeftOut::clocks`](crate::LeftOut)).
    #[must_use]
    pub fn measured(&self) -> Measured {
        match &self.interpreter {
            Some(interpreter) => measured(interpreter),
            None => all_measured(self.pid),
        }
    }

    /// Whether its version tells its asyncio tasks: 3.14 and later. Nobody knows of a process that may not be a Python yet.
    #[must_use]
    pub fn tells_tasks(&self) -> bool {
        self.interpreter.as_ref().is_none_or(|interpreter| {
            !interpreter.legacy && TaskLayout::is_published_by(interpreter.layout.version)
        })
    }

    /// Whether the interpreter is so old that it can only be read while it is paused: 2.7 and 3.3 to 3.7.
    #[must_use]
    pub fn paused_at_each_sample(&self) -> bool {
        self.interpreter
            .as_ref()
            .is_some_and(|interpreter| interpreter.legacy)
    }
}

/// Which clocks there are for a process of which nothing more is known.
fn all_measured(pid: u32) -> Measured {
    let accounted = is_accounted(pid);
    Measured {
        cpu: accounted,
        gil: true,
        gil_wait: accounted,
        exception: true,
        waiting: accounted,
    }
}

/// Which clocks there are for an interpreter.
pub(crate) fn measured(interpreter: &Interpreter) -> Measured {
    if interpreter.legacy {
        return Measured::default();
    }
    // Up to 3.11 the lock is in the runtime, which is not found in every process; builds without a GIL have none that is held.
    let lock_is_found = match interpreter.layout.gil.place {
        GilPlace::Runtime(_) => matches!(interpreter.roots, Roots::Runtime(_)),
        GilPlace::Interpreter(_) => true,
    };
    let gil = lock_is_found && !interpreter.layout.free_threaded;
    Measured {
        gil,
        gil_wait: gil && tells_waits(interpreter.pid),
        exception: interpreter.none.is_some(),
        ..all_measured(interpreter.pid)
    }
}

/// Whether a process of a tree has fewer clocks than its tree.
pub(crate) fn lacks_clocks(interpreter: &Interpreter) -> bool {
    measured(interpreter) != all_measured(interpreter.pid)
}
