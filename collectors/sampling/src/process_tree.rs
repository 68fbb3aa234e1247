//! A process and its descendants, each sampled by a thread of its own as long as it is a Python.
//!
//! This thread only finds them: what is new and has a parent that is known belongs to the tree, whatever it
//! executes, because a shell may start a Python. A thread is started for each. It waits until the process is a
//! Python, samples it to its end, or gives it up. What was given up is watched, since it may execute a Python
//! later.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use pystrobe_profile::Batch;

use crate::attach_error::AttachError;
use crate::discovery::{self, Interpreter};
use crate::kinship::Kinship;
use crate::memory::ReadError;
use crate::new_processes::{Born, NewProcesses};
use crate::news::News;
use crate::process::{self, ExecWatch};
use crate::recording::{Ending, LeftOutCounts, Options, spawn};
use crate::sampling_loop::{FOLLOW_FOR, SamplingLoop};
use crate::schedule::nanoseconds;
use crate::source::{Source, describe};
use crate::target::{self, Target};

/// Between two looks for new processes. A look that finds none is one small read.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Between two looks at those that are known: whether they ended, or execute something else.
const CHECK_EVERY: Duration = Duration::from_millis(10);
/// Processes that are sampled, or waited for, at once.
const MOST_AT_ONCE: usize = 256;
/// Source of the batches that only say how much time has passed: those of processes count from 1.
const OWN_SOURCE: u32 = 0;
/// How often such a batch goes out.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// See the module's documentation.
pub(crate) struct ProcessTree {
    root: u32,
    options: Options,
    stopped: Arc<AtomicBool>,
    sender: Sender<Batch>,
    left_out: Arc<LeftOutCounts>,
    started: Instant,
    members: HashMap<u32, Member>,
    /// Where the root is a Python already.
    known: Option<Interpreter>,
    sources: u32,
    kinship: Kinship,
}

/// A process of the tree.
struct Member {
    start_time: u64,
    /// Once it is found: its children may have it where it has it.
    interpreter: Arc<Mutex<Option<Interpreter>>>,
    state: State,
}

enum State {
    /// It is sampled, or will be if it becomes a Python.
    Attended(JoinHandle<Attended>),
    /// It is no Python, unless it executes one.
    Other(ExecWatch),
    /// There are too many; it is attended to when others have ended.
    Waits,
    /// It is left alone; its children may not be.
    LeftOut,
}

/// What a thread that attended to a process has to say at its end.
enum Attended {
    /// The process has ended, or the recording.
    Ended,
    NotPython(ExecWatch),
    Unreadable,
    /// It was read, and then could not be any more.
    BrokeOff(ReadError),
}

impl ProcessTree {
    pub(crate) fn new(
        target: Target,
        options: Options,
        stopped: Arc<AtomicBool>,
        sender: Sender<Batch>,
        left_out: Arc<LeftOutCounts>,
    ) -> Self {
        Self {
            root: target.pid(),
            options,
            stopped,
            sender,
            left_out,
            started: Instant::now(),
            members: HashMap::new(),
            known: target.interpreter,
            sources: OWN_SOURCE,
            kinship: Kinship::default(),
        }
    }

    /// Records until the duration is over, until it is stopped, or until the root has ended.
    pub(crate) fn run(mut self) -> Ending {
        let mut new_processes = NewProcesses::new();
        let (mut next_check, mut next_batch) = (CHECK_EVERY, TELL_EVERY);
        let known = self.known.take();
        self.add(self.root, known);
        let ending = loop {
            self.adopt(new_processes.look());
            let now = self.started.elapsed();
            if now >= next_check {
                next_check = now + CHECK_EVERY;
                if let Some(ending) = self.check() {
                    break ending;
                }
            }
            if now >= next_batch {
                next_batch = now + TELL_EVERY;
                // Where there is no room there is news enough.
                let _ = self.sender.try_send(self.time());
            }
            if self.stopped.load(Ordering::Acquire) {
                break Ending::Stopped;
            }
            let rest = match self.options.duration {
                Some(duration) => duration.saturating_sub(now),
                None => LOOK_EVERY,
            };
            if rest.is_zero() {
                break Ending::Elapsed;
            }
            thread::park_timeout(rest.min(LOOK_EVERY));
        };
        self.end();
        ending
    }

