//! Who waits for whom, as a tree: each task below the one that awaits it.

use pystrobe_profile::FunctionId;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::codes::Functions;
use crate::interpreter_lock::tolerated;
use crate::memory::{ReadError, RemoteMemory};
use crate::walk::At;

use super::MAX_TASKS;
use super::names::Names;
use super::reader::{Future, Reader, Types};

/// Tasks and futures of a thread that are read for a sample, those that await others among them.
const MAX_PLACED: usize = 2 * MAX_TASKS;
/// Frames of all logical stacks of a thread.
const MAX_FRAMES: usize = 1 << 15;

/// What a frame of the tree stands for.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// A task, by its name.
    Task(FunctionId),
    /// A coroutine that is suspended.
    Frame { code: u64, at: At },
}

/// A frame of the tree, its code object not proven yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Raw {
    pub(super) parent: Option<u32>,
    pub(super) what: What,
}

/// The tasks of a thread.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Each behind its parent.
    pub(super) raw: Vec<Raw>,
    /// The frame with the name of the task that runs, and where on the thread's stack its coroutine is.
    pub(super) running: Option<(u32, usize)>,
    /// The innermost frames of the tasks that wait, but for those that another one waits for.
    pub(super) waiting: Vec<u32>,
    /// Whether there were more than are read for a sample.
    pub(super) too_many: bool,
    /// By task or future, its innermost frame, or that of who awaits it.
    placed: FxHashMap<u64, Option<u32>>,
    /// Those that await another one that was placed.
    awaiters: FxHashSet<u64>,
    /// Tasks whose coroutine executes, according to itself.
    executing: FxHashSet<u64>,
    chain: Vec<(u64, Future)>,
    /// Tasks of the list, with their innermost frame.
    listed: Vec<(u64, u32)>,
}

/// What it takes to name a task.
pub(super) type Naming<'a> = (&'a mut Names, &'a mut Functions);

impl Graph {
    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.running = None;
        self.waiting.clear();
        self.too_many = false;
        self.executing.clear();
        self.placed.clear();
        self.awaiters.clear();
        self.listed.clear();
    }

    /// Adds the task that runs, and those that await it. Its own coroutines are on the thread's stack, from `start` on.
    pub(super) fn add_running<M: RemoteMemory>(
        &mut self,
        reader: &mut Reader<'_, M>,
        types: &mut Types,
        naming: &mut Naming<'_>,
        task: u64,
        start: usize,
    ) -> Result<(), ReadError> {
        let Some(future) = reader.future(task)? else {
            return Ok(());
        };
        self.placed.insert(task, None);
        let parent = match tolerated(reader.awaiter(&future))?.flatten() {
            Some(awaiter) => {
                self.awaiters.insert(awaiter);
                self.place(reader, types, naming, awaiter)?
            }
            None => None,
        };
        let name = naming.0.function(reader, naming.1, future.name)?;
        self.running = self
            .push(parent, What::Task(name))
            .map(|frame| (frame, start));
        Ok(())
    }

    /// Adds the tasks of the list that begins at `head`, and those that await them.
    pub(super) fn add_waiting<M: RemoteMemory>(
        &mut self,
        reader: &mut Reader<'_, M>,
        types: &mut Types,
        naming: &mut Naming<'_>,
        head: u64,
    ) -> Result<(), ReadError> {
        let mut node = reader.first_node(head)?;
        let mut count = 0;
        while node != head && node != 0 {
            if count == MAX_TASKS {
                self.too_many = true;
                break;
            }
            count += 1;
            let task = node.wrapping_sub(reader.fields.node);
            // The list changed while it was read.
            let future = tolerated(reader.future(task))?.flatten();
            let Some(future) = future.filter(|future| future.is_task) else {
                break;
            };
            node = future.next;
            // The one that runs has been placed without a frame.
            if let Some(innermost) = self.place(reader, types, naming, task)? {
                self.listed.push((task, innermost));
            }
        }
        let is_leaf = |task: &u64| !self.awaiters.contains(task) && !self.executing.contains(task);
        let leaves = self.listed.iter().filter(|(task, _)| is_leaf(task));
        self.waiting.extend(leaves.map(|(_, innermost)| *innermost));
        Ok(())
    }

    /// Adds a task that waits, and those that await it. Gives its innermost frame; where it is a future, that of who awaits it.
    fn place<M: RemoteMemory>(
        &mut self,
        reader: &mut Reader<'_, M>,
        types: &mut Types,
        naming: &mut Naming<'_>,
        task: u64,
    ) -> Result<Option<u32>, ReadError> {
        let mut chain = std::mem::take(&mut self.chain);
        chain.clear();
        let mut innermost = None;
        let mut next = Some(task);
        while let Some(address) = next {
            if let Some(known) = self.placed.get(&address) {
                innermost = *known;
                break;
            }
            if self.placed.len() >= MAX_PLACED {
                self.too_many = true;
                break;
            }
            // Whoever leads back to it from now on goes round in a circle, which is cut there.
            self.placed.insert(address, None);
            let Some(future) = tolerated(reader.future(address))?.flatten() else {
                break;
            };
            next = tolerated(reader.awaiter(&future))?.flatten();
            self.awaiters.extend(next);
            chain.push((address, future));
        }
        for (address, future) in chain.drain(..).rev() {
            if future.is_task && future.coroutine != 0 {
                let name = naming.0.function(reader, naming.1, future.name)?;
                innermost = self.push(innermost, What::Task(name)).or(innermost);
                let executes = reader.coroutines(types, future.coroutine, |code, at| {
                    let frame = self.push(innermost, What::Frame { code, at });
                    innermost = frame.or(innermost);
                    frame.is_some()
                });
                if tolerated(executes)? == Some(true) {
                    self.executing.insert(address);
                }
            }
            self.placed.insert(address, innermost);
        }
        self.chain = chain;
        Ok(innermost)
    }

    fn push(&mut self, parent: Option<u32>, what: What) -> Option<u32> {
        if self.raw.len() >= MAX_FRAMES {
            self.too_many = true;
            return None;
        }
        self.raw.push(Raw { parent, what });
        u32::try_from(self.raw.len() - 1).ok()
    }
}
