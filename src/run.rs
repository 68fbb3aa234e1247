//! `run`: starts a program, samples it from its first frame on, and ends as it ends.

use std::sync::Arc;

use pystrobe_profile::Clock;
use pystrobe_sampling::{AttachError, Ending, Target};
use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::args::RunOptions;
use crate::errors::{Failure, nothing};
use crate::exit_code;
use crate::litter::Litter;
use crate::outputs::Outputs;
use crate::program::{Program, Stage, as_shell_status};
use crate::progress::Progress;
use crate::record::{Recorded, record};
use crate::save::save;
use crate::signals::{self, Signal};
use crate::stderr::Notes;
use crate::viewer::Viewer;

/// The signals that would end us by default and are meant for the program.
const PASSED_ON: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// Runs a program and samples it. Gives the program's exit status; where that is 0 and something else went
/// wrong, the status that goes with that.
///
/// # Errors
///
/// Where the program could not be started.
pub(crate) fn run(options: &RunOptions) -> Result<u8, Failure> {
    let notes = Notes::new(options.recording.quiet);
    let litter = Litter::default();
    let program = Arc::new(Program::default());
    handle_signals(&program, &litter)?;
    let outputs = Outputs::open(&options.output.outputs, &litter)?;
    let pid = program.start(&options.program)?;

    let (sampled, viewer) = match sample(pid, &program, outputs, options, notes) {
        Ok(viewer) => (exit_code::SUCCESS, viewer),
        Err(failure) => (told(&failure), None),
    };
    let status = as_shell_status(program.wait()?);
    let viewed = match viewer.map_or(Ok(()), Viewer::wait) {
        Ok(()) => exit_code::SUCCESS,
        Err(failure) => told(&failure),
    };
    let first_bad = [status, sampled, viewed]
        .into_iter()
        .find(|&status| status != exit_code::SUCCESS);
    Ok(first_bad.unwrap_or(exit_code::SUCCESS))
}

/// Reports a failure at once, since the program may go on for long; gives the status that goes with it.
fn told(failure: &Failure) -> u8 {
    failure.report();
    failure.exit_code()
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

/// Ctrl-C reaches the program as well as us, so the first SIGINT is only the program's business. It is not
/// passed on whoever sent it: `timeout`, shells and test harnesses send it to the whole process group as the
/// terminal does, and to get it twice would be the program's end where once is a request. The other signals
/// are passed on unless the terminal sent them. The second SIGINT gives up on the program, the third on us.
fn handle_signals(program: &Arc<Program>, litter: &Litter) -> Result<(), Failure> {
    let program = Arc::clone(program);
    let litter = litter.clone();
    let mut interrupts = 0_u32;
    signals::watch(&signals::not_ignored(&PASSED_ON), move |signal: Signal| {
        match program.stage() {
            Stage::NotStarted => litter.abort(signal.number),
            Stage::Running => {
                if signal.number == SIGINT {
                    interrupts += 1;
                }
                match interrupts {
                    3.. => litter.abort(signal.number),
                    2 => program.signal(SIGKILL),
                    _ if signal.number == SIGINT || signal.from_terminal => {}
                    _ => program.signal(signal.number),
                }
            }
            // What runs now is the viewer, and Ctrl-C is its business.
            Stage::Ended if signal.number == SIGINT => {}
            Stage::Ended => litter.abort(signal.number),
        }
    })
    .map_err(|source| Failure::System {
        doing: "cannot handle signals",
        source,
    })
}
