//! `run`: our options, then a program with its own.

use std::ffi::OsString;

use clap::Args;

use super::output::{OutputArgs, OutputOptions};
use super::program::{ProgramArgs, ProgramSpec};
use super::recording::{RecordingArgs, RecordingOptions};
use crate::errors::Failure;

const EXAMPLES: &str = "\
Examples:
  pystrobe run script.py --its --own args
  pystrobe run -o out.pstats -o flame.svg script.py
  pystrobe run -m pytest -q tests/
  pystrobe run -c 'import this'
  pystrobe run --python python3.12 script.py
  pystrobe run -d 30 -o out.pstats -- gunicorn app:app
  pystrobe run --subprocesses -o 'out-{pid}.pstats' -- make test";

/// Run a Python program and sample it from its first frame on
///
/// The program runs as it would without pystrobe: same arguments, stdin, stdout, stderr, directory and
/// environment. Everything behind the script, `-m MODULE` or `-c CODE` belongs to the program. pystrobe ends
/// with the status of the program (128 + n where signal n killed it).
///
/// Ctrl-C reaches the program as always; the profile is saved when the program ends. A second Ctrl-C kills
/// the program. SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 that are sent to pystrobe are passed on to the
/// program.
///
/// The program itself is sampled; with --subprocesses also the processes that it starts, and then it need not be a
/// Python itself.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "pystrobe run [OPTIONS] <SCRIPT> [ARGS]...\n       \
                      pystrobe run [OPTIONS] -m <MODULE> [ARGS]...\n       \
                      pystrobe run [OPTIONS] -c <CODE> [ARGS]...\n       \
                      pystrobe run [OPTIONS] -- <COMMAND> [ARGS]..."
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    program: ProgramArgs,

    #[command(flatten)]
    recording: RecordingArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// What `run` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunOptions {
    /// What to start.
    pub(crate) program: ProgramSpec,
    /// How to record.
    pub(crate) recording: RecordingOptions,
    /// What to write.
    pub(crate) output: OutputOptions,
}

impl RunArgs {
    /// What was typed, as plain options. `typed` is the whole command line.
    ///
    /// # Errors
    ///
    /// Where the outputs cannot be meant, where `--python` is given for a command that names its own, and where
    /// `-mMODULE` hides where the program's own arguments begin.
    pub(super) fn into_options(self, typed: &[OsString]) -> Result<RunOptions, Failure> {
        Ok(RunOptions {
            program: self.program.into_spec(typed)?,
            recording: self.recording.into_options(),
            output: self.output.into_options()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Request};

    fn parsed(typed: &[&str]) -> Result<RunOptions, String> {
        let typed: Vec<OsString> = ["pystrobe", "run"]
            .iter()
            .chain(typed)
            .map(OsString::from)
            .collect();
        match Cli::read(&typed) {
            Ok(Request::Run(options)) => Ok(options),
            Ok(other) => Err(format!("{other:?}")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn program(typed: &[&str]) -> Vec<String> {
        let program = parsed(typed).unwrap().program;
        let mut words = vec![program.candidates[0].clone()];
        words.extend(program.arguments);
        words
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_follows_the_program_belongs_to_it() {
        for (typed, expected) in [
            ("script.py -o x", "python3 script.py -o x"),
            ("script.py --help", "python3 script.py --help"),
            ("script.py -- -q", "python3 script.py -- -q"),
            ("script.py -m x -c y", "python3 script.py -m x -c y"),
            ("-m pytest -q tests/", "python3 -m pytest -q tests/"),
            ("-m pytest -- -q", "python3 -m pytest -- -q"),
            (
                "-m pytest -o x=y -m slow",
                "python3 -m pytest -o x=y -m slow",
            ),
            ("-c pass -q --help", "python3 -c pass -q --help"),
            ("-c pass -m x", "python3 -c pass -m x"),
            ("-", "python3 -"),
            ("-mpytest", "python3 -m pytest"),
            ("-qm pytest -x", "python3 -m pytest -x"),
            ("--python pypy script.py -q", "pypy script.py -q"),
            ("-- gunicorn app:app -q", "gunicorn app:app -q"),
            ("-- python3 -- x", "python3 -- x"),
            ("-q -- -odd", "-odd"),
        ] {
            let typed: Vec<&str> = typed.split(' ').collect();
            assert_eq!(program(&typed).join(" "), expected, "{typed:?}");
        }
    }

    #[test]
    fn what_precedes_the_program_is_ours() {
        let options = parsed(&[
            "-o",
            "out.pstats",
            "-d",
            "2m",
            "script.py",
            "--its",
            "--own",
            "args",
        ])
        .unwrap();
        assert_eq!(options.output.outputs.len(), 1);
        assert_eq!(options.recording.duration.unwrap().as_secs(), 120);
        assert_eq!(options.program.arguments.len(), 4);
        assert!(parsed(&["-q", "-m", "x"]).unwrap().recording.quiet);
        assert!(!parsed(&["-m", "x", "-q"]).unwrap().recording.quiet);
    }

    #[test]
    fn without_a_python_two_names_are_tried() {
        let program = parsed(&["script.py"]).unwrap().program;
        assert_eq!(program.candidates, ["python3", "python"]);
        let program = parsed(&["--", "script.py"]).unwrap().program;
        assert_eq!(program.candidates, ["script.py"]);
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        assert!(parsed(&[]).is_err());
        assert!(parsed(&["-q"]).is_err());
        assert!(parsed(&["--unknown", "script.py"]).is_err());
        assert!(parsed(&["-mpytest", "-q"]).unwrap_err().contains("glued"));
        let twice = parsed(&["--python", "pypy", "--", "gunicorn"]);
        assert!(twice.unwrap_err().contains("--python"));
    }
}
