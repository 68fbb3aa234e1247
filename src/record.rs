//! From a target to a profile: starts the sampler and puts together what it says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pystrobe_profile::{
    Batch, BatchError, Builder, Clock, Counted, Counters, Measured, Process, Profile, Recording,
};
use pystrobe_sampling::{Ending, LeftOut, MAX_TASKS, Options, Stopper, Target};

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
    let (recording, mut collected) = start(target, options)?;
    started(recording.stopper());
    for batch in recording.batches() {
        if let Err(error) = collected.apply(&batch) {
            recording.stop();
            // Why it ended is known: it was stopped.
            let _ = recording.finish();
            return Err(error.into());
        }
        progress.update(&collected.counters(), collected.elapsed());
    }
    let left_out = recording.left_out();
    let ending = recording.finish();
    drop(progress);
    tell_left_out(left_out, clock, notes);

    if matches!(ending, Ending::TargetReplaced) {
        notes.note(
            "the process has become a program that is not a Python; the recording ends there",
        );
    }
    Ok(Recorded {
        profile: collected
            .finish()
            .with_clock(clock)
            .map_err(|_| not_measurable)?,
        ending,
    })
}

/// Says that something is missing in the profile.
fn tell_left_out(left_out: LeftOut, clock: Clock, notes: Notes) {
    let LeftOut {
        unreadable,
        too_many,
        tasks_untold,
        tasks_too_many,
        clocks,
    } = left_out;
    // Time that passed is measured of every process.
    let clocks = if clock == Clock::Wall { 0 } else { clocks };
    let warnings = [
        (
            unreadable,
            format!("not in the profile: processes that could not be read, {unreadable} in all"),
        ),
        (
            too_many,
            format!(
                "not in the profile: processes for which there were too many at once, {too_many} in all"
            ),
        ),
        (
            tasks_untold,
            format!("without --async: processes of Python before 3.14, {tasks_untold} in all"),
        ),
        (
            tasks_too_many,
            format!(
                "not in the profile: asyncio tasks beyond the first {MAX_TASKS} of a thread, or what awaits them, in {tasks_too_many} of the processes"
            ),
        ),
        (
            clocks,
            format!(
                "of some processes not every clock could be measured, so {} time may be missing, {clocks} in all",
                clock.name()
            ),
        ),
    ];
    for (number, warning) in warnings {
        if number > 0 {
            notes.warning(&warning);
        }
    }
}

/// Starts to sample `target`; what is collected is still empty.
///
/// # Errors
///
/// Where the target cannot be sampled after all.
pub(crate) fn start(
    target: Target,
    options: &RecordingOptions,
) -> Result<(pystrobe_sampling::Recording, Collected), Failure> {
    if options.tasks.is_some() && !target.tells_tasks() && !options.subprocesses {
        return Err(Failure::NoTasks {
            python: target.python().to_owned(),
        });
    }
    let process = Process {
        pid: target.pid(),
        command: target.command().to_owned(),
        python: target.python().to_owned(),
    };
    let collected = Collected {
        about: about(&process, options, target.measured()),
        // The processes of a tree describe themselves when they are met.
        builder: Builder::new(if options.subprocesses {
            Vec::new()
        } else {
            vec![process]
        }),
        before: Counters::default(),
        before_ns: 0,
    };
    let recording = pystrobe_sampling::record(
        target,
        Options {
            interval: options.interval,
            duration: options.duration,
            blocking: options.blocking,
            gc: options.gc,
            tasks: options.tasks,
            subprocesses: options.subprocesses,
        },
    )?;
    Ok((recording, collected))
}

/// What a recording has brought so far.
#[derive(Debug)]
pub(crate) struct Collected {
    about: Recording,
    builder: Builder,
    /// What was counted, and how long it took, before the recording began anew.
    before: Counters,
    before_ns: u64,
}

impl Collected {
    /// Adds news.
    ///
    /// # Errors
    ///
    /// Where the sampler contradicts itself.
    pub(crate) fn apply(&mut self, batch: &Batch) -> Result<(), BatchError> {
        self.builder.apply(batch)?;
        self.about.counters = self.builder.counters().since(self.before);
        self.about.elapsed_ns = self.builder.elapsed_ns().saturating_sub(self.before_ns);
        if self.about.python.is_empty()
            && let Some(process) = self.builder.processes().first()
        {
            self.about.python.clone_from(&process.python);
        }
        Ok(())
    }

    /// Forgets what was seen, as if the recording began now.
    pub(crate) fn begin_anew(&mut self) {
        self.before = self.builder.counters();
        self.before_ns = self.builder.elapsed_ns();
        self.builder.forget_time();
        self.about.counters = Counters::default();
        self.about.elapsed_ns = 0;
        self.about.started_unix_ms = now_unix_ms();
    }

    /// What is known of the recording.
    pub(crate) fn about(&self) -> &Recording {
        &self.about
    }

    /// How it went.
    pub(crate) fn counters(&self) -> Counters {
        self.about.counters
    }

    /// How long it has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.about.elapsed_ns)
    }

    /// What was seen, to look at.
    pub(crate) fn so_far(&self) -> &Profile {
        self.builder.so_far()
    }

    /// What was seen, to keep, while the recording goes on.
    pub(crate) fn profile(&self) -> Profile {
        self.builder.clone().finish(self.about.clone())
    }

    /// What was seen, when the recording is over.
    pub(crate) fn finish(self) -> Profile {
        self.builder.finish(self.about)
    }
}

/// What is known of a recording when it starts.
fn about(process: &Process, options: &RecordingOptions, measured: Measured) -> Recording {
    Recording {
        command: process.command.clone(),
        pid: process.pid,
        python: process.python.clone(),
        interval_ns: clamp(options.interval.as_nanos()),
        started_unix_ms: now_unix_ms(),
        elapsed_ns: 0,
        counters: Counters::default(),
        counted: Counted::Samples,
        collector: String::from(if options.blocking {
            "sampling, blocking"
        } else {
            "sampling"
        }),
        measured,
    }
}

fn now_unix_ms() -> u64 {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    clamp(since_1970.as_millis())
}

/// 64 bits of nanoseconds are 584 years.
fn clamp(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
