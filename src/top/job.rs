//! Ctrl-Z: stops us as the terminal would, if somebody can bring us back.

use std::io;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, getppid, getsid};

/// Ancestors that are looked at.
const MOST: usize = 64;

/// Sends what the terminal sends for Ctrl-Z: SIGTSTP, to all of the job, so also to a program that we have started.
///
/// # Errors
///
/// Those of kill(2).
pub(super) fn stop() -> io::Result<()> {
    Ok(kill(Pid::from_raw(0), Signal::SIGTSTP)?)
}

/// Whether we are the job of a shell. The kernel discards what would stop a group that nobody in its session could
/// continue ("orphaned process group", setpgid(2)): a handler has to do as much.
pub(super) fn is_one() -> bool {
    let own = (getpgrp().as_raw(), getsid(None).map(Pid::as_raw).ok());
    let mut ancestor = getppid().as_raw();
    for _ in 0..MOST {
        let Some([parent, group, session]) = kin(ancestor) else {
            return false;
        };
        if group != own.0 {
            return Some(session) == own.1;
        }
        ancestor = parent;
    }
    false
}

/// Parent, group and session of a process: the fields 4 to 6 of `/proc/PID/stat`, behind the name and the state.
fn kin(pid: i32) -> Option<[i32; 3]> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ').skip(1).map(|field| field.parse());
    let mut next = || fields.next()?.ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kin_of_a_process_are_read() {
        let own = i32::try_from(std::process::id()).unwrap();
        let session = getsid(None).unwrap().as_raw();
        let expected = [getppid().as_raw(), getpgrp().as_raw(), session];
        assert_eq!(kin(own), Some(expected));
        assert_eq!(kin(i32::MAX), None);
    }
}
