//! Which threads there are: from the list of interpreters to the list of threads of each.

use std::time::Duration;

use crate::exceptions;
use crate::layout::{GilPlace, Layout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::ring::Ring;
use crate::snapshot::Group;
use crate::walk::{End, Found};

use super::{MAX_LIST, Roots, Stacks, ThreadKey, ThreadStack, number};

/// How long an interpreter that was the only one is taken for it.
const ONLY_FOR: Duration = Duration::from_millis(10);

impl<M: RemoteMemory> Stacks<M> {
    /// The 8 bytes at an address, as a root.
    fn root(&mut self, address: u64) -> Result<u64, ReadError> {
        let region = Region { address, length: 8 };
        let bytes = self
            .snapshot
            .get_or_fetch(&self.memory, region, region, Group::Root)?;
        bytes.u64_at(0).ok_or(ReadError::Fault(address))
    }

    /// The head of the list of interpreters, which is at an address.
    ///
    /// While there is only one interpreter it is not asked for with every sample: that one lasts as long as the process is a
    /// Python, and a second one may be noticed some samples late. Up to 3.11 nothing would be saved by that, because the lock is
    /// read from beside it.
    fn interpreters_head(&mut self, address: u64) -> Result<u64, ReadError> {
        if let Some((only, until)) = self.only.take() {
            if self.began < until {
                self.only = Some((only, until));
                return Ok(only);
            }
            if self.memory.read_u64(address)? == only {
                self.only = Some((only, self.began + ONLY_FOR));
                return Ok(only);
            }
        }
        self.root(address)
    }

    pub(super) fn list_threads(&mut self) -> Result<(), ReadError> {
        let fields = self.layout.interpreter;
        self.current.clear();
        self.moments.clear();
        let mut interpreter = match self.roots {
            Roots::Runtime(runtime) => {
                self.interpreters_head(runtime.wrapping_add(self.layout.runtime.interpreters_head))?
            }
            Roots::Interpreter(interpreter) => interpreter,
        };
        let first = interpreter;
        let mut ring = Ring::new(interpreter);
        let mut count = 0;
        // Now and then all of what proves them is asked for, or it would be forgotten.
        let mut changed = fields.code_generation.is_none()
            && (self.snapshot.is_before_forgetting() || !self.snapshot.are_codes_unchanged());
        while interpreter != 0 {
            let (region, skipped) = interpreter_region(&self.layout, interpreter);
            let bytes = self
                .snapshot
                .get_or_fetch(&self.memory, region, region, Group::Root)?;
            let field = |offset: u64| {
                let bytes = bytes.u64_at(offset.wrapping_sub(skipped));
                bytes.ok_or(ReadError::Fault(interpreter))
            };
            let (id, next) = (field(fields.id)?, field(fields.next)?);
            let threads = field(fields.threads_head)?;
            if let Some(generation) = fields.code_generation.map(field).transpose()? {
                changed |= self.generations.get(count) != Some(&(interpreter, generation));
                match self.generations.get_mut(count) {
                    Some(known) => *known = (interpreter, generation),
                    None => self.generations.push((interpreter, generation)),
                }
            }
            self.list_interpreter(interpreter, id, threads)?;
            let moment = self.locks.look(
                &self.memory,
                &mut self.snapshot,
                &self.layout,
                (interpreter, id),
                self.gc,
            )?;
            self.moments.insert(interpreter, moment);
            count += 1;
            if count > MAX_LIST || ring.closes(next) {
                return Err(ReadError::Implausible {
                    address: interpreter,
                    expected: "a list of interpreters",
                });
            }
            interpreter = next;
        }
        let is_lock_elsewhere = matches!(self.layout.gil.place, GilPlace::Interpreter(_));
        self.only = match self.only {
            _ if count != 1 || !is_lock_elsewhere => None,
            None => Some((first, self.began + ONLY_FOR)),
            only => only,
        };
        changed |= self.generations.len() > count;
        self.generations.truncate(count);
        // A code object that is freed is counted before its bytes are gone, so what was proven while the count
        // moved proves nothing for later: a frame has to be seen with it after the count came to rest.
        if changed || self.freed {
            self.stamp += 1;
        }
        self.freed = changed;
        Ok(())
    }

    fn list_interpreter(&mut self, interpreter: u64, id: u64, head: u64) -> Result<(), ReadError> {
        let fields = self.layout.thread;
        let mut ring = Ring::new(head);
        let mut address = head;
        while address != 0 {
            let slot = self.slot(address);
            let state = thread_region(&self.layout, address);
            let group = Group::Thread(number(slot));
            let bytes = self
                .snapshot
                .get_or_fetch(&self.memory, state, state, group)?;
            let field = |offset| bytes.u64_at(offset).ok_or(ReadError::Fault(address));
            let key = ThreadKey {
                state: address,
                ident: field(fields.thread_id)?,
                native_id: fields.native_thread_id.map(field).transpose()?,
                interpreter: field(fields.interpreter)?,
            };
            let next = field(fields.next)?;
            if key.interpreter != interpreter || self.current.len() >= MAX_LIST || ring.closes(next)
            {
                return Err(ReadError::Implausible {
                    address,
                    expected: "a thread state",
                });
            }
            self.meet(slot, key, id);
            self.current.push(slot);
            address = next;
        }
        Ok(())
    }

    /// The slot of the thread whose state is at an address; a free one where it was not met before.
    fn slot(&mut self, state: u64) -> usize {
        if let Some(&slot) = self.by_state.get(&state) {
            return slot;
        }
        if let Some(&slot) = self.free.last() {
            return slot;
        }
        self.slots.push(None);
        self.free.push(self.slots.len() - 1);
        self.slots.len() - 1
    }

    fn meet(&mut self, slot: usize, key: ThreadKey, interpreter_id: u64) {
        if let Some(Some(thread)) = self.slots.get_mut(slot)
            && thread.key == key
        {
            thread.settled &= thread.seen == self.readings;
            thread.seen = self.readings;
            return;
        }
        self.serials += 1;
        self.known.forget_thread(number(slot));
        if let Some(Some(_)) = self.slots.get(slot) {
            self.snapshot.end_thread(number(slot));
        }
        if self.free.last() == Some(&slot) {
            self.free.pop();
        }
        self.by_state.insert(key.state, slot);
        self.slots[slot] = Some(ThreadStack {
            key,
            interpreter_id,
            serial: self.serials,
            frames: Vec::new(),
            kept: 0,
            complete: false,
            in_exception: false,
            unchanged: false,
            firm: false,
            marks: Vec::new(),
            found: Found::default(),
            end: End::Foot,
            settled: false,
            as_of: (0, 0),
            seen: self.readings,
        });
    }

    /// Asks which threads are busy with an exception. After the walk, because what is asked for first is read first, and what
    /// decides which frame runs must be.
    pub(super) fn ask_for_exceptions(&mut self) -> Result<(), ReadError> {
        let Some(none) = self.none else {
            return Ok(());
        };
        for &slot in &self.current {
            let Some(Some(thread)) = self.slots.get_mut(slot) else {
                continue;
            };
            if thread.unchanged {
                continue;
            }
            let state = thread_region(&self.layout, thread.key.state);
            let bytes = self.snapshot.get(state);
            let told = bytes.and_then(|bytes| exceptions::Told::of(&self.layout, bytes));
            thread.in_exception = match told {
                Some(told) => exceptions::is_busy(
                    &self.memory,
                    &mut self.snapshot,
                    &self.layout,
                    none,
                    (number(slot), told),
                )?,
                None => false,
            };
        }
        Ok(())
    }

    /// Drops threads that were not met in this reading.
    pub(super) fn retire(&mut self) {
        if self.by_state.len() == self.current.len() {
            return;
        }
        let readings = self.readings;
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(thread) = slot
                && thread.seen != readings
            {
                self.by_state.remove(&thread.key.state);
                *slot = None;
                self.snapshot.end_thread(super::number(number));
                self.free.push(number);
            }
        }
    }
}

