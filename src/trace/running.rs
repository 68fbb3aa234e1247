//! `trace --pid`: lets the tracer into a program that runs, and takes it out again, however the recording ends.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pystrobe_sampling::process::{command_line, is_alive};
use pystrobe_tracing::{Attachment, read_until};

use super::{Traced, save, unix_ns};
use crate::args::TraceOptions;
use crate::errors::Failure;
use crate::exit_code;
use crate::litter::Litter;
use crate::outputs::Outputs;
use crate::signals;
use crate::stderr::Notes;
use crate::viewer::Viewer;

/// How long the main thread of the program may take to come to Python code.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often somebody looks whether the program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Traces a running program until the time is over, it ends, or a signal comes.
///
/// # Errors
///
/// Where the tracer does not come in; where it does not come out again, after what it had counted was saved.
pub(super) fn trace(
    pid: u32,
    duration: Option<Duration>,
    options: &TraceOptions,
) -> Result<u8, Failure> {
    let notes = Notes::new(options.quiet);
    let litter = Litter::default();
    let ending = Ending::watch(&litter)?;
    let outputs = Outputs::open(&options.output.outputs, &litter)?;
    let command = command_line(pid);
    let attachment =
        Attachment::start(pid, &options.tracing, PATIENCE).map_err(Failure::TracerAttach)?;

    ending.wait(pid, duration);
    let stopped = match attachment.stop(PATIENCE) {
        Err(_) if !is_alive(pid) => Ok(()),
        stopped => stopped,
    };
    let calls = read_until(attachment.recording(), unix_ns());
    drop(attachment);
    ending.is_out();

    let traced = Traced::of(std::iter::once(calls), &command, options.times)?;
    let viewer = save(traced, outputs, options, notes);
    stopped.map_err(Failure::TracerStays)?;
    if let Some(viewer) = viewer? {
        ending.saved();
        Viewer::wait(viewer)?;
    }
    Ok(exit_code::SUCCESS)
}

/// When the recording ends. The tracer must not stay in the program, so a signal that is to abort waits until it is out.
#[derive(Debug, Clone)]
struct Ending {
    litter: Litter,
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    /// The signals that came so far, the last of them, and in which part of our life we are.
    signals: u32,
    last: i32,
    stage: Stage,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The tracer is in the program, or on its way.
    #[default]
    In,
    /// It is out, and the outputs are being written.
    Out,
    /// All is saved; what runs now is the viewer.
    Saved,
}

impl Ending {
    fn watch(litter: &Litter) -> Result<Ending, Failure> {
        let ending = Ending {
            litter: litter.clone(),
            shared: Arc::default(),
        };
        let reacting = ending.clone();
        signals::watch(&signals::that_end_a_recording(), move |signal| {
            reacting.react(signal.number);
        })
        .map_err(|source| Failure::System {
            doing: "cannot handle signals",
            source,
        })?;
        Ok(ending)
    }

    fn react(&self, signal: i32) {
        let mut state = self.lock();
        (state.signals, state.last) = (state.signals + 1, signal);
        self.shared.1.notify_all();
        match state.stage {
            Stage::In => {}
            Stage::Saved if signal == signal_hook::consts::signal::SIGINT => {}
            Stage::Out | Stage::Saved => self.litter.abort(signal),
        }
    }

    /// Waits for the end of the recording.
    fn wait(&self, pid: u32, duration: Option<Duration>) {
        let began = Instant::now();
        let mut state = self.lock();
        while state.signals == 0 && is_alive(pid) {
            let rest = duration.map(|duration| duration.saturating_sub(began.elapsed()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                break;
            }
            let waited = self
                .shared
                .1
                .wait_timeout(state, rest.map_or(LOOK_EVERY, |rest| rest.min(LOOK_EVERY)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The tracer has left the program. Who asked for more than an end gets that now.
    fn is_out(&self) {
        let mut state = self.lock();
        state.stage = Stage::Out;
        if state.signals > 1 {
            self.litter.abort(state.last);
        }
    }

    fn saved(&self) {
        self.lock().stage = Stage::Saved;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
