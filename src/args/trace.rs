//! `trace`: what to record, then a program with its own arguments.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedI64ValueParser;
use pystrobe_tracing::recording::Times;
use pystrobe_tracing::{Options, Pattern};

use super::duration::duration;
use super::output::{OutputOptions, PlaceArgs};
use super::program::{ProgramArgs, ProgramSpec};
use super::target::pid;
use crate::errors::Failure;

const EXAMPLES: &str = "\
Examples:
  pystrobe trace script.py --its --own args
  pystrobe trace -o out.pstats -o flame.svg script.py
  pystrobe trace --no-builtins -o out.pstats -m pytest -q tests/
  pystrobe trace --only 'shop.cart:*' --only 'django/db/**' -o out.pstats script.py
  pystrobe trace --subprocesses -o 'out-{pid}.pstats' -- make test
  pystrobe trace --pid 1234 -d 5 -o out.pstats";

/// Run a Python program and count every call
///
/// What cProfile does, with the same counts: for each function how often it was called and by whom, and the time
/// in it. It costs less, keeps threads apart, and knows whole call paths, so that flame graphs are exact.
///
/// The program runs as it would without pystrobe: same arguments, stdin, stdout, stderr, directory and
/// environment. Everything behind the script, `-m MODULE` or `-c CODE` belongs to the program. pystrobe ends
/// with the status of the program (128 + n where signal n killed it), and signals go where `run` sends them.
/// However the program ends, what it did until then is saved.
///
/// The tracer comes in by Python's site module: -I, -E and -S keep it out. CPython 3.8 to 3.15 with the GIL.
///
/// With --pid it comes into a program that runs already, which goes on as it was when the tracer is taken out again: after
/// --duration, or at Ctrl-C (or SIGTERM or SIGHUP). From CPython 3.14 on the interpreter lets it in itself; up to 3.13 its main thread
/// is stopped for some tens of microseconds, twice. Functions that were running then are the roots, and their calls before that are not known.
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "pystrobe trace [OPTIONS] <SCRIPT> [ARGS]...\n       \
                      pystrobe trace [OPTIONS] -m <MODULE> [ARGS]...\n       \
                      pystrobe trace [OPTIONS] -c <CODE> [ARGS]...\n       \
                      pystrobe trace [OPTIONS] -- <COMMAND> [ARGS]...\n       \
                      pystrobe trace [OPTIONS] --pid <PID>"
)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    program: ProgramArgs,

    /// A running Python program, by its process id
    #[arg(short, long, value_name = "PID", value_parser = pid(), group = "program", conflicts_with_all = ["python", "subprocesses"])]
    pid: Option<u32>,

    #[command(flatten)]
    tracing: TracingArgs,

    #[command(flatten)]
    output: PlaceArgs,
}

/// What to record.
#[derive(Args, Debug)]
#[command(next_help_heading = "Recording options")]
struct TracingArgs {
    /// Leave out functions that are written in C; their time is that of their callers
    #[arg(long)]
    no_builtins: bool,

    /// Only functions that match: MODULE, MODULE:FUNCTION or a file, as in 'shop.cart:*', 'django/db/**'; repeatable
    ///
    /// `shop.cart` is a module with those below it, `shop.cart:Cart.total` a function of a module by its qualified name,
    /// and what has a `/` or ends in .py is the end of a path. `*` stands for any text, but in a path not for
    /// a `/`; there `**` does. Of functions in C those are recorded that one of these calls.
    ///
    /// From CPython 3.12 on, all others run at their own speed.
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::parse)]
    only: Vec<Pattern>,

    /// How many places in the call tree are kept apart
    ///
    /// Calls at places beyond that are added to their caller's, and the summary counts them. Each place takes about
    /// 96 bytes of memory, when it is used.
    #[arg(long, value_name = "NUMBER", value_parser = places(), default_value_t = Options::NODE_LIMIT)]
    max_places: u32,

    /// Leave in the times what it took to count the calls
    ///
    /// That is measured when the program starts, and subtracted: for each call a part from the called function's
    /// own time, and a part from its caller's.
    #[arg(long)]
    no_correction: bool,

    /// Trace the processes that it starts as well, and those that they start
    ///
    /// They end up in one profile, or in one each where an output's name contains {pid}. The recording ends with the
    /// program itself.
    #[arg(long)]
    subprocesses: bool,

    /// With --pid: how long to trace, as in 5, 1.5s, 2min [default: until Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// No summary on stderr; errors stay
    #[arg(short, long)]
    quiet: bool,
}

/// What the shared file can number, and makes sense.
fn places() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1024..=1 << 27)
}

