//! Which asyncio task a thread runs, and who waits for it: the logical stacks of coroutines. CPython 3.14 and later.
//!
//! A coroutine that a task runs lies on the event loop's frames, whoever awaits the task. What led to it is
//! told by the task: which future or task awaits it (`task_awaited_by`), and so on up to one that nobody awaits. Each of these
//! tasks is suspended, and its coroutines are read from the outermost one to that which waits
//! (`reader`). They ride in the same call as the thread's stack, which was walked before: a task is taken for the running one
//! only if its coroutine's frame is on that stack.
//!
//! A task may be awaited by several. The first one in the table of their set stands for all, as long as it is in it: a
//! sample's time is one stack's time. To share it between them was the other way; it would show stacks at once of
//! which none had the whole of it.

mod graph;
mod names;
mod reader;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use reader::Reader;
pub(crate) use search::TaskSearch;

use pystrobe_profile::FunctionId;
use rustc_hash::FxHashMap;

use crate::codes::{CodeId, Codes, Functions};
use crate::layout::TaskLayout;
use crate::memory::{ReadError, RemoteMemory};
use crate::walk::RawFrame;

use graph::{Graph, Raw, What};
use names::Names;
use reader::Types;

/// Waiting tasks of a thread that are looked at for a sample.
pub const MAX_TASKS: usize = 4096;
/// Coroutines that are remembered to be those of tasks.
const MAX_REMEMBERED: usize = 1 << 16;

/// Which tasks are shown as stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncStacks {
    /// The one that a thread runs.
    Running,
    /// Those that wait as well, at the same time.
    All,
}

/// A frame of a logical stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LogicalFrame {
    /// The frame below it, which comes before it; `None` at the foot of the thread.
    pub(crate) parent: Option<u32>,
    pub(crate) function: FunctionId,
    pub(crate) line: u32,
}

/// The logical stacks of a thread in the last reading.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    /// Those of all stacks, each once.
    pub(crate) frames: Vec<LogicalFrame>,
    /// What the thread's own stack stands on if it runs a task: the frame with the task's name, and how many frames of the
    /// thread are replaced by it and those below.
    pub(crate) running: Option<(u32, usize)>,
    /// The innermost frames of the tasks that wait and that no other task waits for.
    pub(crate) waiting: Vec<u32>,
    /// Is another one whenever the frames or the waiting ones are.
    pub(crate) edition: u64,
    /// The thread.
    serial: u64,
    /// The sample of the snapshot and the length of the stack that this was found with.
    as_of: (u64, usize),
}

/// Tells the tasks of a process, sample after sample.
#[derive(Debug)]
pub(crate) struct Tasks {
    fields: TaskLayout,
    all: bool,
    types: Types,
    names: Names,
    /// By the frame of a coroutine, the task that was seen to run it.
    by_frame: FxHashMap<u64, u64>,
    /// By the slot of the thread.
    joined: Vec<Joined>,
    graph: Graph,
    /// The frames of the graph that could be proven, by their number there.
    numbers: Vec<Option<u32>>,
    frames: Vec<LogicalFrame>,
    waiting: Vec<u32>,
    editions: u64,
    /// Whether there ever were more tasks, or more frames of them, than are read for a sample.
    pub(crate) too_many: bool,
    /// Whether a thread that was looked at for the last reading said that it runs a task which is not the one on its stack.
    pub(crate) astray: bool,
}

/// A thread whose tasks are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) slot: usize,
    pub(crate) serial: u64,
    /// Address of its state.
    pub(crate) state: u64,
    /// Its stack, outermost frame first.
    pub(crate) frames: &'a [(RawFrame, CodeId)],
}

impl Tasks {
    pub(crate) fn new(fields: TaskLayout, which: AsyncStacks) -> Self {
        Self {
            fields,
            all: which == AsyncStacks::All,
            types: Types::default(),
            names: Names::default(),
            by_frame: FxHashMap::default(),
            joined: Vec::new(),
            graph: Graph::default(),
            numbers: Vec::new(),
            frames: Vec::new(),
            waiting: Vec::new(),
            editions: 0,
            too_many: false,
            astray: false,
        }
    }

    pub(crate) fn fields(&self) -> TaskLayout {
        self.fields
    }

    /// What was found for a thread in the last reading, if it runs or has tasks.
    pub(crate) fn joined(&self, slot: usize, serial: u64) -> Option<&Joined> {
        self.joined
            .get(slot)
            .filter(|joined| joined.serial == serial && !joined.frames.is_empty())
    }

    /// If nothing has changed for a thread since the sample before `sample`, takes what was found then for this one as well.
    pub(crate) fn keep(&mut self, subject: Subject<'_>, sample: u64) -> bool {
        let Some(joined) = self.joined.get_mut(subject.slot) else {
            return false;
        };
        let keeps =
            joined.serial == subject.serial && joined.as_of == (sample - 1, subject.frames.len());
        if keeps {
            joined.as_of.0 = sample;
        }
        keeps
    }

    /// Reads the tasks of a thread. Which code objects they execute is in [`Self::codes`] then, and [`Self::settle`] is next.
    ///
    /// # Errors
    ///
    /// Only what ends the whole recording: what cannot be read is no task.
    pub(crate) fn look<M: RemoteMemory>(
        &mut self,
        reader: &mut Reader<'_, M>,
        functions: &mut Functions,
        subject: Subject<'_>,
    ) -> Result<(), ReadError> {
        self.graph.clear();
        match self.look_at(reader, functions, subject) {
            Err(ReadError::Fault(_) | ReadError::Implausible { .. }) => Ok(()),
            result => result,
        }
    }