/// The part of an interpreter's state that is read, and how far into the state it starts. Its fields lie
/// within a few hundred bytes of each other.
fn interpreter_region(layout: &Layout, address: u64) -> (Region, u64) {
    let fields = &layout.interpreter;
    let offsets = [fields.id, fields.next, fields.threads_head];
    let generation = fields.code_generation.unwrap_or(fields.id);
    let first = offsets.into_iter().fold(generation, u64::min);
    let last = offsets.into_iter().fold(generation, u64::max);
    let region = Region {
        address: address.wrapping_add(first),
        length: usize::try_from(last + 8 - first).unwrap_or(0),
    };
    (region, first)
}

/// The part of a thread state that is read.
pub(super) fn thread_region(layout: &Layout, address: u64) -> Region {
    let fields = &layout.thread;
    let last = [
        fields.next,
        fields.interpreter,
        fields.frame,
        fields.thread_id,
        fields.native_thread_id.unwrap_or(0),
        fields.datastack_chunk.map_or(0, |offset| offset + 8),
        fields.base_frame.unwrap_or(0),
        layout.exception.raised,
        layout.exception.handled,
    ]
    .into_iter()
    .max()
    .unwrap_or(0);
    Region {
        address,
        length: usize::try_from(last + 8).unwrap_or(0),
    }
}
