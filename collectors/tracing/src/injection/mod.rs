//! Runs a line of Python inside a live process.
//!
//! [`run`] comes back when the line was executed, or when it is sure that it will not be. 3.14 and later have a hook for this
//! (`remote_exec`). Before, the main thread is stopped for a moment and made to queue the line for itself
//! (`pending_call`). Either way it is the interpreter that executes it, in its main thread, at a place where it would run a signal
//! handler written in Python.

mod errand;
mod error;
#[cfg(target_arch = "x86_64")]
mod pending_call;
#[cfg(target_arch = "x86_64")]
mod pending_lock;
mod place;
#[cfg(target_arch = "x86_64")]
mod ptrace;
mod remote_exec;
#[cfg(target_arch = "x86_64")]
mod stopped_thread;

use std::time::{Duration, Instant};

use pystrobe_sampling::discovery::{self, Interpreter};
use pystrobe_sampling::layout::Minor;
use pystrobe_sampling::{AttachError, process};

use errand::{Errand, Progress};
#[cfg(target_arch = "x86_64")]
use pending_call::PendingCall;
use remote_exec::Hook;

pub use error::InjectionError;
pub use place::Place;

/// How long an interpreter that is still starting is waited for.
const STARTING: Duration = Duration::from_secs(2);

/// Executes `source` in the main interpreter of a process, in a namespace of its own.
///
/// The target's main thread executes it, the next time that it comes to Python code; for that is waited as long as
/// `patience`. Once begun, it is waited for longer.
///
/// # Errors
///
/// Every [`InjectionError`]. But for [`InjectionError::Raised`] and [`InjectionError::Unfinished`], `source` was not
/// executed, and will not be.
pub fn run(pid: u32, source: &str, patience: Duration) -> Result<(), InjectionError> {
    let interpreter = discovery::attach(pid, STARTING)?;
    refuse(&interpreter)?;
    let mut errand = Errand::new(pid, source)?;
    let result = if interpreter.layout.version >= Minor(3, 14) {
        by_remote_exec(&interpreter, &mut errand, patience)
    } else {
        by_pending_call(&interpreter, &mut errand, patience)
    };
    match result {
        // Its memory and its threads go before it counts as ended, and nothing is found in it any more.
        Err(InjectionError::Hidden { .. } | InjectionError::System { .. })
            if errand.target_is_gone() =>
        {
            Err(AttachError::Ended { pid }.into())
        }
        result => result,
    }
}

/// How many frames there are above what executes a `source` when it is executed, its own one included: those that
/// the program did not make.
#[must_use]
pub(crate) fn frames(version: Minor) -> u32 {
    // The module of the script, its function, and the module of the source.
    let of_script = 3;
    // The module of the text that is queued, and two functions in it.
    let of_text = 3;
    if version >= Minor(3, 14) {
        of_script
    } else {
        of_script + of_text
    }
}

/// What is known before anything is touched.
fn refuse(interpreter: &Interpreter) -> Result<(), InjectionError> {
    let pid = interpreter.pid;
    let version = interpreter.python.clone();
    if interpreter.legacy {
        return Err(InjectionError::Unsupported { pid, version });
    }
    if interpreter.layout.free_threaded {
        return Err(InjectionError::FreeThreaded { pid, version });
    }
    let is_stopped_for_it = interpreter.layout.version < Minor(3, 14) || process::is_held(pid);
    if is_stopped_for_it && let Some(tracer) = process::tracer(pid) {
        return Err(InjectionError::Traced { pid, tracer });
    }
    if process::is_stopped(pid) {
        return Err(InjectionError::Stopped { pid });
    }
    Ok(())
}

fn by_remote_exec(
    interpreter: &Interpreter,
    errand: &mut Errand,
    patience: Duration,
) -> Result<(), InjectionError> {
    let hook = Hook::find(interpreter)?;
    hook.ask(&errand.script())?;
    if let Progress::Answered(answer) = errand.wait(patience)? {
        return answer;
    }
    if hook.withdraw()? {
        return errand.give_up(patience);
    }
    // It has just begun: it opens the script, and must find it.
    match errand.wait(patience)? {
        Progress::Answered(answer) => answer,
        Progress::Silent => errand.give_up(patience),
    }
}

#[cfg(target_arch = "x86_64")]
fn by_pending_call(
    interpreter: &Interpreter,
    errand: &mut Errand,
    patience: Duration,
) -> Result<(), InjectionError> {
    let began = Instant::now();
    if !pending_call::may_be_stopped(interpreter.pid, began + patience) {
        return errand.give_up(patience);
    }
    let left = patience.saturating_sub(began.elapsed());
    let call = PendingCall::queue(interpreter, &errand.script(), errand.size())?;
    let answer = match errand.wait(left)? {
        Progress::Answered(answer) => answer,
        Progress::Silent => errand.give_up(patience),
    };
    if executed(&answer) && !errand.target_is_gone() {
        // The line was executed: that a page of memory may be left is no reason to say something else.
        let _ = call.forget();
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
fn by_pending_call(
    interpreter: &Interpreter,
    _: &mut Errand,
    _: Duration,
) -> Result<(), InjectionError> {
    let version = interpreter.python.clone();
    Err(InjectionError::Processor { version })
}

/// Whether the queued call was made, and what it needed can be taken away.
#[cfg(target_arch = "x86_64")]
fn executed(answer: &Result<(), InjectionError>) -> bool {
    matches!(answer, Ok(()) | Err(InjectionError::Raised { .. }))
}
