//! A recording from its start to its end: how it is to be made, the thread that makes it, what comes of it and why it ended.
//!
//! Whoever takes the batches holds one side of the channel. The recording ends by dropping the other one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use pystrobe_profile::Batch;

use crate::attach_error::AttachError;
use crate::memory::ReadError;
use crate::news::News;
use crate::process_tree::ProcessTree;
use crate::sampling_loop::SamplingLoop;
use crate::source::Source;
use crate::target::Target;
use crate::tasks::AsyncStacks;

/// Batches that may wait to be taken: some seconds' worth. Beyond that they grow in the sampler instead.
const WAITING_BATCHES: usize = 64;

/// How to sample.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Time between two samples.
    pub interval: Duration,
    /// How long to record; until the target ends where there is none.
    pub duration: Option<Duration>,
    /// Stop the target for each sample.
    pub blocking: bool,
    /// Show garbage collection as a frame `<GC>` on top of the stack.
    pub gc: bool,
    /// Show asyncio tasks below those that await them, in place of the event loop.
    pub tasks: Option<AsyncStacks>,
    /// Record its descendants too, those that there are and those that it will have.
    pub subprocesses: bool,
}

/// What was not recorded though it may have been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// Descendants that may not, or could not, be read.
    pub unreadable: u64,
    /// Descendants of which there were too many at once.
    pub too_many: u64,
    /// Processes whose version does not tell its asyncio tasks ([`Target::tells_tasks`]).
    pub tasks_untold: u64,
    /// Processes that had more asyncio tasks than are read for a sample.
    pub tasks_too_many: u64,
    /// Descendants that were recorded, but not on all clocks that others have.
    pub clocks: u64,
}

/// Counts what is left out, for whoever waits for the recording.
#[derive(Debug, Default)]
pub(crate) struct LeftOutCounts {
    pub(crate) unreadable: AtomicU64,
    pub(crate) too_many: AtomicU64,
    pub(crate) tasks_untold: AtomicU64,
    pub(crate) tasks_too_many: AtomicU64,
    pub(crate) clocks: AtomicU64,
}

/// Why a recording ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The duration has passed.
    Elapsed,
    /// It was stopped.
    Stopped,
    /// The process has ended.
    TargetEnded,
    /// The process has executed something that is not Python.
    TargetReplaced,
    /// The process could no longer be read.
    Failed(ReadError),
}

/// Ends a recording from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    thread: Thread,
}

impl Stopper {
    /// Asks the sampler to take its last sample now.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// A recording that is under way.
#[derive(Debug)]
pub struct Recording {
    batches: Receiver<Batch>,
    sampler: JoinHandle<Ending>,
    stop: Arc<AtomicBool>,
    left_out: Arc<LeftOutCounts>,
}

impl Recording {
    /// The news. The channel closes when the recording has ended.
    #[must_use]
    pub fn batches(&self) -> &Receiver<Batch> {
        &self.batches
    }

    /// Asks the sampler to end.
    pub fn stop(&self) {
        self.stopper().stop();
    }

    /// A handle that ends the recording, for another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: Arc::clone(&self.stop),
            thread: self.sampler.thread().clone(),
        }
    }

    /// What was left out so far.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        LeftOut {
            unreadable: self.left_out.unreadable.load(Ordering::Relaxed),
            too_many: self.left_out.too_many.load(Ordering::Relaxed),
            tasks_untold: self.left_out.tasks_untold.load(Ordering::Relaxed),
            tasks_too_many: self.left_out.tasks_too_many.load(Ordering::Relaxed),
            clocks: self.left_out.clocks.load(Ordering::Relaxed),
        }
    }

    /// Waits for the sampler and says why it ended. Take all batches first, or this waits for room.
    #[must_use]
    pub fn finish(self) -> Ending {
        drop(self.batches);
        self.sampler
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Starts to record. Where [`Options::subprocesses`] are asked for, each process is a source of its own that
/// describes itself; else the target is process 0 of the only source.
///
/// # Errors
///
/// Where the crate that reads old interpreters cannot read this one, where there is nothing but a target that is
/// not a Python, or no thread can be started.
pub fn record(target: Target, options: Options) -> Result<Recording, AttachError> {
    let pid = target.pid();
    let (sender, batches) = bounded(WAITING_BATCHES);
    let stop = Arc::new(AtomicBool::new(false));
    let left_out = Arc::new(LeftOutCounts::default());
    let (stopped, counts) = (Arc::clone(&stop), Arc::clone(&left_out));
    let sampler = match &target.interpreter {
        _ if options.subprocesses => spawn("process tree", move || {
            ProcessTree::new(target, options, stopped, sender, counts).run()
        }),
        Some(interpreter) => {
            let source = Source::of(interpreter, options.gc)?;
            let news = News::of_only_process(sender);
            spawn("sampler", move || {
                SamplingLoop::new(pid, options, stopped, news, source, counts).run()
            })
        }
        None => {
            return Err(AttachError::NotPython {
                pid,
                command: target.command().to_owned(),
            });
        }
    };
    match sampler {
        Ok(sampler) => Ok(Recording {
            batches,
            sampler,
            stop,
            left_out,
        }),
        Err(error) => Err(AttachError::Unreadable {
            pid,
            what: format!("no thread to sample it: {error}"),
        }),
    }
}

/// Starts a thread whose sleeps end on time; the default lets them end 50 microseconds late.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        // Where the kernel refuses, samples are late and counted as such.
        let _ = nix::sys::prctl::set_timerslack(1_000);
        work()
    })
}