    fn look_at<M: RemoteMemory>(
        &mut self,
        reader: &mut Reader<'_, M>,
        functions: &mut Functions,
        subject: Subject<'_>,
    ) -> Result<(), ReadError> {
        let thread = reader.thread(subject.state)?;
        if thread.running_loop == 0 {
            return Ok(());
        }
        let mut graph = std::mem::take(&mut self.graph);
        let running = self.running(reader, thread.running_task, subject.frames);
        let found = running.and_then(|running| {
            let mut names = (&mut self.names, functions);
            if let Some((task, start)) = running {
                graph.add_running(reader, &mut self.types, &mut names, task, start)?;
            }
            if self.all {
                let head = subject.state.wrapping_add(self.fields.tasks_head);
                graph.add_waiting(reader, &mut self.types, &mut names, head)?;
            }
            Ok(())
        });
        self.too_many |= graph.too_many;
        self.graph = graph;
        found
    }

    /// The task that the thread runs, and where on its stack the task's coroutine is.
    ///
    /// The thread state is read after the data stack. Where the loop has gone on to another task in between, the one
    /// whose coroutine is on the stack is known from earlier samples, and proven now.
    fn running<M: RemoteMemory>(
        &mut self,
        reader: &mut Reader<'_, M>,
        stated: u64,
        frames: &[(RawFrame, CodeId)],
    ) -> Result<Option<(u64, usize)>, ReadError> {
        if stated != 0
            && let Some(start) = on_stack(reader, stated, frames)?
        {
            if let Some((frame, _)) = frames.get(start) {
                if self.by_frame.len() >= MAX_REMEMBERED {
                    self.by_frame.clear();
                }
                self.by_frame.insert(frame.address, stated);
            }
            return Ok(Some((stated, start)));
        }
        for (frame, _) in frames.iter().rev() {
            if let Some(&task) = self.by_frame.get(&frame.address)
                && let Some(start) = on_stack(reader, task, frames)?
            {
                return Ok(Some((task, start)));
            }
        }
        self.astray |= stated != 0;
        Ok(None)
    }

    /// The code objects of what was looked at.
    pub(crate) fn codes(&self) -> impl Iterator<Item = u64> {
        self.graph.raw.iter().filter_map(|raw| match raw.what {
            What::Frame { code, .. } => Some(code),
            What::Task(_) => None,
        })
    }

    /// Keeps what was looked at, as far as its code objects are proven.
    pub(crate) fn settle(&mut self, codes: &Codes, stamp: u64, subject: Subject<'_>, sample: u64) {
        self.frames.clear();
        self.numbers.clear();
        for raw in &self.graph.raw {
            let parent = raw.parent.and_then(|parent| self.number(parent));
            let number = match described(raw, codes, stamp) {
                Some((function, line)) => {
                    self.frames.push(LogicalFrame {
                        parent,
                        function,
                        line,
                    });
                    u32::try_from(self.frames.len() - 1).ok()
                }
                None => parent,
            };
            self.numbers.push(number);
        }
        self.waiting.clear();
        for &innermost in &self.graph.waiting {
            let number = self.number(innermost);
            self.waiting.extend(number);
        }
        let running = self.graph.running;
        let running = running.and_then(|(task, start)| Some((self.number(task)?, start)));
        if self.joined.len() <= subject.slot {
            self.joined.resize_with(subject.slot + 1, Joined::default);
        }
        let joined = &mut self.joined[subject.slot];
        let same = joined.serial == subject.serial
            && joined.frames == self.frames
            && joined.waiting == self.waiting;
        joined.running = running;
        joined.as_of = (sample, subject.frames.len());
        if !same {
            self.editions += 1;
            joined.serial = subject.serial;
            joined.edition = self.editions;
            std::mem::swap(&mut joined.frames, &mut self.frames);
            std::mem::swap(&mut joined.waiting, &mut self.waiting);
        }
    }

    /// What a frame of the graph, or the next below it that could be proven, is among the frames.
    fn number(&self, raw: u32) -> Option<u32> {
        *self.numbers.get(usize::try_from(raw).ok()?)?
    }
}

/// Where on a stack the coroutine of a task is, if it is.
fn on_stack<M: RemoteMemory>(
    reader: &mut Reader<'_, M>,
    task: u64,
    frames: &[(RawFrame, CodeId)],
) -> Result<Option<usize>, ReadError> {
    let Some(task) = reader.future(task)? else {
        return Ok(None);
    };
    let frame = task.coroutine.wrapping_add(reader.fields.generator_frame);
    let is_it = |(on_stack, _): &(RawFrame, CodeId)| on_stack.address == frame;
    Ok(frames
        .iter()
        .rposition(is_it)
        .filter(|_| task.is_task && task.coroutine != 0))
}

/// Function and line of a frame, if it is what it seems: that of a generator.
fn described(raw: &Raw, codes: &Codes, stamp: u64) -> Option<(FunctionId, u32)> {
    match raw.what {
        What::Task(name) => Some((name, 0)),
        What::Frame { code, at } => {
            let (function, code) = codes.get(codes.proven(code, stamp)?)?;
            code.generator.then(|| (*function, code.line(at)))
        }
    }
}
