//! How to record: for how long, how often.

use std::time::Duration;

use clap::{Args, ValueEnum};
use pystrobe_sampling::AsyncStacks;

use super::duration::{duration, interval};

/// The options of `attach` and `run` that say how to record.
#[derive(Args, Debug)]
#[command(next_help_heading = "Recording options")]
pub(super) struct RecordingArgs {
    /// How long to sample: 30, 0.5, 90s, 2m, 1h [default: until the program ends or Ctrl-C]
    ///
    /// Seconds, unless a unit (ms, s, m, h) says otherwise. `run` writes the outputs when the time is over
    /// and lets the program go on.
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// How often to sample: 1000, 1khz, 2.5khz, 500us, 10ms
    ///
    /// A number or a frequency is the rate, a time is the interval between two samples. A rate that cannot
    /// be reached costs no truth: each sample stands for the time since the one before it. What was left
    /// out is counted as skipped.
    #[arg(short, long, value_name = "RATE", default_value = "1khz", value_parser = interval)]
    rate: Duration,

    /// Stop the program while it is being read
    ///
    /// Without this the program runs on while its stacks are read, and the rare sample that cannot be
    /// proven is read again or cut short. With it each stack is that of one moment; the program is slowed
    /// down by it, the more the higher the rate.
    #[arg(long)]
    blocking: bool,

    /// Show garbage collection as a frame `<GC>`, on top of the function that it interrupts; this is the default
    #[arg(long, overrides_with = "no_gc")]
    gc: bool,

    /// Charge garbage collection to the function that it interrupts
    #[arg(long, overrides_with = "gc")]
    no_gc: bool,

    /// Show asyncio tasks below those that await them, in place of the event loop; `all`: the waiting ones too
    ///
    /// While a thread runs a task, its stack is that of the task's coroutines, above those of the task that awaits it,
    /// and so on up to one that nobody awaits; a frame `<task NAME>` stands below the coroutines of each. With `--async
    /// all` every task that waits has the wall time as well, as a stack of its own: as many wait at once, the times
    /// then add up to more than has passed.
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

    /// Sample the processes that it starts as well, and those that they start
    ///
    /// Those that are there already and those that come, by fork, exec or spawn, as soon as they are Python; all
    /// others are passed over. They end up in one profile, or in one each where an output's name contains
    /// {pid}. The recording ends with the process itself.
    #[arg(long)]
    subprocesses: bool,

    /// No progress and no summary on stderr; errors stay
    #[arg(short, long)]
    quiet: bool,
}

/// The values of `--async`.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum Which {
    /// The task that the thread runs
    Running,
    /// The tasks that wait as well
    All,
}

impl From<Which> for AsyncStacks {
    fn from(which: Which) -> Self {
        match which {
            Which::Running => Self::Running,
            Which::All => Self::All,
        }
    }
}

/// How to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordingOptions {
    /// How long to sample; `None` is until the target ends.
    pub(crate) duration: Option<Duration>,
    /// Time from one sample to the next.
    pub(crate) interval: Duration,
    /// Whether the target is stopped for each sample.
    pub(crate) blocking: bool,
    /// Whether garbage collection is a frame of its own.
    pub(crate) gc: bool,
    /// Which asyncio tasks are shown as stacks, where any are.
    pub(crate) tasks: Option<AsyncStacks>,
    /// Whether its descendants are sampled as well.
    pub(crate) subprocesses: bool,
    /// No progress, no summary.
    pub(crate) quiet: bool,
}

impl RecordingArgs {
    /// What was typed, as plain options.
    pub(super) fn into_options(self) -> RecordingOptions {
        RecordingOptions {
            duration: self.duration,
            interval: self.rate,
            blocking: self.blocking,
            gc: self.gc || !self.no_gc,
            tasks: self.tasks.map(AsyncStacks::from),
            subprocesses: self.subprocesses,
            quiet: self.quiet,
        }
    }
}
