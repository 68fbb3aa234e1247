//! Child processes with a deadline: nothing that a test starts can outlive it or hang it.

use std::io::Read;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take before a test calls it hung. Far beyond what it takes, since the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Everything that a stream has brought so far, gathered by a thread.
pub(crate) struct Gathered {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Gathered {
    /// Reads a stream to its end in the background.
    pub(crate) fn from(mut stream: impl Read + Send + 'static) -> Gathered {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => into.lock().unwrap().extend_from_slice(&buffer[..length]),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        });
        Gathered { bytes, thread }
    }

    /// What has come so far.
    pub(crate) fn so_far(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap()
    }

    /// Whether the stream has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until `found` finds what it looks for in what has come, and gives it.
    pub(crate) fn wait_until<T>(&self, what: &str, found: impl Fn(&[u8]) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let ended = self.thread.is_finished();
            if let Some(value) = found(&self.so_far()) {
                return value;
            }
            assert!(
                !ended && start.elapsed() < PATIENCE,
                "waited for {what}, and only got: {}",
                String::from_utf8_lossy(&self.so_far())
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Everything, once the stream has ended. A grandchild that keeps it open does not hold the test up for long.
    pub(crate) fn all(self) -> Vec<u8> {
        let start = Instant::now();
        while !self.thread.is_finished() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::mem::take(&mut *self.so_far())
    }
}

/// A child that is killed when it goes out of scope.
pub(crate) struct Running {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Running {
        match command.spawn() {
            Ok(child) => Running { child, ended: None },
            Err(error) => panic!("could not start {command:?}: {error}"),
        }
    }

    /// The child, for its streams.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, if it still runs.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for it to end; `None` when it has not after [`PATIENCE`], and then it is killed.
    pub(crate) fn wait(&mut self) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.kill();
        None
    }

    fn kill(&mut self) {
        if self.ended().is_none() {
            // It may be stopped, and may end between the two calls: neither is a reason to fail.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
