//! Tasks and suspended coroutines as they lie in memory, over one snapshot.
//!
//! `Modules/_asynciomodule.c` and `Objects/genobject.c` of 3.14 and 3.15.

use rustc_hash::FxHashMap;

use crate::layout::{Instruction, Layout, TaskLayout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::ring::Ring;
use crate::snapshot::{Group, Snapshot};
use crate::strings::read_c_string;
use crate::walk::At;

/// `FRAME_OWNED_BY_GENERATOR`.
const OWNED_BY_GENERATOR: u8 = 1;
/// Entries in the table of a set that are looked at. At least an eighth of a table that was filled is in use, so there is one
/// among so many unless nearly all were removed again.
const MAX_ENTRIES: u64 = 64;
/// Objects between a coroutine and the one it waits for: an `anext_awaitable` around an `async_generator_asend` is two.
const MAX_WRAPPERS: usize = 4;
/// Types that are remembered.
const MAX_TYPES: usize = 1024;
/// Coroutines of one task that wait for each other. As deep as a recursion gets.
const MAX_COROUTINES: usize = 1 << 16;

/// What a thread state says of asyncio.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThreadTasks {
    pub(super) running_loop: u64,
    pub(super) running_task: u64,
}

/// A future, or the task that it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Future {
    pub(super) is_task: bool,
    awaited_by: u64,
    awaited_by_is_set: bool,
    /// Of a task; 0 where it has ended.
    pub(super) coroutine: u64,
    /// Of a task: its name object.
    pub(super) name: u64,
    /// Of a task that is in its thread's list: the node of the next one.
    pub(super) next: u64,
}

/// Reads what belongs to a thread.
#[derive(Debug)]
pub(crate) struct Reader<'a, M> {
    pub(crate) memory: &'a M,
    pub(crate) snapshot: &'a mut Snapshot,
    pub(crate) layout: &'a Layout,
    pub(crate) fields: TaskLayout,
    /// By which it is planned.
    pub(crate) group: Group,
}

