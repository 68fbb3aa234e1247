//! How long threads were on a CPU, and how long they wanted one, as the kernel accounts for it.
//!
//! `/proc/PID/task/TID/schedstat` has both in nanoseconds (`Documentation/scheduler/sched-stats.rst`). The other ways were rejected: the state
//! in `/proc/PID/task/TID/stat` is that of one moment and takes four times as long to read, the times there come in ticks, and the
//! CPU clock of a single thread is for its own process only (`pid_for_clock` in `kernel/time/posix-cpu-timers.c`).

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc::SYS_futex;

use crate::maps::{self, MappedImage};
use crate::process;
use crate::time_window::Spent;

/// Bytes of `struct _gil_runtime_state` (`Include/internal/pycore_gil.h`), or a little more: the futexes that a thread waits on for the
/// GIL are in its condition variables and mutexes.
const LOCK_BYTES: u64 = 256;

/// Accounts that stay open, in all recordings together. Looking at one that is not open takes five times as long; but a process
/// may often have no more than 1024 files.
const OPEN_LIMIT: usize = 256;
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Whether the kernel keeps accounts (`CONFIG_SCHED_INFO`) and shows that of a process.
pub(crate) fn is_accounted(pid: u32) -> bool {
    read(&Account::path(pid, pid), None).is_some()
}

/// Whether it can be told which threads of a process wait for a lock: the kernel shows their system calls, and the C library is glibc.
pub(crate) fn tells_waits(pid: u32) -> bool {
    let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let is_glibc = |image: &MappedImage| image.is_called("libc.so.6") || image.is_called("libc-2.");
    maps::images(&maps).iter().any(is_glibc)
        && read_text(&call_path(pid, pid), None, &mut [0; 256]).is_some()
}

/// The kernel's accounts of the threads of a process.
#[derive(Debug)]
pub(crate) struct Accounts {
    pid: u32,
    /// The threads by the ids that they have in their own PID namespace, where that is not ours.
    inner: Option<HashMap<u64, u32>>,
}

impl Accounts {
    /// Those of a process; `None` where there are none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        is_accounted(pid).then(|| Self {
            pid,
            inner: (!process::is_in_our_namespace(pid)).then(HashMap::new),
        })
    }

    /// What is known of a thread's time, by its id in its own PID namespace.
    pub(crate) fn of_thread(accounts: &mut Option<Self>, native_id: u64) -> Accounting {
        match accounts {
            None => Accounting::Off,
            Some(accounts) => match accounts.find(native_id) {
                Some(account) => Accounting::Open(account),
                None => Accounting::Ended,
            },
        }
    }

    /// The account of a thread, by its id in its own PID namespace. `None` where there is no such thread (any more).
    fn find(&mut self, native_id: u64) -> Option<Account> {
        let thread = match &mut self.inner {
            None => u32::try_from(native_id).ok()?,
            Some(inner) => match inner.get(&native_id) {
                Some(thread) => *thread,
                None => {
                    *inner = process::threads_by_inner_id(self.pid);
                    *inner.get(&native_id)?
                }
            },
        };
        Account::open(self.pid, thread)
    }
}

/// What the kernel says of a thread's time.
#[derive(Debug)]
pub(crate) enum Accounting {
    /// It keeps no accounts.
    Off,
    /// The thread has ended.
    Ended,
    /// Its account.
    Open(Account),
}

/// The account of one thread.
#[derive(Debug)]
pub(crate) struct Account {
    pid: u32,
    thread: u32,
    path: String,
    file: Option<OpenFile>,
    /// What system call it is in, once that was asked.
    call: Option<OpenFile>,
    last: Spent,
}

impl Account {
    fn path(pid: u32, thread: u32) -> String {
        format!("/proc/{pid}/task/{thread}/schedstat")
    }

    fn open(pid: u32, thread: u32) -> Option<Self> {
        let path = Self::path(pid, thread);
        let file = OpenFile::new(&path);
        let last = read(&path, file.as_ref())?;
        Some(Self {
            pid,
            thread,
            path,
            file,
            call: None,
            last,
        })
    }