    /// Takes in those whose parents are in the tree.
    fn adopt(&mut self, mut born: Vec<Born>) {
        born.retain(|one| one.pid != std::process::id() && !self.knows(one.pid));
        self.adopt_children(&mut born);
        let orphans = self
            .kinship
            .descend(born.iter().map(|one| one.pid), self.members.keys());
        for pid in orphans {
            self.add(pid, None);
        }
        self.adopt_children(&mut born);
    }

    /// A parent is mostly found before its children, but not where the ids have begun again.
    fn adopt_children(&mut self, born: &mut Vec<Born>) {
        loop {
            let before = born.len();
            born.retain(|one| !self.knows(one.pid));
            born.retain(|one| {
                if !self.knows(one.parent) {
                    return true;
                }
                let parent = self.members.get(&one.parent).and_then(Member::interpreter);
                self.add(one.pid, parent);
                false
            });
            if born.len() == before {
                return;
            }
        }
    }

    /// Whether this process is in the tree: not one that had the same id.
    fn knows(&self, pid: u32) -> bool {
        self.members
            .get(&pid)
            .is_some_and(|member| process::start_time(pid) == Some(member.start_time))
    }

    /// Attends to a process. `interpreter` is its own where it is the root, else its parent's.
    fn add(&mut self, pid: u32, interpreter: Option<Interpreter>) {
        let Some(start_time) = process::start_time(pid) else {
            return;
        };
        let found = Arc::new(Mutex::new(None));
        let state = self.attend(pid, interpreter, Arc::clone(&found));
        let old = self.members.insert(
            pid,
            Member {
                start_time,
                interpreter: found,
                state,
            },
        );
        // Of an earlier process with this id, which has ended.
        if let Some(Member {
            state: State::Attended(thread),
            ..
        }) = old
        {
            let _ = joined(thread);
        }
    }

    fn attend(
        &mut self,
        pid: u32,
        interpreter: Option<Interpreter>,
        found: Arc<Mutex<Option<Interpreter>>>,
    ) -> State {
        let attended = |member: &&Member| matches!(member.state, State::Attended(_));
        if self.members.values().filter(attended).count() >= MOST_AT_ONCE {
            return State::Waits;
        }
        self.sources += 1;
        let attendant = Attendant {
            pid,
            source: self.sources,
            options: Options {
                // This thread sees to the end.
                duration: None,
                ..self.options
            },
            stopped: Arc::clone(&self.stopped),
            sender: self.sender.clone(),
            started: self.started,
            left_out: Arc::clone(&self.left_out),
            found,
        };
        match spawn("sampler", move || attendant.attend(interpreter)) {
            Ok(thread) => State::Attended(thread),
            Err(_) => {
                self.left_out.too_many.fetch_add(1, Ordering::Relaxed);
                State::LeftOut
            }
        }
    }

    /// Looks what became of all that are known. The end of the root is the end of the recording.
    fn check(&mut self) -> Option<Ending> {
        let pids: Vec<u32> = self.members.keys().copied().collect();
        for pid in pids {
            let Some(mut member) = self.members.remove(&pid) else {
                continue;
            };
            let found = Arc::clone(&member.interpreter);
            member.state = match member.state {
                State::Attended(thread) if !thread.is_finished() => State::Attended(thread),
                State::Attended(thread) => match joined(thread) {
                    Attended::Ended => State::LeftOut,
                    Attended::NotPython(watch) => State::Other(watch),
                    Attended::BrokeOff(error) if pid == self.root => {
                        return Some(Ending::Failed(error));
                    }
                    Attended::BrokeOff(_) | Attended::Unreadable => {
                        self.left_out.unreadable.fetch_add(1, Ordering::Relaxed);
                        State::LeftOut
                    }
                },
                State::Other(watch) if watch.replaced() => self.attend(pid, None, found),
                State::Waits => self.attend(pid, None, found),
                state => state,
            };
            let lasts = match member.state {
                State::Attended(_) | State::Other(_) => true,
                State::Waits | State::LeftOut => {
                    process::is_alive(pid) && process::start_time(pid) == Some(member.start_time)
                }
            };
            if !lasts && matches!(member.state, State::Waits) {
                self.left_out.too_many.fetch_add(1, Ordering::Relaxed);
            }
            if lasts {
                self.members.insert(pid, member);
            } else if pid == self.root {
                return Some(Ending::TargetEnded);
            }
        }
        None
    }

