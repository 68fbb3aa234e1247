//! pystrobe: a profiler for Python programs, that samples from outside and traces from inside. This is its command line.
//!
//! One file a subcommand, each thin: it opens the outputs, starts a collector, puts its batches together
//! to a profile, and hands that to the exporters. See ARCHITECTURE.md for the way of one `attach`.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{Cli, Request};
use crate::errors::Failure;

mod args;
mod attach;
mod completions;
mod convert;
mod dump;
mod errors;
mod exit_code;
mod hint;
mod interrupts;
mod launched;
mod litter;
mod man;
mod outputs;
mod program;
mod progress;
mod record;
mod run;
mod save;
mod signals;
mod sink;
mod source;
mod stderr;
mod stdout;
mod style;
mod top;
mod trace;
mod typing;
mod viewer;

fn main() -> ExitCode {
    let typed: Vec<OsString> = std::env::args_os().collect();
    match run(&typed) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(typed: &[OsString]) -> Result<u8, Failure> {
    match Cli::read(typed)? {
        Request::Attach(options) => attach::attach(&options)?,
        Request::Run(options) => return run::run(&options),
        Request::Trace(options) => return trace::trace(&options),
        Request::Top(options) => top::top(&options)?,
        Request::Dump(options) => dump::dump(&options)?,
        Request::Convert(options) => convert::convert(&options)?,
        Request::Completions(shell) => completions::completions(shell)?,
        Request::Man(subcommand) => man::man(subcommand.as_deref())?,
    }
    Ok(exit_code::SUCCESS)
}
