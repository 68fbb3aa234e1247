//! `trace`: what to record, then a program with its own arguments.

use std::ffi::OsString;

use clap::Args;
use clap::builder::RangedI64ValueParser;
use pystrobe_tracing::recording::Times;
use pystrobe_tracing::{Options, Pattern};

use super::output::{OutputOptions, PlaceArgs};
use super::program::{ProgramArgs, ProgramSpec};
use crate::errors::Failure;

const EXAMPLES: &str = "\
Examples:
  pystrobe trace script.py --its --own args
  pystrobe trace -o out.pstats -o flame.svg script.py
  pystrobe trace --no-builtins -o out.pstats -m pytest -q tests/
  pystrobe trace --only 'shop.cart:*' --only 'django/db/**' -o out.pstats script.py
  pystrobe trace --subprocesses -o 'out-{pid}.pstats' -- make test";

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
#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "pystrobe trace [OPTIONS] <SCRIPT> [ARGS]...\n       \
                      pystrobe trace [OPTIONS] -m <MODULE> [ARGS]...\n       \
                      pystrobe trace [OPTIONS] -c <CODE> [ARGS]...\n       \
                      pystrobe trace [OPTIONS] -- <COMMAND> [ARGS]..."
)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    program: ProgramArgs,

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

    /// No summary on stderr; errors stay
    #[arg(short, long)]
    quiet: bool,
}

/// What the shared file can number, and makes sense.
fn places() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1024..=1 << 27)
}

/// What `trace` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TraceOptions {
    /// What to start.
    pub(crate) program: ProgramSpec,
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
    /// As those of `run`.
    pub(super) fn into_options(self, typed: &[OsString]) -> Result<TraceOptions, Failure> {
        Ok(TraceOptions {
            program: self.program.into_spec(typed)?,
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
        assert_eq!(options.program.arguments.len(), 3);
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
        assert_eq!(options.program.arguments, ["-m", "app", "--only", "theirs"]);
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
