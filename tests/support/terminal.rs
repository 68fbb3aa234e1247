//! A command on a terminal, with a keyboard: the only honest way to press Ctrl-C.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};

use super::interpreters;
use super::process::PATIENCE;
use super::pystrobe::{Finished, PROGRAM, Pystrobe, Session};

/// Python's `pty.spawn` makes the terminal, carries bytes, and ends as the command ends.
const HOST: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/// A pystrobe whose stdin, stdout and stderr are a terminal of its own.
pub(crate) struct Terminal {
    /// The host of the terminal; what it has on stdout is what the terminal shows.
    pub(crate) session: Session,
    keyboard: ChildStdin,
}

impl Terminal {
    /// Starts pystrobe with these words.
    pub(crate) fn start<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Terminal {
        let mut command = Command::new(&interpreters::newest().path);
        command
            .args(["-c", HOST, PROGRAM])
            .args(words)
            .env("TERM", "xterm")
            .env("COLUMNS", "200");
        let mut session = Pystrobe::from(command).stdin(Stdio::piped()).start();
        let keyboard = session.running.child().stdin.take().unwrap();
        Terminal { session, keyboard }
    }

    /// The process id of pystrobe, which is the host's only child.
    pub(crate) fn pid(&self) -> u32 {
        let host = self.session.running.pid();
        let began = std::time::Instant::now();
        loop {
            let children = std::fs::read_to_string(format!("/proc/{host}/task/{host}/children"));
            let child = children.unwrap().trim().to_owned();
            let command = std::fs::read_to_string(format!("/proc/{child}/comm"));
            if command.is_ok_and(|command| command.trim() == "pystrobe") {
                return child.parse().unwrap();
            }
            assert!(began.elapsed() < PATIENCE, "pystrobe does not start");
            std::thread::yield_now();
        }
    }

    /// What the terminal does with the key: it signals everyone in the foreground.
    pub(crate) fn press_ctrl_c(&mut self) {
        self.keyboard.write_all(b"\x03").unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits for it to end.
    pub(crate) fn finish(self) -> Finished {
        self.session.finish()
    }
}