    /// Time that the thread has run since it started, in nanoseconds, when last looked at.
    pub(crate) fn running(&self) -> u64 {
        self.last.running
    }

    /// All that it has spent is news to whoever asks next.
    pub(crate) fn count_from_start(&mut self) {
        self.last = Spent::default();
    }

    /// Whether the thread is on a CPU at the moment, or wants one. Takes four times as long as to ask what it has spent.
    pub(crate) fn runs(&self) -> bool {
        process::is_running(self.pid, self.thread)
    }

    /// Whether the thread waits for the lock at an address: it is in the call `futex` with an address in the lock. So glibc waits; with
    /// other C libraries this is never so.
    pub(crate) fn waits_for(&mut self, lock: u64) -> bool {
        let path = call_path(self.pid, self.thread);
        if self.call.is_none() {
            self.call = OpenFile::new(&path);
        }
        let mut bytes = [0; 256];
        let Some(text) = read_text(&path, self.call.as_ref(), &mut bytes) else {
            return false;
        };
        let mut words = text.split_ascii_whitespace();
        let number = words.next().and_then(|word| word.parse().ok());
        let address = words.next().and_then(|word| word.strip_prefix("0x"));
        let address = address.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number == Some(SYS_futex)
            && address
                .is_some_and(|address| (lock..lock.saturating_add(LOCK_BYTES)).contains(&address))
    }

    /// What the thread has spent since this was last asked; `None` when it has ended.
    pub(crate) fn since(&mut self) -> Option<Spent> {
        let now = read(&self.path, self.file.as_ref())?;
        let last = std::mem::replace(&mut self.last, now);
        Some(Spent {
            running: now.running.saturating_sub(last.running),
            ready: now.ready.saturating_sub(last.ready),
        })
    }
}

/// A file that counts among those that stay open.
#[derive(Debug)]
struct OpenFile(File);

impl OpenFile {
    fn new(path: &str) -> Option<Self> {
        if OPEN.fetch_add(1, Ordering::Relaxed) < OPEN_LIMIT
            && let Ok(file) = File::open(path)
        {
            return Some(Self(file));
        }
        OPEN.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where the kernel says what system call a thread is in (`proc_pid_syscall`, `fs/proc/base.c`).
fn call_path(pid: u32, thread: u32) -> String {
    format!("/proc/{pid}/task/{thread}/syscall")
}

fn read_text<'a>(path: &str, file: Option<&OpenFile>, bytes: &'a mut [u8]) -> Option<&'a str> {
    let length = match file {
        Some(OpenFile(file)) => file.read_at(bytes, 0),
        None => File::open(path).and_then(|file| file.read_at(bytes, 0)),
    };
    std::str::from_utf8(bytes.get(..length.ok()?)?).ok()
}

fn read(path: &str, file: Option<&OpenFile>) -> Option<Spent> {
    // Three numbers of at most 20 digits.
    let mut bytes = [0; 64];
    let text = read_text(path, file, &mut bytes)?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some(Spent {
        running: numbers.next()?.ok()?,
        ready: numbers.next()?.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own thread's account, which nobody else spends from.
    #[test]
    fn an_account_tells_what_was_spent() {
        let pid = std::process::id();
        let thread = u64::try_from(nix::unistd::gettid().as_raw()).unwrap();
        let mut account = Accounts::of(pid).unwrap().find(thread).unwrap();
        let before = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap();
        let spent = loop {
            // The call updates the account of the thread that makes it.
            let now = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap();
            if now.tv_nsec() != before.tv_nsec() && (now - before).tv_nsec() > 20_000_000 {
                break account.since().unwrap();
            }
        };
        assert!(spent.running >= 10_000_000, "{spent:?}");
        assert!(account.since().unwrap().running < spent.running);
        account.count_from_start();
        assert!(account.since().unwrap().running >= spent.running);
    }

    #[test]
    fn who_is_not_there_has_no_account() {
        assert!(Accounts::of(u32::MAX).is_none());
        let mut accounts = Accounts::of(std::process::id()).unwrap();
        assert!(accounts.find(u64::MAX).is_none());
        assert!(accounts.find(1 << 30).is_none());
    }
}
