//! Stops every thread of a process for the moment of a sample: what `--blocking` asks for.
//!
//! The process is traced only while it is stopped, so that its signals and its children are its own
//! affair in between. `PTRACE_SEIZE` and `PTRACE_INTERRUPT` leave no signal behind, where attaching would
//! send one. If we die meanwhile, the kernel detaches for us and the threads go on.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::memory::ReadError;
use crate::process;

/// Threads that start while others are being stopped are looked for this many times.
const ROUNDS: usize = 100;

/// A process that stands still until this is dropped. The kernel ties a tracee to the thread that seized
/// it: a pause has to end on the thread on which it began.
#[derive(Debug)]
pub(crate) struct Pause {
    /// The threads, each with a signal that was about to be delivered to it.
    threads: Vec<(Pid, Option<Signal>)>,
}

impl Pause {
    /// Stops all threads of `pid`.
    ///
    /// # Errors
    ///
    /// [`ReadError::Denied`] where tracing is not permitted, [`ReadError::Gone`] where the process has ended.
    pub(crate) fn new(pid: u32) -> Result<Self, ReadError> {
        let mut pause = Self {
            threads: Vec::new(),
        };
        for _ in 0..ROUNDS {
            let fresh: Vec<u32> = process::threads(pid)
                .filter(|thread| !pause.holds(*thread))
                .filter(|thread| process::thread_is_alive(pid, *thread))
                .collect();
            if fresh.is_empty() {
                return if pause.threads.is_empty() {
                    Err(ReadError::Gone)
                } else {
                    Ok(pause)
                };
            }
            for thread in fresh {
                match stop(pid, raw(thread)) {
                    Ok(signal) => pause.threads.push((raw(thread), signal)),
                    // It ended between the listing and now.
                    Err(Errno::ESRCH | Errno::ECHILD) => {}
                    // So says the kernel of a thread that is just ending, too.
                    Err(Errno::EPERM) if !process::thread_is_alive(pid, thread) => {}
                    Err(Errno::EPERM) => return Err(ReadError::Denied),
                    Err(errno) => return Err(ReadError::Other(errno as i32)),
                }
            }
        }
        Ok(pause)
    }

    fn holds(&self, thread: u32) -> bool {
        self.threads.iter().any(|(known, _)| *known == raw(thread))
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        for &(thread, signal) in &self.threads {
            // The only failure is a thread that was killed meanwhile; there is nothing left to let go.
            let _ = ptrace::detach(thread, signal);
        }
    }
}

/// A thread as the kernel's calls take it. Ids are positive numbers below 2^22.
fn raw(thread: u32) -> Pid {
    Pid::from_raw(thread.cast_signed())
}

/// Stops one thread. Gives the signal whose delivery it was stopped at instead, if there was one.
fn stop(pid: u32, thread: Pid) -> Result<Option<Signal>, Errno> {
    ptrace::seize(thread, ptrace::Options::empty())?;
    if let Err(errno) = ptrace::interrupt(thread) {
        let _ = ptrace::detach(thread, None);
        return Err(errno);
    }
    // Only looks, because what is waited for is gone: how a child of ours ended is for whoever started it.
    let look = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(thread), look | WaitPidFlag::__WALL) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                let ours = process::parent(pid) == Some(std::process::id());
                if !ours || thread != raw(pid) {
                    // Its own parent is told only after the tracer was.
                    let _ = waitpid(thread, Some(WaitPidFlag::__WALL));
                }
                return Err(Errno::ESRCH);
            }
            Ok(_) => break,
        }
    }
    match waitpid(
        thread,
        Some(WaitPidFlag::__WALL | WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG),
    )? {
        WaitStatus::Stopped(_, signal) => Ok(Some(signal)),
        _ => Ok(None),
    }
}
