//! A Python program that is running, to be recorded.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::interpreters::Interpreter;
use super::process::{PATIENCE, Running};
use super::target_script;

/// A target that has said `ready`. It is killed when it goes out of scope.
pub(crate) struct Target {
    running: Running,
    lines: Receiver<String>,
    /// What it said with `ready`.
    pub(crate) news: Value,
}

impl Target {
    /// Starts a program of `tests/targets` and waits until it says `ready`.
    pub(crate) fn launch(python: &Interpreter, script: &str, arguments: &[&str]) -> Target {
        let mut command = python.command();
        command.arg(target_script(script)).args(arguments);
        Target::start(&mut command)
    }

    /// Starts any command that ends in a target, and waits until it says `ready`.
    pub(crate) fn start(command: &mut Command) -> Target {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(command);
        let stdout = running.child().stdout.take().unwrap();
        let lines = lines_of(stdout);
        let mut target = Target {
            running,
            lines,
            news: Value::Null,
        };
        let line = target.line();
        let news = line
            .strip_prefix("ready")
            .unwrap_or_else(|| panic!("expected `ready` from the target, got `{line}`"));
        target.news = serde_json::from_str(news.trim()).unwrap_or(Value::Null);
        target
    }

    /// Its process id, as the tests see it.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its next line.
    pub(crate) fn line(&mut self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("the target says nothing: {error}"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.running.ended().is_none()
    }

    /// Ends it as it wants to be ended, and gives what it says about itself.
    pub(crate) fn stop(mut self) -> Value {
        self.signal(Signal::SIGTERM);
        let answer = self.line();
        serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("the target's answer `{answer}`: {error}"))
    }
}

fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stdout);
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|length| length > 0) {
            if sender.send(line.trim_end().to_owned()).is_err() {
                break;
            }
            line.clear();
        }
        // Nobody listens any more: what is left is read, so that the target never blocks on a full pipe.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    receiver
}
