//! The program that `run` starts: the one place that starts it, signals it and waits for it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::args::ProgramSpec;
use crate::errors::Failure;
use crate::exit_code;

/// A program and what is left of it. Shared by the main thread and the one that handles signals.
#[derive(Debug, Default)]
pub(crate) struct Program {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    NotStarted,
    Running(Child),
    /// It has ended and was waited for: its process id may be somebody else's now.
    Ended,
}

/// Where a program is in its life, as far as signals are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It does not exist yet.
    NotStarted,
    /// It can be signalled.
    Running,
    /// It is gone.
    Ended,
}

impl Program {
    /// Starts the first of the candidates that is found, with our stdin, stdout, stderr, directory,
    /// environment and process group, after `prepare` has changed what of these it gets. `Command` gives it the signal mask that we were
    /// started with, and the default SIGPIPE, which Rust ignores in ourselves; exec itself resets the signals that we handle.
    ///
    /// # Errors
    ///
    /// Where none is found, or it cannot be started, and those of `prepare`.
    pub(crate) fn start(
        &self,
        spec: &ProgramSpec,
        mut prepare: impl FnMut(&mut Command) -> Result<(), Failure>,
    ) -> Result<u32, Failure> {
        // Held while starting: a signal that comes meanwhile is passed on as soon as there is somebody.
        let mut state = self.lock();
        for candidate in &spec.candidates {
            let mut command = Command::new(candidate);
            command.args(&spec.arguments);
            prepare(&mut command)?;
            match command.spawn() {
                Ok(child) => {
                    let pid = child.id();
                    *state = State::Running(child);
                    return Ok(pid);
                }
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(Failure::Spawn {
                        program: candidate.to_string_lossy().into_owned(),
                        hint: None,
                        source,
                    });
                }
            }
        }
        Err(not_found(&spec.candidates))
    }

    /// Sends it a signal, where it exists.
    pub(crate) fn signal(&self, number: i32) {
        let state = self.lock();
        if let (State::Running(child), Ok(signal)) = (&*state, Signal::try_from(number)) {
            // It may have ended this moment; until it is waited for, the id is still its own.
            let _ = kill(pid_of(child), signal);
        }
    }

    /// Where it is in its life.
    pub(crate) fn stage(&self) -> Stage {
        match &*self.lock() {
            State::NotStarted => Stage::NotStarted,
            State::Running(_) => Stage::Running,
            State::Ended => Stage::Ended,
        }
    }

    /// Whether it has ended. It is not waited for by this: its process id stays its own, which matters to those who
    /// read its memory.
    pub(crate) fn has_ended(&self) -> bool {
        match &*self.lock() {
            State::NotStarted => false,
            State::Running(child) => {
                let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
                !matches!(
                    waitid(Id::Pid(pid_of(child)), flags),
                    Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)
                )
            }
            State::Ended => true,
        }
    }

    /// Waits for its end, and keeps its process id.
    ///
    /// # Errors
    ///
    /// Where there is none, or somebody else waited for it.
    pub(crate) fn wait_for_end(&self) -> Result<(), Failure> {
        let pid = match &*self.lock() {
            State::Running(child) => pid_of(child),
            State::NotStarted | State::Ended => {
                return Err(Failure::Wait(Errno::ECHILD.into()));
            }
        };
        // Without the lock, which cannot be held for so long: signals must get through.
        while let Err(errno) = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            if errno != Errno::EINTR {
                return Err(Failure::Wait(errno.into()));
            }
        }
        Ok(())
    }

    /// Waits for its end, and lets go of its process id. Nobody may be reading it any more.
    ///
    /// # Errors
    ///
    /// Where there is none, or somebody else waited for it.
    pub(crate) fn wait(&self) -> Result<ExitStatus, Failure> {
        self.wait_for_end()?;
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Ended) {
            State::Running(mut child) => child.wait().map_err(Failure::Wait),
            State::NotStarted | State::Ended => Err(Failure::Wait(Errno::ECHILD.into())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exit status that a shell would give for it.
pub(crate) fn as_shell_status(status: ExitStatus) -> u8 {
    let number = match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).ok(),
        (None, Some(signal)) => u8::try_from(signal)
            .ok()
            .and_then(|signal| signal.checked_add(exit_code::KILLED)),
        (None, None) => None,
    };
    number.unwrap_or(exit_code::UNEXPECTED)
}

fn not_found(candidates: &[OsString]) -> Failure {
    let names: Vec<_> = candidates
        .iter()
        .map(|candidate| candidate.to_string_lossy())
        .collect();
    let looked_for_an_interpreter = candidates.len() > 1;
    Failure::Spawn {
        program: names.join(" or "),
        hint: looked_for_an_interpreter
            .then_some("name the interpreter by --python, or give any command behind `--`"),
        source: io::ErrorKind::NotFound.into(),
    }
}

fn pid_of(child: &Child) -> Pid {
    // Linux's process ids end at 2^22.
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(candidates: &[&str], arguments: &[&str]) -> ProgramSpec {
        ProgramSpec {
            candidates: candidates.iter().map(OsString::from).collect(),
            arguments: arguments.iter().map(OsString::from).collect(),
        }
    }

    fn status_of(script: &str) -> u8 {
        let program = Program::default();
        program
            .start(&spec(&["sh"], &["-c", script]), |_| Ok(()))
            .unwrap();
        as_shell_status(program.wait().unwrap())
    }

    #[test]
    fn its_status_is_what_a_shell_would_say() {
        assert_eq!(status_of("exit 0"), 0);
        assert_eq!(status_of("exit 77"), 77);
        assert_eq!(status_of("kill -TERM $$"), 143);
        assert_eq!(status_of("kill -KILL $$"), 137);
    }

    #[test]
    fn the_first_that_is_found_is_started() {
        let program = Program::default();
        program
            .start(&spec(&["no-such-program-here", "true"], &[]), |_| Ok(()))
            .unwrap();
        assert!(program.wait().unwrap().success());
        let missing = Program::default()
            .start(
                &spec(&["no-such-program-here", "nor-this-one"], &[]),
                |_| Ok(()),
            )
            .unwrap_err();
        assert_eq!(missing.exit_code(), 127);
        let directory = Program::default()
            .start(&spec(&["/"], &[]), |_| Ok(()))
            .unwrap_err();
        assert_eq!(directory.exit_code(), 126);
    }

    #[test]
    fn looking_whether_it_ended_does_not_wait_for_it() {
        let program = Program::default();
        assert_eq!(program.stage(), Stage::NotStarted);
        program
            .start(&spec(&["sleep"], &["1000"]), |_| Ok(()))
            .unwrap();
        assert!(!program.has_ended());
        program.signal(9);
        while !program.has_ended() {
            std::thread::yield_now();
        }
        assert_eq!(program.stage(), Stage::Running);
        assert_eq!(as_shell_status(program.wait().unwrap()), 137);
        assert_eq!(program.stage(), Stage::Ended);
        assert!(program.has_ended());
        program.signal(9);
        assert!(program.wait().is_err());
    }
}
