//! `dump`: a process id, and for whom.

use clap::Args;

use super::target::TargetArgs;

const EXAMPLES: &str = "\
Examples:
  pystrobe dump 1234
  pystrobe dump --json 1234 | jq '.threads[].state'
  pystrobe dump --subprocesses 1234
  pystrobe dump --subprocesses --json 1234 | jq '.[].pid'";

/// Print the stack of every thread of a running Python program, once
///
/// Innermost frame first, with the source line where it can be read. The program is neither stopped nor
/// changed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Print the processes that it has started as well, and those that they have
    ///
    /// What is no Python is left out, the process itself too if it is none. A warning names those that cannot be read.
    #[arg(long)]
    subprocesses: bool,

    /// Write JSON; a list of processes with --subprocesses
    #[arg(long)]
    json: bool,
}

/// What `dump` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DumpOptions {
    /// The process.
    pub(crate) pid: u32,
    /// Its descendants too.
    pub(crate) subprocesses: bool,
    /// As JSON rather than as text.
    pub(crate) json: bool,
}

impl DumpArgs {
    /// What was typed, as plain options.
    pub(super) fn into_options(self) -> DumpOptions {
        DumpOptions {
            pid: self.target.pid(),
            subprocesses: self.subprocesses,
            json: self.json,
        }
    }
}