impl<M: RemoteMemory> Reader<'_, M> {
    /// So many bytes at an address.
    pub(super) fn bytes(&mut self, address: u64, length: u64) -> Result<&[u8], ReadError> {
        let region = Region {
            address,
            length: usize::try_from(length).unwrap_or(0),
        };
        self.snapshot
            .get_or_fetch(self.memory, region, region, self.group)
    }

    fn word(&mut self, address: u64) -> Result<u64, ReadError> {
        let word = self.bytes(address, 8)?.u64_at(0);
        word.ok_or(ReadError::Fault(address))
    }

    /// What the thread state at an address says.
    pub(super) fn thread(&mut self, state: u64) -> Result<ThreadTasks, ReadError> {
        let address = state.wrapping_add(self.fields.running_loop);
        // With the head of the list, which is a few words behind and will be asked for.
        let bytes = self.bytes(
            address,
            self.fields.tasks_head + 16 - self.fields.running_loop,
        )?;
        let word = |offset| bytes.u64_at(offset).ok_or(ReadError::Fault(address));
        Ok(ThreadTasks {
            running_loop: word(0)?,
            running_task: word(8)?,
        })
    }

    /// The node behind the head of a list of tasks.
    pub(super) fn first_node(&mut self, head: u64) -> Result<u64, ReadError> {
        self.word(head)
    }

    /// The future or task at an address; `None` where there is something else.
    pub(super) fn future(&mut self, address: u64) -> Result<Option<Future>, ReadError> {
        let fields = self.fields;
        // A future has fewer bytes than that. Nearly always there is something behind it, and where nothing is mapped any more it
        // cannot be read.
        let start = fields.awaited_by;
        let bytes = self.bytes(address.wrapping_add(start), fields.node + 8 - start)?;
        let fault = ReadError::Fault(address);
        let word = |offset: u64| bytes.u64_at(offset - start).ok_or(fault);
        let flag = |offset: u64| bytes.u8_at(offset - start).ok_or(fault);
        let (is_task, is_set) = (flag(fields.is_task)?, flag(fields.awaited_by_is_set)?);
        if is_task > 1 || is_set > 1 {
            return Ok(None);
        }
        Ok(Some(Future {
            is_task: is_task == 1,
            awaited_by: word(fields.awaited_by)?,
            awaited_by_is_set: is_set == 1,
            coroutine: word(fields.coroutine)?,
            name: word(fields.name)?,
            next: word(fields.node)?,
        }))
    }

    /// The future or task that awaits one; of several the first in the table of the set.
    pub(super) fn awaiter(&mut self, future: &Future) -> Result<Option<u64>, ReadError> {
        if !future.awaited_by_is_set || future.awaited_by == 0 {
            return Ok(Some(future.awaited_by).filter(|address| *address != 0));
        }
        let set = future.awaited_by;
        let bytes = self.bytes(set.wrapping_add(self.fields.set_used), 24)?;
        let word = |offset| bytes.u64_at(offset).ok_or(ReadError::Fault(set));
        let (used, mask, table) = (word(0)?, word(8)?, word(16)?);
        if used == 0 || !mask.wrapping_add(1).is_power_of_two() {
            return Ok(None);
        }
        let entries = self.bytes(table, 16 * (mask + 1).min(MAX_ENTRIES))?;
        let mut entries = entries.chunks_exact(16);
        // An entry that was removed has a key that stands for that, and the hash -1 (`set_discard_entry`).
        let key = |entry: &[u8]| Some((entry.u64_at(0)?, entry.u64_at(8)?));
        Ok(entries
            .find_map(|entry| key(entry).filter(|(key, hash)| *key != 0 && *hash != u64::MAX))
            .map(|(key, _)| key))
    }

    /// Gives `found` the code object and instruction of a suspended coroutine, and those of what it awaits, outermost first,
    /// until `found` has had enough. What executes is not followed: its frame does not tell what it called. Gives whether
    /// the coroutine itself executes.
    pub(super) fn coroutines(
        &mut self,
        types: &mut Types,
        coroutine: u64,
        mut found: impl FnMut(u64, At) -> bool,
    ) -> Result<bool, ReadError> {
        let (frame, fields) = (self.layout.frame, self.fields);
        let (Some(owner), Instruction::Pointer(instruction)) = (frame.owner, frame.instruction)
        else {
            return Ok(false);
        };
        let mut executes = false;
        let inside = fields.generator_frame;
        let length = inside + frame.size;
        let mut next = self.generator(types, coroutine)?;
        let mut ring = Ring::new(next.unwrap_or(0));
        for _ in 0..MAX_COROUTINES {
            let Some(address) = next else {
                break;
            };
            let bytes = self.bytes(address, length)?;
            let word = |offset: u64| bytes.u64_at(inside + offset);
            let fault = ReadError::Fault(address);
            let code = word(frame.code).ok_or(fault)? & !7;
            let at = word(instruction).ok_or(fault)?;
            let stack_pointer = word(fields.stack_pointer).ok_or(fault)?;
            let state = bytes.u8_at(fields.generator_state).ok_or(fault)?;
            executes |= address == coroutine && state == fields.executing;
            // One that has ended has no code any more.
            let is_alive = bytes.u8_at(inside + owner) == Some(OWNED_BY_GENERATOR) && code != 0;
            if !is_alive || !found(code, At::Address(at)) || !fields.awaiting.contains(&state) {
                return Ok(executes);
            }
            let slots = address.wrapping_add(length);
            let awaited = stack_pointer.wrapping_sub(fields.awaited);
            if awaited < slots {
                return Ok(executes);
            }
            let awaited = self.word(awaited)? & !7;
            next = self.generator(types, awaited)?;
            if next.is_some_and(|next| ring.closes(next)) {
                return Ok(executes);
            }
        }
        Ok(executes)
    }

    /// The generator or coroutine that is at an address, or in a wrapper there.
    fn generator(&mut self, types: &mut Types, object: u64) -> Result<Option<u64>, ReadError> {
        let header = self.layout.unicode.length;
        let mut object = object;
        for _ in 0..=MAX_WRAPPERS {
            if object == 0 {
                return Ok(None);
            }
            let ob_type = self.layout.object.ob_type;
            let bytes = self.bytes(object, header + 8)?;
            let fault = ReadError::Fault(object);
            let inner = bytes.u64_at(header).ok_or(fault)?;
            let kind = bytes.u64_at(ob_type).ok_or(fault)?;
            match types.kind(self.memory, self.layout, kind)? {
                Kind::Generator => return Ok(Some(object)),
                Kind::Wrapper => object = inner,
                Kind::Other => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// What a coroutine may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A generator, coroutine or asynchronous generator: all are laid out alike.
    Generator,
    /// What has one of them, or a wrapper of it, as its first member.
    Wrapper,
    /// Anything else: a future, or C code.
    Other,
}

/// The types of what coroutines wait for, by their address.
#[derive(Debug, Default)]
pub(super) struct Types {
    kinds: FxHashMap<u64, Kind>,
}

impl Types {
    /// By the type's name: those of interest are static, so that none of them ever takes the place of another. What has such a name
    /// and is something else has no frame there that executes a coroutine's code.
    fn kind<M: RemoteMemory>(
        &mut self,
        memory: &M,
        layout: &Layout,
        address: u64,
    ) -> Result<Kind, ReadError> {
        if let Some(kind) = self.kinds.get(&address) {
            return Ok(*kind);
        }
        let name = memory.read_u64(address.wrapping_add(layout.object.tp_name))?;
        let kind = match read_c_string(memory, name)?.as_str() {
            "coroutine" | "generator" | "async_generator" => Kind::Generator,
            "coroutine_wrapper"
            | "async_generator_asend"
            | "async_generator_athrow"
            | "anext_awaitable" => Kind::Wrapper,
            _ => Kind::Other,
        };
        if self.kinds.len() >= MAX_TYPES {
            self.kinds.clear();
        }
        self.kinds.insert(address, kind);
        Ok(kind)
    }
}
