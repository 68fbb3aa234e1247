//! `top`: a process id, or a program with its own arguments, and how to sample it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, value_parser};

use super::program::{ProgramArgs, ProgramSpec};
use super::recording::{RecordingArgs, RecordingOptions};
use crate::errors::Failure;

const EXAMPLES: &str = "\
Examples:
  pystrobe top 1234
  pystrobe top -r 5khz --thread MainThread 1234
  pystrobe top script.py --its --own args
  pystrobe top --program-output out.txt -m pytest -q tests/
  pystrobe top -- gunicorn app:app";

/// Watch what a Python program does, live on the terminal
///
/// Shows the functions that take the time, now and since the start, by thread, and who calls whom; `?` shows
/// the keys and `q` ends. A number is the process id of a running program, which is neither stopped nor changed;
/// anything else is a program to start, as `run` takes it (`./1234` is a script). Such a program reads nothing,
/// and what it prints goes to --program-output.
///
/// What is now is a decaying mean: what was seen two seconds ago counts half of what is seen now.
///
/// SIGTERM, SIGHUP and SIGINT restore the terminal and end both pystrobe and a program that it started.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "pystrobe top [OPTIONS] <PID>\n       \
                      pystrobe top [OPTIONS] <SCRIPT> [ARGS]...\n       \
                      pystrobe top [OPTIONS] -m <MODULE> [ARGS]...\n       \
                      pystrobe top [OPTIONS] -c <CODE> [ARGS]...\n       \
                      pystrobe top [OPTIONS] -- <COMMAND> [ARGS]...",
    mut_arg("script", |script| {
        script
            .value_name("PID|SCRIPT")
            .help("A process id, or a script and its arguments; behind `--` any command that is or becomes a Python")
    }),
)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    program: ProgramArgs,

    /// Where a program that is started here writes its stdout and stderr [default: nowhere]
    ///
    /// The file is created, or emptied first. The terminal is the view's.
    #[arg(long, value_name = "FILE", value_parser = value_parser!(PathBuf))]
    program_output: Option<PathBuf>,

    /// Show only the thread of this name or thread id at first; `t` chooses others
    #[arg(long, value_name = "NAME|TID")]
    thread: Option<String>,

    #[command(flatten)]
    recording: RecordingArgs,
}

/// What `top` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopOptions {
    /// What to watch.
    pub(crate) subject: Subject,
    /// The thread that is shown at first; all where there is none.
    pub(crate) thread: Option<String>,
    /// How to record.
    pub(crate) recording: RecordingOptions,
}

/// What to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A running process.
    Process(u32),
    /// A program to start, and the file for what it prints.
    Program(ProgramSpec, Option<PathBuf>),
}

impl TopArgs {
    /// What was typed, as plain options. `typed` is the whole command line.
    ///
    /// # Errors
    ///
    /// As with `run`; for a number that no process can have, or with words behind it; and where
    /// `--program-output` is given for a process that runs already.
    pub(super) fn into_options(self, typed: &[OsString]) -> Result<TopOptions, Failure> {
        let number = match self.program.plain_words(typed) {
            Some([word, rest @ ..]) => pid(word, rest)?,
            _ => None,
        };
        let subject = match (number, self.program_output) {
            (Some(_), Some(_)) => {
                return Err(Failure::usage(
                    "--program-output is for programs that are started here",
                    "leave it out: a process that runs already keeps its output",
                ));
            }
            (Some(pid), None) => Subject::Process(pid),
            (None, output) => Subject::Program(self.program.into_spec(typed)?, output),
        };
        Ok(TopOptions {
            subject,
            thread: self.thread,
            recording: self.recording.into_options(),
        })
    }
}

/// A word of digits is a process id.
fn pid(word: &OsStr, rest: &[OsString]) -> Result<Option<u32>, Failure> {
    let Some(word) = word.to_str() else {
        return Ok(None);
    };
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    if let Some(more) = rest.first() {
        return Err(Failure::usage(
            format!(
                "`{}` is one word too many behind the process id {word}",
                more.display()
            ),
            format!("put options before it; a script of that name is ./{word}"),
        ));
    }
    match word.parse::<i32>() {
        Ok(number) if number > 0 => Ok(Some(number.unsigned_abs())),
        _ => Err(Failure::usage(
            format!("{word} cannot be a process id"),
            "process ids are positive numbers: `pgrep -a python`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::{Cli, Request};

    fn parsed(typed: &str) -> Result<TopOptions, String> {
        let typed: Vec<OsString> = ["pystrobe", "top"]
            .into_iter()
            .chain(typed.split_whitespace())
            .map(OsString::from)
            .collect();
        match Cli::read(&typed) {
            Ok(Request::Top(options)) => Ok(options),
            Ok(other) => Err(format!("{other:?}")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn program(typed: &str) -> String {
        let Subject::Program(spec, _) = parsed(typed).unwrap().subject else {
            panic!("{typed} is a process id");
        };
        let mut words = vec![spec.candidates[0].clone()];
        words.extend(spec.arguments);
        words.join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn a_number_is_a_process() {
        let options = parsed("-d 2m -r 10ms --blocking -q --thread worker 1234").unwrap();
        assert_eq!(options.subject, Subject::Process(1234));
        assert_eq!(options.thread.as_deref(), Some("worker"));
        assert_eq!(options.recording.duration, Some(Duration::from_secs(120)));
        assert_eq!(options.recording.interval, Duration::from_millis(10));
        assert!(options.recording.blocking && options.recording.quiet);
    }

    #[test]
    fn anything_else_is_a_program() {
        assert_eq!(program("script.py -d 5 12"), "python3 script.py -d 5 12");
        assert_eq!(program("-m pytest -q"), "python3 -m pytest -q");
        assert_eq!(program("-c pass 12"), "python3 -c pass 12");
        assert_eq!(program("--python pypy 12"), "pypy 12");
        assert_eq!(program("-- 12"), "12");
        assert_eq!(program("./12"), "python3 ./12");
        let with_output = parsed("--program-output x.txt script.py").unwrap();
        let Subject::Program(_, Some(file)) = with_output.subject else {
            panic!("{with_output:?}");
        };
        assert_eq!(file, PathBuf::from("x.txt"));
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        assert!(parsed("").is_err());
        assert!(parsed("0").unwrap_err().contains("process id"));
        assert!(parsed("99999999999").unwrap_err().contains("process id"));
        assert!(parsed("1234 -d 5").unwrap_err().contains("-d"));
        let output = parsed("--program-output x.txt 1234");
        assert!(output.unwrap_err().contains("--program-output"));
    }
}
