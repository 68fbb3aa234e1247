//! The terminal as a source of keys: waits for one, and notices that there will be none any more.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::errors::Failure;

/// What to say of a terminal that is gone.
const GONE: &str = "this one has hung up";

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Keyboard {
    terminal: OwnedFd,
}

impl Keyboard {
    /// The terminal on stdin, else the one that we belong to: as crossterm chooses.
    ///
    /// # Errors
    ///
    /// Where there is neither.
    pub(super) fn open() -> Result<Keyboard, Failure> {
        let stdin = io::stdin();
        let terminal = match stdin.is_terminal() {
            true => stdin.as_fd().try_clone_to_owned(),
            false => File::open("/dev/tty").map(OwnedFd::from),
        };
        let terminal = terminal.map_err(|_| Failure::NoTerminal("there is none to type on"))?;
        Ok(Keyboard { terminal })
    }

    /// Waits for a key.
    ///
    /// # Errors
    ///
    /// When the terminal has hung up.
    pub(super) fn wait(&self, patience: Duration) -> io::Result<()> {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match events(&self.terminal, PollFlags::POLLIN, patience)? {
            events if is_end(events) => Err(io::Error::other("it has hung up")),
            _ => Ok(()),
        }
    }

    /// An error of the terminal, in words for its user.
    pub(super) fn failure(&self, source: io::Error) -> Failure {
        match events(&self.terminal, PollFlags::empty(), PollTimeout::ZERO) {
            Ok(events) if !is_end(events) => Failure::System {
                doing: "cannot use the terminal",
                source,
            },
            _ => Failure::NoTerminal(GONE),
        }
    }

    /// Does `end` when the terminal has hung up, on a thread of its own: crossterm 0.29 never comes back from `poll` then
    /// (`event/source/unix/mio.rs`: a read of no bytes and an error other than EAGAIN are tried again). A terminal of which we
    /// are not told by SIGHUP, because our session's leader has ended or never had one, says so only to who asks.
    ///
    /// # Errors
    ///
    /// Where there can be no such thread.
    pub(super) fn when_gone(&self, end: impl FnOnce(Failure) + Send + 'static) -> io::Result<()> {
        let terminal = self.terminal.try_clone()?;
        let watch = move || {
            // Without events that are asked for this wakes up at the end only.
            while let Ok(events) = events(&terminal, PollFlags::empty(), PollTimeout::NONE) {
                if is_end(events) {
                    break;
                }
            }
            end(Failure::NoTerminal(GONE));
        };
        let name = String::from("terminal");
        thread::Builder::new().name(name).spawn(watch).map(|_| ())
    }
}

fn events(terminal: &OwnedFd, wanted: PollFlags, patience: PollTimeout) -> io::Result<PollFlags> {
    let mut watched = [PollFd::new(terminal.as_fd(), wanted)];
    match poll(&mut watched, patience) {
        // The size of the window has changed.
        Ok(_) | Err(Errno::EINTR) => Ok(watched[0].revents().unwrap_or(PollFlags::empty())),
        Err(error) => Err(error.into()),
    }
}

fn is_end(events: PollFlags) -> bool {
    events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL)
}