    /// A batch that says how much time has passed.
    fn time(&self) -> Batch {
        Batch {
            source: OWN_SOURCE,
            elapsed: nanoseconds(self.started.elapsed()),
            ..Batch::default()
        }
    }

    /// Lets every sampler take its last sample, and waits for it.
    fn end(self) {
        self.stopped.store(true, Ordering::Release);
        let last = self.time();
        let threads = self
            .members
            .into_values()
            .filter_map(|member| match member.state {
                State::Attended(thread) => Some(thread),
                State::Waits => {
                    self.left_out.too_many.fetch_add(1, Ordering::Relaxed);
                    None
                }
                State::Other(_) | State::LeftOut => None,
            });
        let threads: Vec<_> = threads.inspect(|thread| thread.thread().unpark()).collect();
        for thread in threads {
            let _ = joined(thread);
        }
        // That nobody is listening any more is no reason to complain.
        let _ = self.sender.send(last);
    }
}

impl Member {
    fn interpreter(&self) -> Option<Interpreter> {
        let found = self.interpreter.lock();
        found.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn joined(thread: JoinHandle<Attended>) -> Attended {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits for a process to be a Python, and samples it.
struct Attendant {
    pid: u32,
    source: u32,
    options: Options,
    stopped: Arc<AtomicBool>,
    sender: Sender<Batch>,
    /// When the recording started.
    started: Instant,
    left_out: Arc<LeftOutCounts>,
    found: Arc<Mutex<Option<Interpreter>>>,
}

impl Attendant {
    fn attend(self, known: Option<Interpreter>) -> Attended {
        let pid = self.pid;
        // Opened before the process is looked at, so that nothing that it executes meanwhile goes unnoticed.
        let watch = match ExecWatch::new(pid) {
            Ok(watch) => watch,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Attended::Unreadable;
            }
            Err(_) => return Attended::Ended,
        };
        let began = Instant::now();
        let give_up = || self.stopped.load(Ordering::Acquire) || began.elapsed() > FOLLOW_FOR;
        let found = match known {
            Some(interpreter) if interpreter.pid == pid => Ok(interpreter),
            parent => discovery::wait_for_child(pid, parent.as_ref(), give_up),
        };
        let source = found.and_then(|interpreter| {
            *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(interpreter.clone());
            if target::lacks_clocks(&interpreter) {
                self.left_out.clocks.fetch_add(1, Ordering::Relaxed);
            }
            Ok((
                Source::of(&interpreter, self.options.gc)?,
                describe(&interpreter),
            ))
        });
        let (mut source, process) = match source {
            Ok(source) => source,
            Err(AttachError::GaveUp { .. } | AttachError::NotPython { .. }) => {
                return Attended::NotPython(watch);
            }
            Err(
                AttachError::Ended { .. }
                | AttachError::NotFound { .. }
                | AttachError::Zombie { .. },
            ) => return Attended::Ended,
            Err(
                AttachError::Denied { .. }
                | AttachError::Unsupported { .. }
                | AttachError::Unreadable { .. }
                | AttachError::Starting { .. },
            ) => return Attended::Unreadable,
        };
        // A copy may have executed another program before the source began to watch it. Only then is the older watch the better one:
        // that of a child of `vfork` is of its parent's memory.
        if watch.replaced() {
            source.watch_from(watch);
        }
        let news = News::of_process(self.sender, self.source, self.started.elapsed(), process);
        let sampling =
            SamplingLoop::new(pid, self.options, self.stopped, news, source, self.left_out);
        match sampling.run() {
            Ending::Elapsed | Ending::Stopped | Ending::TargetEnded => Attended::Ended,
            Ending::TargetReplaced => match ExecWatch::new(pid) {
                Ok(watch) => Attended::NotPython(watch),
                Err(_) => Attended::Ended,
            },
            Ending::Failed(error) => Attended::BrokeOff(error),
        }
    }
}