/// A program to trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TraceSpec {
    /// One to start.
    Program(ProgramSpec),
    /// One that runs.
    Running {
        /// Its process id.
        pid: u32,
        /// For how long; nothing: until somebody ends it.
        duration: Option<Duration>,
    },
}

/// What `trace` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceOptions {
    /// What to trace.
    pub(crate) traced: TraceSpec,
    /// What to record.
    pub(crate) tracing: Options,
    /// Which times are written.
    pub(crate) times: Times,
    /// No summary.
    pub(crate) quiet: bool,
    /// What to write.
    pub(crate) output: OutputOptions,
}

impl TraceArgs {
    /// What was typed, as plain options. `typed` is the whole command line.
    ///
    /// # Errors
    ///
    /// As those of `run`, and where an option needs another one.
    pub(super) fn into_options(self, typed: &[OsString]) -> Result<TraceOptions, Failure> {
        // clap's `requires` says nothing where something excludes what is required, as a script does --pid.
        if self.pid.is_none() && self.tracing.duration.is_some() {
            return Err(Failure::usage(
                "--duration goes with --pid",
                "a program that is started is traced until it ends",
            ));
        }
        Ok(TraceOptions {
            traced: match self.pid {
                Some(pid) => TraceSpec::Running {
                    pid,
                    duration: self.tracing.duration,
                },
                None => TraceSpec::Program(self.program.into_spec(typed)?),
            },
            tracing: Options {
                builtins: !self.tracing.no_builtins,
                subprocesses: self.tracing.subprocesses,
                node_limit: self.tracing.max_places,
                only: self.tracing.only,
            },
            times: match self.tracing.no_correction {
                true => Times::Raw,
                false => Times::Corrected,
            },
            quiet: self.tracing.quiet,
            output: self.output.into_options()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Request};

    fn parsed(typed: &[&str]) -> Result<TraceOptions, String> {
        let typed: Vec<OsString> = ["pystrobe", "trace"]
            .iter()
            .chain(typed)
            .map(OsString::from)
            .collect();
        match Cli::read(&typed) {
            Ok(Request::Trace(options)) => Ok(options),
            Ok(other) => Err(format!("{other:?}")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn defaults() {
        let options = parsed(&["script.py", "-q", "--no-builtins"]).unwrap();
        assert_eq!(options.tracing, Options::default());
        assert_eq!(options.times, Times::Corrected);
        assert!(!options.quiet);
        assert_eq!(program(&options).arguments.len(), 3);
    }

    fn program(options: &TraceOptions) -> &ProgramSpec {
        match &options.traced {
            TraceSpec::Program(program) => program,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_that_runs() {
        let options = parsed(&["--pid", "1234", "-d", "2.5s", "--no-builtins"]).unwrap();
        let running = TraceSpec::Running {
            pid: 1234,
            duration: Some(Duration::from_millis(2500)),
        };
        assert_eq!(options.traced, running);
        for wrong in [
            &["--pid", "0"][..],
            &["--pid", "1234", "x.py"],
            &["--pid", "1234", "--python", "python3"],
            &["--pid", "1234", "--subprocesses"],
            &["-d", "5", "x.py"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn everything_at_once() {
        let options = parsed(&[
            "--no-builtins",
            "--only",
            "shop.cart:*",
            "--only",
            "django/db/**",
            "--max-places",
            "5000",
            "--no-correction",
            "--subprocesses",
            "-q",
            "-o",
            "a-{pid}.pstats",
            "-m",
            "app",
            "--only",
            "theirs",
        ])
        .unwrap();
        assert!(!options.tracing.builtins && options.tracing.subprocesses && options.quiet);
        let only: Vec<&str> = options.tracing.only.iter().map(Pattern::text).collect();
        assert_eq!(only, ["shop.cart:*", "django/db/**"]);
        assert_eq!(options.tracing.node_limit, 5000);
        assert_eq!(options.times, Times::Raw);
        assert_eq!(options.output.outputs.len(), 1);
        assert_eq!(
            program(&options).arguments,
            ["-m", "app", "--only", "theirs"]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_an_error() {
        assert!(parsed(&[]).is_err());
        for wrong in [
            &["--only", "", "x.py"][..],
            &["--only", ":f", "x.py"],
            &["--max-places", "0", "x.py"],
            &["--max-places", "1000000000", "x.py"],
            // A tracer has one clock, and calls have no executing line.
            &["--mode", "cpu", "x.py"],
            &["--lines", "x.py"],
            &["--rate", "10", "x.py"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
