//! `dump`: a process id, and for whom.

use clap::Args;
use pystrobe_sampling::AsyncStacks;

use super::recording::Which;
use super::target::TargetArgs;

const EXAMPLES: &str = "\
Examples:
  pystrobe dump 1234
  pystrobe dump --json 1234 | jq '.threads[].state'
  pystrobe dump --async all 1234
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

    /// Show asyncio tasks below those that await them, in place of the event loop; `all`: the waiting ones too
    ///
    /// What a thread runs is shown as the coroutines of its task, above those of the task that awaits it, and so on down
    /// to one that nobody awaits; a frame `<task NAME>` stands below the coroutines of each. With `--async all` the tasks that
    /// wait, and that no other task waits for, follow the stack of their thread; those that look alike are counted.
    ///
    /// CPython 3.14 and later. Older processes of a tree (--subprocesses) are shown as without this.
    #[arg(
        id = "async",
        long,
        value_name = "WHICH",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "running"
    )]
    tasks: Option<Which>,

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
    /// Which asyncio tasks are shown as stacks, where any are.
    pub(crate) tasks: Option<AsyncStacks>,
    /// As JSON rather than as text.
    pub(crate) json: bool,
}

impl DumpArgs {
    /// What was typed, as plain options.
    pub(super) fn into_options(self) -> DumpOptions {
        DumpOptions {
            pid: self.target.pid(),
            subprocesses: self.subprocesses,
            tasks: self.tasks.map(AsyncStacks::from),
            json: self.json,
        }
    }
}
