//! The thread that samples a process, from the first moment to the last.
//!
//! It never waits for whoever takes its batches: a batch for which there is no room stays here and goes
//! out with the next one. It ends by dropping its side of the channel.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use py_spy::config::LineNo;
use pystrobe_profile::{Batch, Counters, NodeId, Process};

use crate::attach_error::AttachError;
use crate::discovery::{self, Interpreter};
use crate::legacy::LegacySampler;
use crate::memory::ReadError;
use crate::names_schedule::NamesSchedule;
use crate::pause::Pause;
use crate::process::{self, ExecWatch};
use crate::process_memory::ProcessMemory;
use crate::process_tree::ProcessTree;
use crate::processor_time::Accounts;
use crate::sampler::{Sampler, UntoldTasks};
use crate::schedule::{Schedule, nanoseconds};
use crate::stacks::Stacks;
use crate::target::Target;
use crate::tasks::{AsyncStacks, TaskSearch};

/// Batches that may wait to be taken: some seconds' worth. Beyond that they grow here instead.
const WAITING_BATCHES: usize = 64;
/// How often a batch goes out.
const BATCH_EVERY: Duration = Duration::from_millis(50);
/// How long a process of a tree that has done nothing but stand in one place is taken for a copy that may be about to execute
/// another program. Mostly that takes a millisecond, but on a busy machine it may have to wait for its turn.
const STANDS_STILL: Duration = Duration::from_secs(1);
/// Samples elsewhere that make no difference to that.
const PASSING: u64 = 2;
/// How often the process is asked whether it executes another program by now.
const EXEC_CHECK_EVERY: Duration = Duration::from_millis(50);
/// How long a process that has executed another program may take to become a Python again.
pub(crate) const FOLLOW_FOR: Duration = Duration::from_secs(5);
/// Readings that fail one after the other before the process is given up.
const PATIENCE: Duration = Duration::from_secs(5);

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
                Run::new(pid, options, stopped, news, source, counts).run()
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

/// Where the batches of one source go, and what they say of it.
pub(crate) struct News {
    sender: Sender<Batch>,
    source: u32,
    /// When the source began, after the recording did.
    began: Duration,
    /// The process, until it has been described.
    process: Option<Process>,
    /// Whether anything went out. Until then a process of a tree may prove to be something that nobody asked for:
    /// a copy of its parent that was about to execute another program.
    sent: bool,
    /// It has proven to be that, and nothing came after it so far.
    void: bool,
}

impl News {
    fn of_only_process(sender: Sender<Batch>) -> Self {
        Self {
            sender,
            source: 0,
            began: Duration::ZERO,
            process: None,
            sent: true,
            void: false,
        }
    }

    /// Those of a process of a tree. It is described with the first time that was seen of it.
    pub(crate) fn of_process(
        sender: Sender<Batch>,
        source: u32,
        began: Duration,
        process: Process,
    ) -> Self {
        Self {
            sender,
            source,
            began,
            process: Some(process),
            sent: false,
            void: false,
        }
    }

    /// Makes the batch one of this source, where it is worth sending: a process that was never seen is none, and what stands
    /// still since its beginning is not one yet, unless this is the `last` that is seen of it.
    fn address(&mut self, batch: &mut Batch, last: bool) -> bool {
        if self.void || (!self.sent && batch.observations.is_empty()) {
            return false;
        }
        let is_young = batch.elapsed < nanoseconds(STANDS_STILL);
        if !self.sent && !last && is_young && stands_still(batch) {
            return false;
        }
        self.sent = true;
        batch.source = self.source;
        batch.elapsed = batch.elapsed.saturating_add(nanoseconds(self.began));
        batch.processes.extend(self.process.take());
        true
    }
}

/// Whether hardly anything was seen but one place. What runs in a copy right after a `fork` (`os.register_at_fork`) may
/// have been seen too.
fn stands_still(batch: &Batch) -> bool {
    let mut samples: HashMap<NodeId, u64> = HashMap::new();
    for seen in &batch.observations {
        *samples.entry(seen.node).or_default() += seen.samples.wall;
    }
    let (all, most) = (samples.values().sum::<u64>(), samples.values().max());
    most.is_none_or(|most| all - most <= PASSING)
}

/// Where samples come from.
pub(crate) enum Source {
    Remote {
        sampler: Box<Sampler<ProcessMemory>>,
        exec: ExecWatch,
        names: NamesSchedule,
    },
    Legacy(Box<LegacySampler>),
}

impl Source {
    pub(crate) fn of(interpreter: &Interpreter, gc: bool) -> Result<Self, AttachError> {
        let pid = interpreter.pid;
        if interpreter.legacy {
            return Ok(Self::Legacy(Box::new(LegacySampler::new(
                pid,
                LineNo::First,
            )?)));
        }
        let exec = ExecWatch::new(pid).map_err(|_| AttachError::Ended { pid })?;
        let sampler = Box::new(Sampler::new(
            pid,
            stacks(interpreter, gc),
            Accounts::of(pid),
        ));
        Ok(Self::Remote {
            sampler,
            exec,
            names: NamesSchedule::default(),
        })
    }

