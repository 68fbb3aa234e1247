//! What the target is to do, and how it tells that it has: a script, and a pipe for the answer.
//!
//! Whoever comes first has the pipe: the target renames it before it executes anything, we remove it when we do not want to
//! wait any longer. So it is never in doubt whether a line that was given up may still be executed. Files were preferred to
//! memory, because a script can not write to memory without importing something that the program could notice.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pystrobe_sampling::AttachError;
use pystrobe_sampling::process::{self, ExecWatch};

use super::{InjectionError, Place};

const SCRIPT: &str = "script.py";
const WANTED: &str = "wanted";
const TAKEN: &str = "taken";

/// Milliseconds between two looks whether the target is still there; the answer itself is not waited for longer than it takes.
const LOOK: u16 = 20;
/// What one look counts for at most.
const LONGEST_LOOK: Duration = Duration::from_millis(100);
/// How long a script that has begun may take, at least.
const SHORTEST_WORK: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const LONGEST_ANSWER: u64 = 4096;

/// The bytes of an answer: executed, or raised what follows.
const DONE: u8 = b'.';
const RAISED: u8 = b'!';

/// A script that waits for the target to execute it.
#[derive(Debug)]
pub(super) struct Errand {
    pid: u32,
    place: Place,
    pipe: File,
    exec: ExecWatch,
    size: usize,
}

/// How far the target is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// It was executed to its end, or to what it raised.
    Answered(Result<(), InjectionError>),
    /// Nothing was heard of it yet.
    Silent,
}

impl Errand {
    /// Writes the script.
    pub(super) fn new(pid: u32, source: &str) -> Result<Self, InjectionError> {
        let no_place = |cause: String| InjectionError::NoPlace { pid, cause };
        let ended = |_| AttachError::Ended { pid };
        let exec = ExecWatch::new(pid).map_err(ended)?;
        let place = Place::of(pid)?;
        let pipe = place
            .pipe(WANTED)
            .map_err(|errno| no_place(errno.desc().into()))?;
        let script = script(&place, process::inner_id(pid, pid), source);
        place
            .write(SCRIPT, script.as_bytes())
            .map_err(|error| no_place(error.to_string()))?;
        Ok(Self {
            pid,
            place,
            pipe,
            exec,
            size: script.len(),
        })
    }

    /// The path of the script, as the target has to name it.
    pub(super) fn script(&self) -> String {
        self.place.inside(SCRIPT).to_string_lossy().into_owned()
    }

    /// The bytes of the script.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether the target has executed another program since the script was written, or has ended.
    pub(super) fn target_is_gone(&self) -> bool {
        self.exec.replaced() || process::is_ending(self.pid)
    }

    /// Waits for an answer.
    ///
    /// Where we were not awake ourselves (stopped, or the machine was asleep), that does not count: the target was not either.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<Progress, InjectionError> {
        let pid = self.pid;
        let mut waited = Duration::ZERO;
        loop {
            let is_gone = self.target_is_gone();
            let began = Instant::now();
            let look = if is_gone { 0 } else { LOOK };
            let mut waiting = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, PollTimeout::from(look)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.answer().map(Progress::Answered),
                Err(errno) => {
                    let what = "poll";
                    return Err(InjectionError::System {
                        pid,
                        what,
                        errno: errno as i32,
                    });
                }
            }
            if is_gone {
                return Err(AttachError::Ended { pid }.into());
            }
            waited += began.elapsed().min(LONGEST_LOOK);
            if waited >= patience {
                return Ok(Progress::Silent);
            }
        }
    }

    /// Takes the errand back, or, where the target has begun with it, waits for its end after all.
    pub(super) fn give_up(&mut self, patience: Duration) -> Result<(), InjectionError> {
        let pid = self.pid;
        if self.place.take(WANTED).is_ok() {
            return Err(InjectionError::Blocked {
                pid,
                waited: patience,
            });
        }
        let waited = patience.max(SHORTEST_WORK);
        match self.wait(waited)? {
            Progress::Answered(answer) => answer,
            Progress::Silent => Err(InjectionError::Unfinished { pid, waited }),
        }
    }

    fn answer(&mut self) -> Result<Result<(), InjectionError>, InjectionError> {
        let pid = self.pid;
        let mut answer = Vec::new();
        // An answer is shorter than what a pipe takes at once, so that all of it is there. What has no writer left reads as
        // nothing: the target has ended in the middle of it.
        match (&self.pipe).take(LONGEST_ANSWER).read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => answer.clear(),
        }
        Ok(match answer.split_first() {
            Some((&DONE, _)) => Ok(()),
            Some((&RAISED, exception)) => Err(InjectionError::Raised {
                pid,
                exception: String::from_utf8_lossy(exception).into_owned(),
            }),
            _ => Err(AttachError::Ended { pid }.into()),
        })
    }
}

/// The script. It leaves no name behind, imports only what every interpreter has loaded, and lets no exception out. A copy of
/// the target (`os.fork`) that comes to it is told from the target by its process id. Where nobody waits for an answer any
/// longer, the pipe has no reader and can not be opened for writing; from then on the script is a reader itself, so that
/// writing never raises SIGPIPE. The function is deleted, because its namespace and it refer to each other, which only a
/// collection of garbage would resolve. An interrupt that came while the line was executed is passed on to the program.
fn script(place: &Place, pid: u64, source: &str) -> String {
    let wanted = place.inside(WANTED);
    let taken = place.inside(TAKEN);
    let (wanted, taken) = (wanted.display(), taken.display());
    let hex: String = source.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "def pystrobe():
    import posix
    if posix.getpid() != {pid}:
        return
    try:
        posix.rename('{wanted}', '{taken}')
        answer = posix.open('{taken}', posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
        reader = posix.open('{taken}', posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return
    told = b'.'
    again = False
    try:
        source = bytes.fromhex('{hex}').decode()
        exec(compile(source, '<pystrobe>', 'exec'), {{'__name__': '<pystrobe>'}})
    except BaseException as error:
        again = type(error) is KeyboardInterrupt
        told = ('!' + type(error).__name__ + ': ' + str(error)).encode('utf-8', 'replace')[:2000]
    try:
        posix.write(answer, told)
    except OSError:
        pass
    posix.close(answer)
    posix.close(reader)
    if again:
        import _thread
        _thread.interrupt_main()
pystrobe()
del pystrobe
"
    )
}
