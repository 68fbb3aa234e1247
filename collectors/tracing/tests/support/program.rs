//! A Python program that says when it is ready, and at the end what happened to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::interpreters::{Interpreter, target_file};

/// A program of `tests/targets`; ends with the value.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts one with arguments, and waits until it prints `ready`.
    pub(crate) fn start(python: &Interpreter, file: &str, arguments: &[&str]) -> Self {
        let mut command = python.command();
        command.arg(target_file(file)).args(arguments);
        Self::run(&mut command)
    }

    /// Starts any command that becomes such a program.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut program = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        assert_eq!(program.line(), "ready", "{command:?}");
        program
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        String::from(line.trim_end())
    }

    /// Writes a line to its stdin.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes its stdin, waits for its end, which has to be a good one, and gives what it has printed.
    pub(crate) fn finish(&mut self) -> String {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {rest}");
        rest
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it, and leaves it a zombie.
    pub(crate) fn leave_dead(&mut self) {
        self.child.kill().unwrap();
        while pystrobe_sampling::process::is_alive(self.pid()) {
            std::thread::yield_now();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself, which is not what a test is about.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