    /// Notices what the process has executed since an earlier moment: before its interpreter was looked for.
    pub(crate) fn watch_from(&mut self, earlier: ExecWatch) {
        if let Self::Remote { exec, .. } = self {
            *exec = earlier;
        }
    }

    fn sample(&mut self, weight: Duration) -> Result<(), ReadError> {
        match self {
            Self::Remote { sampler, .. } => sampler.sample(weight),
            Self::Legacy(sampler) => sampler.sample(weight),
        }
    }

    fn counters(&mut self) -> &mut Counters {
        match self {
            Self::Remote { sampler, .. } => sampler.counters(),
            Self::Legacy(sampler) => sampler.counters(),
        }
    }

    fn take_batch(&mut self, elapsed: Duration) -> Batch {
        match self {
            Self::Remote { sampler, .. } => sampler.take_batch(elapsed),
            Self::Legacy(sampler) => sampler.take_batch(elapsed),
        }
    }

    fn put_back(&mut self, batch: Batch) {
        match self {
            Self::Remote { sampler, .. } => sampler.put_back(batch),
            Self::Legacy(sampler) => sampler.put_back(batch),
        }
    }
}

/// What reads the stacks of an interpreter.
pub(crate) fn stacks(interpreter: &Interpreter, gc: bool) -> Stacks<ProcessMemory> {
    let memory = ProcessMemory::new(interpreter.pid);
    let mut stacks = Stacks::new(
        memory,
        interpreter.layout,
        interpreter.roots,
        interpreter.code_type,
    );
    stacks.gc = gc;
    stacks.none = interpreter.none;
    stacks
}

/// The sampling of one process, from its first sample to its last.
pub(crate) struct Run {
    pid: u32,
    options: Options,
    stopped: Arc<AtomicBool>,
    news: News,
    source: Source,
    started: Instant,
    left_out: Arc<LeftOutCounts>,
    task_search: TaskSearch,
}

impl Run {
    pub(crate) fn new(
        pid: u32,
        options: Options,
        stopped: Arc<AtomicBool>,
        news: News,
        source: Source,
        left_out: Arc<LeftOutCounts>,
    ) -> Self {
        Self {
            pid,
            options,
            stopped,
            news,
            source,
            left_out,
            task_search: TaskSearch::new(pid),
            started: Instant::now(),
        }
    }

    pub(crate) fn run(mut self) -> Ending {
        let mut schedule = Schedule::new(self.options.interval, u64::from(self.pid));
        let mut last_sample = Duration::ZERO;
        let mut last_success = Duration::ZERO;
        // Samples that could not be read since the last one that was. A process that is ending, or that
        // starts another program, cannot be read either: those are not lost.
        let mut failed = 0;
        let mut next_batch = BATCH_EVERY;
        let mut next_exec_check = EXEC_CHECK_EVERY;
        let ending = loop {
            let now = self.started.elapsed();
            let tick = schedule.next(now);
            self.source.counters().skipped += tick.skipped;
            let due = self
                .options
                .duration
                .map_or(tick.due, |end| tick.due.min(end));
            let now = match due <= now {
                true => now,
                false => self.wait_until(due, schedule.spins()),
            };

            // One last sample closes the recording, so that it covers all the time it lasted.
            let stopped = self.stopped.load(Ordering::Acquire);
            let elapsed = self.options.duration.is_some_and(|end| now >= end);
            // What executes another program at once was never more than a copy of its parent: all samples of that
            // are to be known for it. Later it is enough to notice soon.
            if !self.news.sent {
                next_exec_check = now;
            }
            if !stopped && !elapsed && schedule.is_late(tick, now) {
                self.source.counters().late += 1;
            }
            self.look_for_tasks(now);
            match self.sample(now.saturating_sub(last_sample)) {
                Ok(()) => {
                    self.source.counters().lost += std::mem::take(&mut failed);
                    (last_sample, last_success) = (now, now);
                }
                Err(_) if !process::is_alive(self.pid) => break Ending::TargetEnded,
                Err(error @ ReadError::Denied) => break Ending::Failed(error),
                Err(error) => {
                    failed += 1;
                    next_exec_check = now;
                    if now.saturating_sub(last_success) > PATIENCE {
                        self.source.counters().lost += failed;
                        break Ending::Failed(error);
                    }
                }
            }
            if now >= next_exec_check {
                next_exec_check = now + EXEC_CHECK_EVERY;
                match self.follow_exec() {
                    Exec::Same => {}
                    // What passed between the two programs was nobody's time.
                    Exec::Followed => {
                        (last_sample, last_success) =
                            (self.started.elapsed(), self.started.elapsed())
                    }
                    Exec::Lost(ending) => break ending,
                }
            }
            if stopped || elapsed {
                break if stopped {
                    Ending::Stopped
                } else {
                    Ending::Elapsed
                };
            }
            self.name_threads(now);
            if now >= next_batch {
                next_batch = now + BATCH_EVERY;
                self.send(last_sample);
            }
        };
        if let Source::Remote { sampler, .. } = &mut self.source {
            // Names that changed since; nothing comes of it where the process has ended.
            sampler.refresh_names();
        }
        self.count_untold_tasks();
        let mut batch = self.source.take_batch(last_sample);
        if self.news.address(&mut batch, true) {
            // This one may wait for room. That nobody is listening any more is no reason to complain.
            let _ = self.news.sender.send(batch);
        }
        ending
    }

