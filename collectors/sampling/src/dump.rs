//! Every thread's stack, once.

use std::collections::HashMap;

use py_spy::config::LineNo;
use pystrobe_profile::{Function, Thread};

use crate::attach_error::AttachError;
use crate::legacy::{self, LegacySampler};
use crate::memory::{ReadError, RemoteMemory};
use crate::process;
use crate::source::stacks;
use crate::stacks::{Stacks, ThreadStack as Stack};
use crate::target::Target;
use crate::thread_names::{native_id, thread_names};

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
    /// The line that is executing; its first one where the interpreter does not tell.
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
}

/// Reads the stacks of all threads once, without stopping the process (but for interpreters that can
/// only be read so; see [`Target::paused_at_each_sample`]).
///
/// # Errors
///
/// Where the process ended meanwhile, or its list of threads could not be read.
pub fn dump(target: &Target) -> Result<Vec<ThreadStack>, AttachError> {
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
        return Ok(traces
            .iter()
            .map(|trace| legacy_stack(pid, trace))
            .collect());
    }
    let mut stacks = stacks(interpreter, false);
    for _ in 0..READINGS {
        if stacks.read().map_err(failed)?.truncated == 0 {
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
    Ok(stacks
        .threads()
        .map(|(_, stack)| describe(&stacks, stack, pid, &native_ids, &names))
        .collect())
}

fn describe<M: RemoteMemory>(
    stacks: &Stacks<M>,
    stack: &Stack,
    pid: u32,
    native_ids: &[u64],
    names: &HashMap<(u64, u64), String>,
) -> ThreadStack {
    let key = stack.key;
    let memory = &stacks.memory;
    let native_id = key
        .native_id
        .filter(|id| *id != 0)
        .or_else(|| native_id(memory, key.ident, native_ids));
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
    let frames = stack.frames.iter().rev().filter_map(|&(frame, code)| {
        let (function, code) = stacks.codes.get(code).filter(|(_, code)| !code.hidden)?;
        let function = stacks.codes.functions.fresh.get(function.index())?.clone();
        Some(StackFrame {
            function,
            line: code.line(frame.at),
        })
    });
    ThreadStack {
        thread,
        state,
        frames: frames.collect(),
        truncated: !stack.complete,
    }
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
    }
}
