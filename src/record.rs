//! From a target to a profile: starts the sampler and puts together what it says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pystrobe_profile::{Builder, Clock, Counters, Measured, Process, Profile, Recording};
use pystrobe_sampling::{Ending, LeftOut, Options, Stopper, Target};

use crate::args::RecordingOptions;
use crate::errors::Failure;
use crate::progress::Progress;
use crate::stderr::Notes;

/// A recording that has ended.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// What was seen; possibly nothing.
    pub(crate) profile: Profile,
    /// Why it ended.
    pub(crate) ending: Ending,
}

/// Samples `target` by a clock until its time is over, until it ends or until somebody stops it.
/// `started` is given what stops it.
///
/// # Errors
///
/// Where the target cannot be sampled after all or not by that clock, and where the sampler contradicts itself. How a recording
/// ended is in the result.
pub(crate) fn record(
    target: Target,
    options: &RecordingOptions,
    clock: Clock,
    progress: Progress,
    notes: Notes,
    started: impl FnOnce(Stopper),
) -> Result<Recorded, Failure> {
    let not_measurable = Failure::NotMeasurable {
        python: target.python().to_owned(),
        clock,
    };
    if !target.measured().has(clock) {
        return Err(not_measurable);
    }
    if target.paused_at_each_sample() {
        notes.note(&format!(
            "Python {} is paused for each sample; from 3.8 on it would not be",
            target.python()
        ));
    }
    let process = Process {
        pid: target.pid(),
        command: target.command().to_owned(),
        python: target.python().to_owned(),
    };
    let mut about = about(&process, options, target.measured());
    // The processes of a tree describe themselves when they are met.
    let mut builder = Builder::new(if options.subprocesses {
        Vec::new()
    } else {
        vec![process]
    });

    let recording = pystrobe_sampling::record(
        target,
        Options {
            interval: options.interval,
            duration: options.duration,
            blocking: options.blocking,
            gc: options.gc,
            subprocesses: options.subprocesses,
        },
    )?;
    started(recording.stopper());
    for batch in recording.batches() {
        if let Err(error) = builder.apply(&batch) {
            recording.stop();
            // Why it ended is known: it was stopped.
            let _ = recording.finish();
            return Err(error.into());
        }
        about.counters = builder.counters();
        about.elapsed_ns = builder.elapsed_ns();
        if about.python.is_empty()
            && let Some(process) = builder.processes().first()
        {
            about.python.clone_from(&process.python);
        }
        let elapsed = Duration::from_nanos(about.elapsed_ns);
        progress.update(&about.counters, elapsed);
    }
    let left_out = recording.left_out();
    let ending = recording.finish();
    drop(progress);
    tell_left_out(left_out, notes);

    if matches!(ending, Ending::TargetReplaced) {
        notes.note(
            "the process has become a program that is not a Python; the recording ends there",
        );
    }
    Ok(Recorded {
        profile: builder
            .finish(about)
            .with_clock(clock)
            .map_err(|_| not_measurable)?,
        ending,
    })
}

/// Says that something is missing in the profile of a tree.
fn tell_left_out(left_out: LeftOut, notes: Notes) {
    if left_out.unreadable > 0 {
        notes.warning(&format!(
            "not in the profile: processes that could not be read, {} in all",
            left_out.unreadable
        ));
    }
    if left_out.too_many > 0 {
        notes.warning(&format!(
            "not in the profile: processes for which there were too many at once, {} in all",
            left_out.too_many
        ));
    }
}

/// What is known of a recording when it starts.
fn about(process: &Process, options: &RecordingOptions, measured: Measured) -> Recording {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Recording {
        command: process.command.clone(),
        pid: process.pid,
        python: process.python.clone(),
        interval_ns: clamp(options.interval.as_nanos()),
        started_unix_ms: clamp(since_1970.as_millis()),
        elapsed_ns: 0,
        counters: Counters::default(),
        collector: String::from(if options.blocking {
            "sampling, blocking"
        } else {
            "sampling"
        }),
        measured,
    }
}

/// 64 bits of nanoseconds are 584 years.
fn clamp(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
