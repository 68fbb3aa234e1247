//! The built program, run as a user runs it.

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::process::{Gathered, PATIENCE, Running};

/// The path of the built program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_pystrobe");

/// A run of pystrobe that is being put together.
pub(crate) struct Pystrobe {
    command: Command,
}

/// `pystrobe` and words after it. With no stdin, and nothing of the tests' own settings that would change it.
pub(crate) fn pystrobe<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Pystrobe {
    let mut command = Command::new(PROGRAM);
    command.args(arguments);
    Pystrobe::from(command)
}

impl From<Command> for Pystrobe {
    /// Any command that ends in pystrobe.
    fn from(mut command: Command) -> Pystrobe {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("NO_COLOR");
        Pystrobe { command }
    }
}

impl Pystrobe {
    /// One more word.
    pub(crate) fn arg(mut self, word: impl AsRef<OsStr>) -> Pystrobe {
        self.command.arg(word);
        self
    }

    /// More words.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Pystrobe {
        self.command.args(words);
        self
    }

    /// Where it runs.
    pub(crate) fn dir(mut self, folder: &Path) -> Pystrobe {
        self.command.current_dir(folder);
        self
    }

    /// A setting in its environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Pystrobe {
        self.command.env(name, value);
        self
    }

    /// What it reads from.
    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Pystrobe {
        self.command.stdin(stdin);
        self
    }

    /// Starts it, for tests that do something meanwhile.
    pub(crate) fn start(mut self) -> Session {
        let began = Instant::now();
        let mut running = Running::start(&mut self.command);
        let stdout = Gathered::from(running.child().stdout.take().unwrap());
        let stderr = Gathered::from(running.child().stderr.take().unwrap());
        Session {
            running,
            stdout,
            stderr,
            began,
        }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }
}

/// A pystrobe that is running.
pub(crate) struct Session {
    /// Its process.
    pub(crate) running: Running,
    /// What it, or the program that it started, has written to stdout.
    pub(crate) stdout: Gathered,
    /// The same of stderr.
    pub(crate) stderr: Gathered,
    began: Instant,
}

impl Session {
    /// Waits until it takes samples.
    pub(crate) fn is_sampling(&self) {
        self.is_sampling_in(self.running.pid());
    }

    /// Waits until the pystrobe with this process id, below this session, has taken samples from now on: until it has gone to
    /// sleep and woken up as often as only a sampler does.
    pub(crate) fn is_sampling_in(&self, pid: u32) {
        let tasks = format!("/proc/{pid}/task");
        let naps = || -> u64 {
            let Ok(tasks) = std::fs::read_dir(&tasks) else {
                return 0;
            };
            tasks
                .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
                .filter_map(|status| {
                    let line = status
                        .lines()
                        .find(|line| line.starts_with("voluntary_ctxt_switches"))?;
                    line.split_whitespace().last()?.parse::<u64>().ok()
                })
                .sum()
        };
        let began = Instant::now();
        let enough = naps() + 200;
        while naps() < enough {
            assert!(
                began.elapsed() < PATIENCE && !self.stderr.is_over(),
                "pystrobe does not begin to sample: {}",
                String::from_utf8_lossy(&self.stderr.so_far())
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for it to end.
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.running.wait();
        let took = self.began.elapsed();
        let finished = Finished {
            status: status.unwrap_or_else(|| ExitStatus::from_raw(0)),
            stdout: self.stdout.all(),
            stderr: String::from_utf8_lossy(&self.stderr.all()).into_owned(),
            took,
        };
        assert!(
            status.is_some(),
            "pystrobe did not end within {PATIENCE:?}: {finished:?}"
        );
        finished
    }
}

/// What a run brought.
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What was on stdout.
    pub(crate) stdout: Vec<u8>,
    /// What was on stderr.
    pub(crate) stderr: String,
    /// How long it took.
    pub(crate) took: Duration,
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} after {:?}\nstdout: {}\nstderr: {}",
            self.status,
            self.took,
            String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(4000)]),
            self.stderr
        )
    }
}

impl Finished {
    /// Its exit code; a run that a signal ended has none.
    pub(crate) fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// It has to have succeeded.
    pub(crate) fn ok(self) -> Finished {
        assert!(self.status.success(), "{self:?}");
        self
    }

    /// What was on stdout, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// The summary on stderr; there has to be one.
    pub(crate) fn summary(&self) -> Summary {
        self.stderr
            .lines()
            .find_map(Summary::parse)
            .unwrap_or_else(|| panic!("no summary on stderr: {self:?}"))
    }

    /// That it failed as an expected error does: that code, one line that holds all the `words`, a hint or none, no
    /// backtrace, and nothing on stdout. What was recorded before that may have been summed up.
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code(), code, "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
        let lines: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| !line.is_empty())
            .collect();
        assert!(!lines.is_empty(), "{self:?}");
        let errors = lines
            .iter()
            .filter(|line| !line.starts_with("hint:") && Summary::parse(line).is_none())
            .count();
        assert_eq!(errors, 1, "one line, and a hint: {self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` in {self:?}");
        }
        for word in ["panicked", "backtrace", "Some(", "Err("] {
            assert!(!self.stderr.contains(word), "`{word}` in {self:?}");
        }
    }
}

/// The line at the end of a recording: `12345 samples in 2.00 s (6172/s): 3 repaired, 0 truncated, 0 lost`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    /// Samples taken.
    pub(crate) samples: u64,
    /// Over how many seconds.
    pub(crate) seconds: f64,
    /// Samples that were read twice or more.
    pub(crate) repaired: u64,
    /// Stacks that were cut short.
    pub(crate) truncated: u64,
    /// Samples that brought nothing.
    pub(crate) lost: u64,
    /// Ticks that were not caught up; said only where there were any.
    pub(crate) skipped: u64,
    /// The whole line.
    pub(crate) line: String,
}

impl Summary {
    fn parse(line: &str) -> Option<Summary> {
        let (samples, rest) = line.split_once(" samples in ")?;
        let (seconds, rest) = rest.split_once(" s (")?;
        let (_, counts) = rest.split_once("/s): ")?;
        let count = |name: &str| -> Option<u64> {
            counts
                .split(", ")
                .find_map(|part| part.strip_suffix(name)?.trim().parse().ok())
        };
        Some(Summary {
            samples: samples.trim().parse().ok()?,
            seconds: seconds.parse().ok()?,
            repaired: count(" repaired")?,
            truncated: count(" truncated")?,
            lost: count(" lost")?,
            skipped: count(" skipped").unwrap_or(0),
            line: line.to_owned(),
        })
    }
}
