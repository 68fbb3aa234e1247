//! The logical stacks of asyncio tasks, read right after the stacks of the threads.

use std::time::Duration;

use crate::discovery::Roots;
use crate::layout::TaskLayout;
use crate::memory::{ReadError, RemoteMemory};
use crate::snapshot::Group;
use crate::tasks::{AsyncStacks, Joined, Reader, Subject, TaskSearch, Tasks};

use super::{Stacks, ThreadStack, number};

impl<M: RemoteMemory> Stacks<M> {
    /// Address of `_PyRuntime`, where it is known.
    pub(crate) fn runtime(&self) -> Option<u64> {
        match self.roots {
            Roots::Runtime(runtime) => Some(runtime),
            Roots::Interpreter(_) => None,
        }
    }

    /// Looks for the asyncio tasks of the process, unless they are found.
    pub(crate) fn look_for_tasks(
        &mut self,
        search: &mut TaskSearch,
        now: Duration,
        which: AsyncStacks,
    ) {
        if !self.tells_tasks()
            && TaskLayout::is_published_by(self.layout.version)
            && let Some(runtime) = self.runtime()
            && let Some(found) = search.look(now, &self.memory, &self.layout, runtime)
        {
            self.tell_tasks(found, which);
        }
    }

    /// From now on tasks are told.
    pub(crate) fn tell_tasks(&mut self, fields: TaskLayout, which: AsyncStacks) {
        self.tasks = Some(Box::new(Tasks::new(fields, which)));
    }

    /// Whether tasks are told.
    pub(crate) fn tells_tasks(&self) -> bool {
        self.tasks.is_some()
    }

    /// Whether there ever were more tasks than are read for a sample.
    pub(crate) fn has_too_many_tasks(&self) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| tasks.too_many)
    }

    /// Whether a thread said in the last reading that it runs a task of which nothing was on its stack: both were read while the
    /// event loop went from one task to another.
    pub(crate) fn has_astray_task(&self) -> bool {
        self.tasks.as_ref().is_some_and(|tasks| tasks.astray)
    }

    /// The logical stacks of a thread in the last reading, where it has any.
    pub(crate) fn joined(&self, slot: usize, thread: &ThreadStack) -> Option<&Joined> {
        self.tasks.as_ref()?.joined(slot, thread.serial)
    }

    /// Reads the tasks of all threads.
    pub(super) fn join(&mut self) -> Result<(), ReadError> {
        let Some(mut tasks) = self.tasks.take() else {
            return Ok(());
        };
        let joined = self.join_all(&mut tasks);
        self.tasks = Some(tasks);
        joined
    }

    fn join_all(&mut self, tasks: &mut Tasks) -> Result<(), ReadError> {
        tasks.astray = false;
        let sample = self.snapshot.sample();
        let forgets = self.snapshot.is_before_forgetting();
        for &slot in &self.current {
            let Some(Some(thread)) = self.slots.get(slot) else {
                continue;
            };
            let subject = Subject {
                slot,
                serial: thread.serial,
                state: thread.key.state,
                frames: &thread.frames,
            };
            let is_same = !forgets
                && thread.kept == thread.frames.len()
                && self.snapshot.is_thread_unchanged(number(slot));
            if is_same && tasks.keep(subject, sample) {
                continue;
            }
            let mut reader = Reader {
                memory: &self.memory,
                snapshot: &mut self.snapshot,
                layout: &self.layout,
                fields: tasks.fields(),
                group: Group::Stack(number(slot)),
            };
            tasks.look(&mut reader, &mut self.codes.functions, subject)?;
            let (codes, stamp) = (&self.codes, self.stamp);
            self.unproven.clear();
            let unproven = tasks.codes();
            self.unproven
                .extend(unproven.filter(|code| codes.proven(*code, stamp).is_none()));
            if !self.unproven.is_empty() {
                self.unproven.sort_unstable();
                self.unproven.dedup();
                let (memory, snapshot) = (&self.memory, &mut self.snapshot);
                let news =
                    self.codes
                        .prove(memory, snapshot, &self.layout, &self.unproven, stamp)?;
                self.freed |= news;
            }
            tasks.settle(&self.codes, stamp, subject, sample);
        }
        Ok(())
    }
}
