//! `attach`: samples a running program.

use pystrobe_sampling::{AttachError, Ending, Target};

use crate::args::AttachOptions;
use crate::errors::Failure;
use crate::interrupts::Interrupts;
use crate::litter::Litter;
use crate::outputs::Outputs;
use crate::progress::Progress;
use crate::record::record;
use crate::save::save;
use crate::stderr::Notes;
use crate::viewer::Viewer;

/// Samples a running program, and saves what was seen.
///
/// # Errors
///
/// Where the process cannot be sampled, nothing was seen, or the outputs cannot be written.
pub(crate) fn attach(options: &AttachOptions) -> Result<(), Failure> {
    let notes = Notes::new(options.recording.quiet);
    let litter = Litter::default();
    let interrupts = Interrupts::watch(&litter)?;
    let outputs = Outputs::open(&options.output.outputs, &litter)?;
    let target = match Target::attach(options.pid) {
        // A supervisor or a shell: what it starts is what is to be recorded.
        Err(AttachError::NotPython { pid, .. }) if options.recording.subprocesses => {
            Target::tree(pid)
        }
        target => target?,
    };

    let progress = match options.recording.quiet {
        true => Progress::hidden(),
        false => Progress::live(options.recording.duration),
    };
    let recorded = record(
        target,
        &options.recording,
        options.output.clock.unwrap_or_default(),
        progress,
        notes,
        |stopper| interrupts.connect(stopper),
    )?;

    let saved = save(&recorded.profile, outputs, &options.output, notes);
    match (recorded.ending, saved) {
        // That nothing was seen then has a better reason.
        (Ending::Failed(error), Err(Failure::NothingSampled { .. })) => {
            Err(Failure::BrokeOff(error))
        }
        (_, Err(failure)) => Err(failure),
        (Ending::Failed(error), Ok(())) => Err(Failure::BrokeOff(error)),
        (_, Ok(())) => {
            interrupts.saved();
            match &options.output.open_with {
                Some(open_with) => Viewer::start(open_with)?.wait(),
                None => Ok(()),
            }
        }
    }
}