    fn sample(&mut self, weight: Duration) -> Result<(), ReadError> {
        let _pause = match (&self.source, self.options.blocking) {
            (Source::Remote { .. }, true) => Some(Pause::new(self.pid)?),
            _ => None,
        };
        self.source.sample(weight)
    }

    /// Waits until `due`, or until the recording is stopped. Gives the time by then.
    fn wait_until(&self, due: Duration, spin: bool) -> Duration {
        loop {
            let now = self.started.elapsed();
            let rest = due.saturating_sub(now);
            if rest.is_zero() || self.stopped.load(Ordering::Acquire) {
                return now;
            }
            if spin {
                std::hint::spin_loop()
            } else {
                thread::park_timeout(rest)
            }
        }
    }

    fn send(&mut self, elapsed: Duration) {
        let mut batch = self.source.take_batch(elapsed);
        if !self.news.address(&mut batch, false) {
            self.source.put_back(batch);
            return;
        }
        match self.news.sender.try_send(batch) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(batch)) => self.source.put_back(batch),
        }
    }

    fn look_for_tasks(&mut self, now: Duration) {
        if let Source::Remote { sampler, .. } = &mut self.source
            && let Some(which) = self.options.tasks
        {
            sampler.look_for_tasks(&mut self.task_search, now, which);
        }
    }

    fn count_untold_tasks(&self) {
        if self.options.tasks.is_none() || !self.news.sent {
            return;
        }
        let untold = match &self.source {
            Source::Remote { sampler, .. } => sampler.untold_tasks(),
            Source::Legacy(_) => UntoldTasks {
                version: true,
                ..UntoldTasks::default()
            },
        };
        let counts = &self.left_out;
        let number = |is: bool| u64::from(is);
        counts
            .tasks_untold
            .fetch_add(number(untold.version), Ordering::Relaxed);
        counts
            .tasks_too_many
            .fetch_add(number(untold.number), Ordering::Relaxed);
    }

    fn name_threads(&mut self, now: Duration) {
        if let Source::Remote { sampler, names, .. } = &mut self.source
            && names.is_due(now, sampler.threads_met(), sampler.has_unnamed())
        {
            let began = Instant::now();
            sampler.refresh_names();
            names.done(now, sampler.threads_met(), began.elapsed());
        }
    }

    /// If the process executes another program by now, goes on with that one.
    fn follow_exec(&mut self) -> Exec {
        let Source::Remote { sampler, exec, .. } = &mut self.source else {
            return Exec::Same;
        };
        if !exec.replaced() {
            return Exec::Same;
        }
        // The end of the process looks the same.
        self.news.void |= !self.news.sent && !process::is_ending(self.pid);
        let (began, stopped) = (Instant::now(), &self.stopped);
        let give_up = || stopped.load(Ordering::Acquire) || began.elapsed() > FOLLOW_FOR;
        match discovery::wait_for(self.pid, give_up) {
            Ok(interpreter) if !interpreter.legacy => match ExecWatch::new(self.pid) {
                Ok(watch) => {
                    if self.news.sent {
                        sampler.follow(stacks(&interpreter, self.options.gc));
                    } else {
                        self.news.void = false;
                        **sampler = Sampler::new(
                            self.pid,
                            stacks(&interpreter, self.options.gc),
                            Accounts::of(self.pid),
                        );
                        self.news.process = Some(describe(&interpreter));
                    }
                    *exec = watch;
                    self.task_search = TaskSearch::new(self.pid);
                    Exec::Followed
                }
                Err(_) => Exec::Lost(Ending::TargetEnded),
            },
            Ok(_) | Err(AttachError::GaveUp { .. } | AttachError::NotPython { .. }) => {
                Exec::Lost(Ending::TargetReplaced)
            }
            Err(_) => Exec::Lost(Ending::TargetEnded),
        }
    }
}

/// The process of an interpreter, as the profile describes it.
pub(crate) fn describe(interpreter: &Interpreter) -> Process {
    Process {
        pid: interpreter.pid,
        command: process::command_line(interpreter.pid),
        python: interpreter.python.clone(),
    }
}

/// What became of a process that may have executed another program.
enum Exec {
    /// It has not.
    Same,
    /// It has, and that one is a Python as well.
    Followed,
    /// It has, and there is nothing more to sample.
    Lost(Ending),
}
