//! `dump`: a process id, and for whom.

use clap::Args;

use super::target::TargetArgs;

const EXAMPLES: &str = "\
Examples:
  pystrobe dump 1234
  pystrobe dump --json 1234 | jq '.threads[].state'";

/// Print the stack of every thread of a running Python program, once
///
/// Innermost frame first, with the source line where it can be read. The program is neither stopped nor
/// changed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    target: TargetArgs,

    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// What `dump` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DumpOptions {
    /// The process.
    pub(crate) pid: u32,
    /// As JSON rather than as text.
    pub(crate) json: bool,
}

impl DumpArgs {
    /// What was typed, as plain options.
    pub(super) fn into_options(self) -> DumpOptions {
        DumpOptions {
            pid: self.target.pid(),
            json: self.json,
        }
    }
}
