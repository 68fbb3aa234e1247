//! `run`: starts a program, samples it from its first frame on, and ends as it ends.

use pystrobe_profile::Clock;
use pystrobe_sampling::{AttachError, Ending, Target};

use crate::args::RunOptions;
use crate::errors::{Failure, nothing};
use crate::launched::Launching;
use crate::outputs::Outputs;
use crate::program::Program;
use crate::progress::Progress;
use crate::record::{Recorded, record};
use crate::save::save;
use crate::stderr::Notes;
use crate::viewer::Viewer;

/// Runs a program and samples it. Gives the program's exit status; where that is 0 and something else went
/// wrong, the status that goes with that.
///
/// # Errors
///
/// Where the program could not be started.
pub(crate) fn run(options: &RunOptions) -> Result<u8, Failure> {
    let notes = Notes::new(options.recording.quiet);
    let launching = Launching::prepare(&options.output.outputs)?;
    let launched = launching.start(&options.program, |_| Ok(()))?;
    launched.record(|pid, program, outputs| sample(pid, program, outputs, options, notes))
}

/// Samples the program until it ends or the time is over, saves, and starts the viewer. That there was
/// nothing to sample is no failure: the program did what it was started for, and its status says how that went.
fn sample(
    pid: u32,
    program: &Program,
    outputs: Outputs,
    options: &RunOptions,
    notes: Notes,
) -> Result<Option<Viewer>, Failure> {
    let recorded = match sampled(pid, program, options, notes) {
        Err(failure) if is_nothing_to_sample(&failure) => {
            warn_of_nothing(notes);
            return Ok(None);
        }
        recorded => recorded?,
    };
    let saved = save(&recorded.profile, outputs, &options.output, notes);
    match (saved, recorded.ending) {
        (Ok(()) | Err(Failure::NothingSampled { .. }), Ending::Failed(error)) => {
            Err(Failure::BrokeOff(error))
        }
        (Err(Failure::NothingSampled { clock }), Ending::TargetEnded) => {
            match clock {
                Clock::Wall => warn_of_nothing(notes),
                clock => notes.warning(&format!("{}; no output was written", nothing(clock))),
            }
            Ok(None)
        }
        (Err(failure), _) => Err(failure),
        (Ok(()), _) => match &options.output.open_with {
            Some(open_with) => Viewer::start(open_with).map(Some),
            None => Ok(None),
        },
    }
}

/// Waits until the program is a Python, and records it.
fn sampled(
    pid: u32,
    program: &Program,
    options: &RunOptions,
    notes: Notes,
) -> Result<Recorded, Failure> {
    let target = if options.recording.subprocesses {
        Target::tree(pid)
    } else {
        Target::wait_for(pid, || program.has_ended())?
    };
    // The terminal is the program's: a live line would be drawn across its output.
    record(
        target,
        &options.recording,
        options.output.clock.unwrap_or_default(),
        Progress::hidden(),
        notes,
        drop,
    )
}

/// Whether the program ended before it could be sampled, or without ever having been a Python.
fn is_nothing_to_sample(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Attach(
            AttachError::Ended { .. }
                | AttachError::GaveUp { .. }
                | AttachError::Zombie { .. }
                | AttachError::NotFound { .. }
                | AttachError::NotPython { .. }
                | AttachError::Starting { .. }
        )
    )
}

fn warn_of_nothing(notes: Notes) {
    notes.warning(
        "the program ended before it was sampled, or never became a Python; no output was written",
    );
}
