//! A program that is started to be recorded, as `run` and `trace` do it: it gets the signals, and we end as it ends.

use std::process::Command;
use std::sync::Arc;

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::args::{OutputSpec, ProgramSpec};
use crate::errors::Failure;
use crate::exit_code;
use crate::litter::Litter;
use crate::outputs::Outputs;
use crate::program::{Program, Stage, as_shell_status};
use crate::signals::{self, Signal};
use crate::viewer::Viewer;

/// The signals that would end us by default and are meant for the program.
const PASSED_ON: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// All is ready for a program to be started: signals are handled and the outputs are open.
#[derive(Debug)]
pub(crate) struct Launching {
    program: Arc<Program>,
    outputs: Outputs,
    litter: Litter,
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    program: Arc<Program>,
    pid: u32,
    outputs: Outputs,
}

impl Launching {
    /// Handles signals, then opens the outputs.
    ///
    /// # Errors
    ///
    /// Where the system does not let us, and where an output cannot be opened.
    pub(crate) fn prepare(outputs: &[OutputSpec]) -> Result<Launching, Failure> {
        let litter = Litter::default();
        let program = Arc::new(Program::default());
        handle_signals(&program, &litter)?;
        let outputs = Outputs::open(outputs, &litter)?;
        Ok(Launching {
            program,
            outputs,
            litter,
        })
    }

    /// What must not be left behind if a signal ends us.
    pub(crate) fn litter(&self) -> &Litter {
        &self.litter
    }

    /// Starts the program, after `prepare` has changed what of ours it gets.
    ///
    /// # Errors
    ///
    /// Where it cannot be started, and those of `prepare`.
    pub(crate) fn start(
        self,
        program: &ProgramSpec,
        prepare: impl FnMut(&mut Command) -> Result<(), Failure>,
    ) -> Result<Launched, Failure> {
        let pid = self.program.start(program, prepare)?;
        Ok(Launched {
            program: self.program,
            pid,
            outputs: self.outputs,
        })
    }
}

impl Launched {
    /// Lets `record` record the program and save, then waits for the program and for the viewer that `record` may have
    /// started. Gives the program's exit status; where that is 0 and something else went wrong, the status that goes with that.
    ///
    /// # Errors
    ///
    /// Where somebody else waited for the program. Failures of `record` are told at once.
    pub(crate) fn record(
        self,
        record: impl FnOnce(u32, &Program, Outputs) -> Result<Option<Viewer>, Failure>,
    ) -> Result<u8, Failure> {
        let Launched {
            program,
            pid,
            outputs,
        } = self;
        let (recorded, viewer) = match record(pid, &program, outputs) {
            Ok(viewer) => (exit_code::SUCCESS, viewer),
            Err(failure) => (told(&failure), None),
        };
        let status = as_shell_status(program.wait()?);
        let viewed = match viewer.map_or(Ok(()), Viewer::wait) {
            Ok(()) => exit_code::SUCCESS,
            Err(failure) => told(&failure),
        };
        let first_bad = [status, recorded, viewed]
            .into_iter()
            .find(|&status| status != exit_code::SUCCESS);
        Ok(first_bad.unwrap_or(exit_code::SUCCESS))
    }
}

/// Reports a failure at once, since the program may go on for long; gives the status that goes with it.
fn told(failure: &Failure) -> u8 {
    failure.report();
    failure.exit_code()
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
