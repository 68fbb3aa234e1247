//! What to do about a failure, where something can be done.

use pystrobe_profile::Clock;
use pystrobe_sampling::{AttachError, Denial};
use pystrobe_tracing::AttachmentError;
use pystrobe_tracing::injection::InjectionError;

use crate::errors::{Failure, names};
use crate::typing;

/// What to do about it, where something can be done.
pub(crate) fn hint(failure: &Failure) -> Option<String> {
    let hint = match failure {
        Failure::Typing(error) => typing::hint(error),
        Failure::Usage { hint, .. } => hint.clone(),
        Failure::Attach(error)
        | Failure::TracerAttach(AttachmentError::Injection(InjectionError::Attach(error))) => {
            return attach_hint(error);
        }
        Failure::TracerAttach(AttachmentError::Injection(error)) => error.advice()?.to_owned(),
        Failure::TracerStays(_) => String::from(
            "what it had counted is saved; it goes on counting, at the cost of that, until the program ends",
        ),
        Failure::NothingSampled { clock: Clock::Wall } => String::from(
            "let the recording last longer, or sample more often (-r); what takes a few \
             milliseconds is best started by `pystrobe run`",
        ),
        Failure::NothingSampled { clock } => {
            format!("leave out {}: wall time always passes", option(*clock))
        }
        Failure::NotMeasurable { clock, .. } => {
            format!("leave out {}: wall time is always measured", option(*clock))
        }
        Failure::NoTasks { .. } => {
            String::from("leave out --async: it needs Python 3.14, which tells who awaits whom")
        }
        Failure::NotMeasured { clock, .. } => format!(
            "leave out {}; samples that pystrobe takes of CPython 3.8 or later mostly have every clock, traced calls \
             have that of the wall",
            option(*clock)
        ),
        Failure::NothingTraced => String::from(
            "where --only names functions, none of them was called: it takes MODULE, MODULE:FUNCTION, or a file",
        ),
        Failure::CountsCalls { .. } => String::from("leave out --pstats-flavor"),
        Failure::NoSuchThread { seen, .. } => format!("these were seen: {}", names(seen)),
        Failure::Unplaced {
            kept: Some(kept), ..
        } => format!("the complete output is kept in {}", kept.display()),
        Failure::OnlyATable { .. } => String::from(
            "flame graphs, stacks and threads come from recordings by pystrobe; \
             this file can become a table (-f table) or pstats",
        ),
        Failure::Spawn {
            hint: Some(hint), ..
        } => (*hint).to_owned(),
        Failure::NoTerminal(_) => String::from(
            "for the same without a terminal: pystrobe attach PID -d 10, or pystrobe dump PID",
        ),
        Failure::Batch(_) => {
            String::from("this is a bug in pystrobe; please report it with the command line")
        }
        _ => return None,
    };
    Some(hint)
}

/// What was typed to ask for a clock.
fn option(clock: Clock) -> String {
    match clock {
        Clock::Active => String::from("--no-idle"),
        clock => format!("--mode {}", clock.name()),
    }
}

fn attach_hint(error: &AttachError) -> Option<String> {
    let hint = match error {
        AttachError::NotFound { .. } => String::from(
            "`pgrep -a python` lists the Pythons that run; inside a container they have other ids \
             than outside",
        ),
        AttachError::Denied { cause, .. } => String::from(denial_hint(*cause)),
        AttachError::NotPython { .. } => String::from(
            "give the process id of the Python itself, not of a shell or a supervisor that started \
             it: `pgrep -a python`",
        ),
        AttachError::Starting { .. } => {
            String::from("try again in a moment, or start it by `pystrobe run`")
        }
        AttachError::GaveUp { .. } => {
            String::from("start it by `pystrobe run`: that shows what it prints, and how it ends")
        }
        _ => return None,
    };
    Some(hint)
}

/// The error itself names the cause.
fn denial_hint(cause: Denial) -> &'static str {
    match cause {
        Denial::PtraceScope(3..) => "with 3 no process may be read until the next boot",
        Denial::PtraceScope(2) => "with 2 only root may read other processes; use sudo",
        Denial::PtraceScope(_) => {
            "with 1 only an ancestor may read a process; use sudo, or start the program by \
             `pystrobe run`, or allow it until the next boot: \
             sudo sysctl kernel.yama.ptrace_scope=0"
        }
        Denial::OtherUser => "use sudo",
        Denial::Capability => {
            "use sudo; in Docker start the container with --cap-add=SYS_PTRACE, in Kubernetes \
             add SYS_PTRACE to securityContext.capabilities.add"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_id_leads_to_the_right_one() {
        let hint = attach_hint(&AttachError::NotFound { pid: 1 }).unwrap_or_default();
        assert!(hint.contains("pgrep"), "{hint}");
    }

    #[test]
    fn each_denial_names_what_applies() {
        for (cause, word) in [
            (Denial::PtraceScope(1), "ptrace_scope=0"),
            (Denial::PtraceScope(2), "sudo"),
            (Denial::PtraceScope(3), "boot"),
            (Denial::OtherUser, "sudo"),
            (Denial::Capability, "--cap-add=SYS_PTRACE"),
        ] {
            assert!(denial_hint(cause).contains(word), "{cause:?}");
        }
    }
}
