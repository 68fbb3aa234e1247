//! Which process: `PID` or `--pid PID`.

use clap::Args;
use clap::builder::RangedI64ValueParser;

/// A process id, either way.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct TargetArgs {
    /// Process id of a running Python program
    #[arg(value_name = "PID", value_parser = pid())]
    positional: Option<u32>,

    /// The same as an option
    #[arg(short, long, value_name = "PID", value_parser = pid())]
    pid: Option<u32>,
}

impl TargetArgs {
    /// The process id; clap has seen to it that exactly one was given.
    pub(super) fn pid(&self) -> u32 {
        self.positional.or(self.pid).unwrap_or_default()
    }
}

/// The kernel's process ids are positive and signed.
pub(super) fn pid() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(i32::MAX))
}
