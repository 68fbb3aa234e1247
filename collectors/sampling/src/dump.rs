//! Every thread's stack, once.

use std::collections::HashMap;
use std::time::Duration;

use py_spy::config::LineNo;
use pystrobe_profile::{Function, FunctionId, Thread};

use crate::attach_error::AttachError;
use crate::legacy::{self, LegacySampler};
use crate::memory::{ReadError, RemoteMemory};
use crate::process;
use crate::source::stacks;
use crate::stacks::{Stacks, ThreadStack as Stack};
use crate::target::Target;
use crate::task_stacks::{self, WaitingAt, down_from};
use crate::tasks::{AsyncStacks, Joined, LogicalFrame, TaskSearch};
use crate::thread_names::{native_id, thread_names};

/// Frames of the tasks that wait, in all stacks of a process together. Many may stand on the same deep one.
const MOST_WAITING_FRAMES: usize = 1 << 17;
/// How often the stacks are read until all are whole. A recording counts the few that are not; this is the only sample, and
/// the first, which does not know yet where the frames of a fast recursion lie.
const READINGS: usize = 20;

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadState {
    /// It holds the interpreter's lock.
    HasGil,
    /// It is on a processor, or waits for one, without the lock.
    Running,
    /// It waits.
    Idle,
}

/// A frame of a [`ThreadStack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackFrame {
    /// The function.
    pub function: Function,
    /// The line that is executing; its first one where the interpreter does not tell; 0 for what is no code: an asyncio task, which
    /// stands below its coroutines.
    pub line: u32,
}

/// A thread and what it executes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadStack {
    /// The thread.
    pub thread: Thread,
    /// What it is doing.
    pub state: ThreadState,
    /// Its frames, innermost first.
    pub frames: Vec<StackFrame>,
    /// Whether older frames are missing, because they could not be followed.
    pub truncated: bool,
    /// Its asyncio tasks that wait and that no other task waits for; none unless [`AsyncStacks::All`] are asked for.
    pub waiting: Vec<WaitingTasks>,
}

/// Asyncio tasks that wait at the same place, for the same ones, and have the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingTasks {
    /// How many.
    pub tasks: u64,
    /// Their frames, innermost first, down to a task that nobody awaits.
    pub frames: Vec<StackFrame>,
    /// Whether older frames are missing, because there were too many in all.
    pub truncated: bool,
}

/// What a process was doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Its threads.
    pub threads: Vec<ThreadStack>,
    /// Whether there were more asyncio tasks than [`MAX_TASKS`](crate::MAX_TASKS) of a thread, or more of those that await them, than
    /// are read.
    pub tasks_too_many: bool,
}

/// Reads the stacks of all threads once, without stopping the process (but for interpreters that can
/// only be read so; see [`Target::paused_at_each_sample`]). Where asyncio `tasks` are asked for and the version tells them
/// ([`Target::tells_tasks`]), the one that a thread runs stands on those that await it, in place of the event loop.
///
/// # Errors
///
/// Where the process ended meanwhile, or its list of threads could not be read.
pub fn dump(target: &Target, tasks: Option<AsyncStacks>) -> Result<Dump, AttachError> {
    let pid = target.pid();
    let failed = |error: ReadError| match error {
        ReadError::Gone => AttachError::Ended { pid },
        error => AttachError::Unreadable {
            pid,
            what: error.to_string(),
        },
    };
    let interpreter = target
        .interpreter
        .as_ref()
        .ok_or_else(|| AttachError::NotPython {
            pid,
            command: target.command().to_owned(),
        })?;
    if interpreter.legacy {
        let traces = LegacySampler::new(pid, LineNo::LastInstruction)?
            .traces()
            .map_err(failed)?;
        return Ok(Dump {
            threads: traces
                .iter()
                .map(|trace| legacy_stack(pid, trace))
                .collect(),
            tasks_too_many: false,
        });
    }
    let mut stacks = stacks(interpreter, false);
    if let Some(which) = tasks {
        stacks.look_for_tasks(&mut TaskSearch::new(pid), Duration::ZERO, which);
    }
    for reading in 1..=READINGS {
        let truncated = stacks.read().map_err(failed)?.truncated > 0;
        // The first one reads the thread's task long after its stack. From then on they are read in one call.
        let first = reading == 1 && stacks.tells_tasks();
        if !truncated && !first && !stacks.has_astray_task() {
            break;
        }
    }
    let native_ids = process::native_ids(pid);
    let mut interpreters: Vec<u64> = stacks
        .threads()
        .map(|(_, stack)| stack.key.interpreter)
        .collect();
    interpreters.dedup();
    let names = interpreters.into_iter().flat_map(|interpreter| {
        let names = thread_names(&stacks.memory, &stacks.layout, interpreter);
        names
            .into_iter()
            .map(move |(ident, name)| ((interpreter, ident), name))
    });
    let names: HashMap<(u64, u64), String> = names.collect();
    let mut room = MOST_WAITING_FRAMES;
    let threads = stacks.threads().map(|(slot, stack)| {
        let joined = stacks.joined(slot, stack);
        ThreadStack {
            waiting: match joined {
                Some(joined) => waiting(&stacks, joined, &mut room),
                None => Vec::new(),
            },
            ..describe(&stacks, stack, joined, pid, &native_ids, &names)
        }
    });
    Ok(Dump {
        threads: threads.collect(),
        tasks_too_many: stacks.has_too_many_tasks(),
    })
}

