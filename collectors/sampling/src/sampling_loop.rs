//! The sampling of one process, from its first sample to its last: one at each moment of the schedule, and between them what has to be
//! asked now and then.
//!
//! It never waits for whoever takes its batches, and it follows the process into another program that it executes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::attach_error::AttachError;
use crate::discovery;
use crate::memory::ReadError;
use crate::news::News;
use crate::pause::Pause;
use crate::process::{self, ExecWatch};
use crate::processor_time::Accounts;
use crate::recording::{Ending, LeftOutCounts, Options};
use crate::sampler::{Sampler, UntoldTasks};
use crate::schedule::Schedule;
use crate::source::{Source, describe, stacks};
use crate::tasks::TaskSearch;

/// How often a batch goes out.
const BATCH_EVERY: Duration = Duration::from_millis(50);
/// How often the process is asked whether it executes another program by now.
const EXEC_CHECK_EVERY: Duration = Duration::from_millis(50);
/// How long a process that has executed another program may take to become a Python again.
pub(crate) const FOLLOW_FOR: Duration = Duration::from_secs(5);
/// Readings that fail one after the other before the process is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The sampling of one process, from its first sample to its last.
pub(crate) struct SamplingLoop {
    pid: u32,
    options: Options,
    stopped: Arc<AtomicBool>,
    news: News,
    source: Source,
    started: Instant,
    left_out: Arc<LeftOutCounts>,
    task_search: TaskSearch,
}

impl SamplingLoop {
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
            if !self.news.has_begun() {
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
        let batch = self.source.take_batch(last_sample);
        self.news.send_last(batch);
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
        let batch = self.source.take_batch(elapsed);
        if let Some(batch) = self.news.send(batch) {
            self.source.put_back(batch);
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
        if self.options.tasks.is_none() || !self.news.has_begun() {
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
        if !process::is_ending(self.pid) {
            self.news.forget_unsent();
        }
        let (began, stopped) = (Instant::now(), &self.stopped);
        let give_up = || stopped.load(Ordering::Acquire) || began.elapsed() > FOLLOW_FOR;
        match discovery::wait_for(self.pid, give_up) {
            Ok(interpreter) if !interpreter.legacy => match ExecWatch::new(self.pid) {
                Ok(watch) => {
                    if self.news.has_begun() {
                        sampler.follow(stacks(&interpreter, self.options.gc));
                    } else {
                        **sampler = Sampler::new(
                            self.pid,
                            stacks(&interpreter, self.options.gc),
                            Accounts::of(self.pid),
                        );
                    }
                    self.news.go_on_as(describe(&interpreter));
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

/// What became of a process that may have executed another program.
enum Exec {
    /// It has not.
    Same,
    /// It has, and that one is a Python as well.
    Followed,
    /// It has, and there is nothing more to sample.
    Lost(Ending),
}
