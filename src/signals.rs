//! Signals that are sent to pystrobe.

use std::io;
use std::thread;

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal {
    /// Its number.
    pub(crate) number: i32,
    /// Whether the terminal sent it. Then every process in the foreground has got it too.
    pub(crate) from_terminal: bool,
}

/// Calls `react` for each of these signals that comes from now on, on a thread of its own.
///
/// # Errors
///
/// Where the handlers cannot be installed, or the thread cannot be started.
pub(crate) fn watch(
    numbers: &[i32],
    mut react: impl FnMut(Signal) + Send + 'static,
) -> io::Result<()> {
    let mut signals = SignalsInfo::<WithOrigin>::new(numbers)?;
    thread::Builder::new()
        .name(String::from("signals"))
        .spawn(move || {
            for origin in signals.forever() {
                react(Signal {
                    number: origin.signal,
                    from_terminal: is_from_terminal(&origin),
                });
            }
        })?;
    Ok(())
}

/// The kernel's terminal driver sends signals itself; others call kill(2).
fn is_from_terminal(origin: &Origin) -> bool {
    matches!(origin.cause, Cause::Kernel)
}

/// Those of these signals that were not ignored when pystrobe was started.
///
/// Who starts us under nohup, or in the background of a script, has some signals ignored. A handler would
/// undo that, for us and, because exec resets handlers but not what is ignored, for a program that we start.
pub(crate) fn not_ignored(numbers: &[i32]) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    numbers
        .iter()
        .copied()
        .filter(|number| ignored & bit(*number) == 0)
        .collect()
}

/// The signals that end a recording. SIGINT and SIGTERM do even where they were ignored: who sends one to a
/// recorder means to end it; SIGHUP does not under nohup.
pub(crate) fn that_end_a_recording() -> Vec<i32> {
    let mut numbers = vec![SIGINT, SIGTERM];
    numbers.extend(not_ignored(&[SIGHUP]));
    numbers
}

/// The set in the line `SigIgn:` of /proc/PID/status: bit n - 1 is signal n.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

fn bit(number: i32) -> u64 {
    u32::try_from(number - 1)
        .ok()
        .and_then(|shift| 1_u64.checked_shl(shift))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_kernels_set() {
        let status = "Name:\tcat\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        let set = ignored(status);
        assert_ne!(set & bit(SIGHUP), 0);
        assert_eq!(set & bit(SIGINT), 0);
        assert_ne!(set & bit(13), 0);
        assert_eq!(ignored("nothing of the kind"), 0);
    }

    #[test]
    fn rust_ignores_sigpipe_and_the_kernel_says_so() {
        assert_eq!(not_ignored(&[13, SIGTERM]), [SIGTERM]);
    }
}