fn describe<M: RemoteMemory>(
    stacks: &Stacks<M>,
    stack: &Stack,
    joined: Option<&Joined>,
    pid: u32,
    native_ids: &[u64],
    names: &HashMap<(u64, u64), String>,
) -> ThreadStack {
    let key = stack.key;
    let memory = &stacks.memory;
    // After a fork of which the interpreter was not told its state is the parent's.
    let told = key.native_id.filter(|id| native_ids.contains(id));
    let native_id = told.or_else(|| native_id(memory, key.ident, native_ids));
    let thread = Thread {
        process: 0,
        name: names
            .get(&(key.interpreter, key.ident))
            .cloned()
            .unwrap_or_default(),
        native_id,
        ident: key.ident,
        interpreter: stack.interpreter_id,
    };
    let state = if stacks.gil_and_gc(&key).0 {
        ThreadState::HasGil
    } else if native_id.is_some_and(|id| process::thread_runs(pid, id)) {
        ThreadState::Running
    } else {
        ThreadState::Idle
    };
    let running = joined.and_then(|joined| Some((joined, joined.running?)));
    // The task's name and those that await it replace what is below its coroutine.
    let start = running.map_or(0, |(_, (_, start))| start);
    let own = stack.frames.get(start..).unwrap_or_default();
    let own = own.iter().rev().filter_map(|&(frame, code)| {
        let (function, code) = stacks.codes.get(code).filter(|(_, code)| !code.hidden)?;
        frame_of(stacks, *function, code.line(frame.at))
    });
    let below = running
        .into_iter()
        .flat_map(|(joined, (task, _))| down_from(joined, task))
        .filter_map(|frame| logical(stacks, frame));
    ThreadStack {
        thread,
        state,
        frames: own.chain(below).collect(),
        // What is missing below a task's coroutine is the event loop.
        truncated: !stack.complete && running.is_none(),
        waiting: Vec::new(),
    }
}

fn waiting<M: RemoteMemory>(
    stacks: &Stacks<M>,
    joined: &Joined,
    room: &mut usize,
) -> Vec<WaitingTasks> {
    let places = task_stacks::waiting(joined, room).into_iter();
    let described = places.map(|WaitingAt { tasks, frames, cut }| WaitingTasks {
        tasks,
        frames: frames
            .into_iter()
            .filter_map(|frame| logical(stacks, frame))
            .collect(),
        truncated: cut,
    });
    described.collect()
}

fn logical<M: RemoteMemory>(stacks: &Stacks<M>, frame: LogicalFrame) -> Option<StackFrame> {
    frame_of(stacks, frame.function, frame.line)
}

fn frame_of<M: RemoteMemory>(
    stacks: &Stacks<M>,
    function: FunctionId,
    line: u32,
) -> Option<StackFrame> {
    // Nobody has taken what is new, so this is all.
    let function = stacks.codes.functions.fresh.get(function.index())?.clone();
    Some(StackFrame { function, line })
}

fn legacy_stack(pid: u32, trace: &py_spy::StackTrace) -> ThreadStack {
    let frames = trace.frames.iter().map(|frame| {
        let function = legacy::function_of(frame);
        StackFrame {
            line: function.first_line,
            function,
        }
    });
    let thread = legacy::describe(trace);
    // While it was read it stood still; what it does it is asked now.
    let state = if trace.owns_gil {
        ThreadState::HasGil
    } else if thread
        .native_id
        .is_some_and(|id| process::thread_runs(pid, id))
    {
        ThreadState::Running
    } else {
        ThreadState::Idle
    };
    ThreadStack {
        thread,
        state,
        frames: frames.collect(),
        truncated: false,
        waiting: Vec::new(),
    }
}
