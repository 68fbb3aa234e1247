//! `attach`: a process id, how to record it, what to write.

use clap::Args;

use super::output::{OutputArgs, OutputOptions};
use super::recording::{RecordingArgs, RecordingOptions};
use super::target::TargetArgs;
use crate::errors::Failure;

const EXAMPLES: &str = "\
Examples:
  pystrobe attach 1234                      the hottest functions, at Ctrl-C
  pystrobe attach 1234 -d 30 -o out.pstats  30 seconds, for every tool that opens pstats
  pystrobe attach 1234 -d 30 -r 5khz -o out.pstats -o flame.svg -o stacks.folded
  pystrobe attach 1234 -d 30 -o out.pstats --open-with profiling-explorer
  pystrobe attach 1234 --subprocesses -d 30 -o all.pstats -o 'each-{pid}.pstats'
  pystrobe attach 1234 -d 5 -f folded | grep -c json";

/// Sample a running Python program by its process id
///
/// The program is neither stopped nor changed: its memory is read from outside. The recording ends after
/// --duration, with the program, or at Ctrl-C (or SIGTERM or SIGHUP), and is saved in each case. A second Ctrl-C
/// aborts: nothing is written.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    target: TargetArgs,

    #[command(flatten)]
    recording: RecordingArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// What `attach` shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttachOptions {
    /// The process.
    pub(crate) pid: u32,
    /// How to record.
    pub(crate) recording: RecordingOptions,
    /// What to write.
    pub(crate) output: OutputOptions,
}

impl AttachArgs {
    /// What was typed, as plain options.
    ///
    /// # Errors
    ///
    /// Where the outputs cannot be meant.
    pub(super) fn into_options(self) -> Result<AttachOptions, Failure> {
        Ok(AttachOptions {
            pid: self.target.pid(),
            recording: self.recording.into_options(),
            output: self.output.into_options()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::time::Duration;

    use pystrobe_profile::Clock;

    use super::*;
    use crate::args::{Cli, Request};

    fn parsed(typed: &str) -> Result<AttachOptions, String> {
        let typed: Vec<OsString> = ["pystrobe", "attach"]
            .into_iter()
            .chain(typed.split_whitespace())
            .map(OsString::from)
            .collect();
        match Cli::read(&typed) {
            Ok(Request::Attach(options)) => Ok(options),
            Ok(other) => Err(format!("{other:?}")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn a_process_either_way() {
        assert_eq!(parsed("1234").unwrap().pid, 1234);
        assert_eq!(parsed("--pid 1234").unwrap().pid, 1234);
        assert_eq!(parsed("-p1234 -d1").unwrap().pid, 1234);
        for wrong in ["", "1 --pid 2", "0", "-1", "x", "4294967295", "1 2"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn defaults() {
        let options = parsed("1").unwrap();
        assert_eq!(options.recording.duration, None);
        assert_eq!(options.recording.interval, Duration::from_millis(1));
        assert!(!options.recording.blocking && !options.recording.quiet);
        assert!(options.recording.gc);
        assert_eq!(options.output.clock, None);
        assert!(!options.output.threads && !options.output.lines);
        assert!(options.output.only_threads.is_empty());
        assert_eq!(options.output.open_with, None);
    }

    #[test]
    fn everything_at_once() {
        let options = parsed(
            "1 -d 30 -r 500us --blocking -q -o a.pstats -o b.svg --threads --thread MainThread \
             --thread 77 --lines --pstats-flavor 3.15 --open-with cat",
        )
        .unwrap();
        assert_eq!(options.recording.duration, Some(Duration::from_secs(30)));
        assert_eq!(options.recording.interval, Duration::from_micros(500));
        assert!(options.recording.blocking && options.recording.quiet);
        assert!(options.output.threads && options.output.lines);
        assert_eq!(options.output.only_threads, ["MainThread", "77"]);
        assert_eq!(
            options.output.pstats_flavor,
            pystrobe_exporters::PstatsFlavor::Python315
        );
        let opened: Vec<OsString> = options.output.open_with.unwrap().command().collect();
        assert_eq!(opened, ["cat", "a.pstats"]);
    }

    #[test]
    fn clocks() {
        let clock = |typed: &str| parsed(&format!("1 {typed}")).map(|options| options.output.clock);
        for (typed, expected) in [
            ("--mode wall", Clock::Wall),
            ("--idle", Clock::Wall),
            ("--no-idle", Clock::Active),
            ("--mode wall --no-idle", Clock::Active),
            ("--no-idle --idle", Clock::Wall),
            ("--idle --no-idle", Clock::Active),
            ("--mode cpu", Clock::Cpu),
            ("--mode gil", Clock::Gil),
            ("--mode gil-wait", Clock::GilWait),
            ("--mode exception", Clock::Exception),
        ] {
            assert_eq!(clock(typed), Ok(Some(expected)), "{typed}");
        }
        assert!(clock("--mode active").is_err());
        for typed in ["--mode cpu --no-idle", "--mode gil --idle"] {
            assert!(clock(typed).unwrap_err().contains("wall time"), "{typed}");
        }
    }

    #[test]
    fn the_last_word_on_garbage_collection_counts() {
        for (typed, expected) in [("--gc", true), ("--no-gc", false), ("--no-gc --gc", true)] {
            let options = parsed(&format!("1 {typed}")).unwrap();
            assert_eq!(options.recording.gc, expected, "{typed}");
        }
    }

    #[test]
    fn opening_without_a_file_fails_first() {
        assert!(parsed("1 --open-with cat").unwrap_err().contains("file"));
    }
}
