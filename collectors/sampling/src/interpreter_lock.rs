//! What an interpreter is doing as a whole: who holds its lock, and whether it collects garbage.
//!
//! Both are read in the same call as the stacks, after them. `Python/ceval_gil.c` (`take_gil`, `drop_gil`): `last_holder`
//! stays when the lock is dropped, so it counts only while `locked` is 1.

use rustc_hash::FxHashMap;

use crate::discovery::Roots;
use crate::layout::{GilPlace, Layout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::snapshot::{Group, Snapshot};

/// Of more interpreters than this it is not remembered where their locks are.
const LIMIT: usize = 1 << 12;

/// Who holds an interpreter's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gil {
    /// The thread with this state.
    Held(u64),
    /// Nobody.
    Free,
    /// Where the lock is is not known, or the build has none.
    Unknown,
}

/// What is known of an interpreter at the moment of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterpreterMoment {
    /// Where the lock is.
    pub(crate) lock: Option<u64>,
    pub(crate) gil: Gil,
    /// Whether garbage is being collected, by whoever holds the GIL. Never on 3.8, which does not tell by interpreter.
    pub(crate) collects: bool,
}

/// The locks of all interpreters of a process.
#[derive(Debug)]
pub(crate) struct Locks {
    roots: Roots,
    /// Where the lock of an interpreter is, by its address and its id: an interpreter has the same lock from its start to its
    /// end (`init_interp_create_gil` and `finalize_interp_clear`, `Python/pylifecycle.c`), and an id is given once.
    places: FxHashMap<(u64, u64), u64>,
}

impl Locks {
    pub(crate) fn new(roots: Roots) -> Self {
        Self {
            roots,
            places: FxHashMap::default(),
        }
    }

    /// What the interpreter at an address, with this id, is doing; `gc`: whether it collects garbage is asked as well.
    /// What cannot be read is as if nobody held the lock.
    ///
    /// # Errors
    ///
    /// Only what ends the whole recording.
    pub(crate) fn look<M: RemoteMemory>(
        &mut self,
        memory: &M,
        snapshot: &mut Snapshot,
        layout: &Layout,
        (interpreter, id): (u64, u64),
        gc: bool,
    ) -> Result<InterpreterMoment, ReadError> {
        let lock = tolerated(self.place(memory, snapshot, layout, (interpreter, id)))?.flatten();
        let gil = match lock {
            Some(lock) => tolerated(holder(memory, snapshot, layout, lock))?,
            None => None,
        };
        let collects = match layout.interpreter.gc_collecting.filter(|_| gc) {
            Some(offset) => tolerated(collecting(
                memory,
                snapshot,
                interpreter.wrapping_add(offset),
            ))?,
            None => None,
        };
        Ok(InterpreterMoment {
            lock,
            gil: gil.unwrap_or(Gil::Unknown),
            collects: collects.unwrap_or(false),
        })
    }

    /// Where an interpreter's lock is, if that is known.
    fn place<M: RemoteMemory>(
        &mut self,
        memory: &M,
        snapshot: &mut Snapshot,
        layout: &Layout,
        interpreter: (u64, u64),
    ) -> Result<Option<u64>, ReadError> {
        let offset = match (layout.gil.place, self.roots) {
            // Free-threaded: the lock is there, and nobody takes it.
            _ if layout.thread_local_bytecode.is_some() => return Ok(None),
            (GilPlace::Runtime(offset), Roots::Runtime(runtime)) => {
                return Ok(Some(runtime.wrapping_add(offset)));
            }
            // Where the runtime was not found, nothing leads to its lock.
            (GilPlace::Runtime(_), Roots::Interpreter(_)) => return Ok(None),
            (GilPlace::Interpreter(offset), _) => offset,
        };
        if let Some(lock) = self.places.get(&interpreter) {
            return Ok(Some(*lock));
        }
        let address = interpreter.0.wrapping_add(offset);
        let region = Region { address, length: 8 };
        let bytes = snapshot.get_or_fetch(memory, region, region, Group::Root)?;
        let lock = bytes.u64_at(0).filter(|lock| *lock != 0);
        if let Some(lock) = lock {
            if self.places.len() >= LIMIT {
                self.places.clear();
            }
            self.places.insert(interpreter, lock);
        }
        Ok(lock)
    }
}

fn holder<M: RemoteMemory>(
    memory: &M,
    snapshot: &mut Snapshot,
    layout: &Layout,
    lock: u64,
) -> Result<Gil, ReadError> {
    let gil = layout.gil;
    let first = gil.locked.min(gil.last_holder);
    let end = (gil.locked + 4).max(gil.last_holder + 8);
    let region = Region {
        address: lock.wrapping_add(first),
        length: usize::try_from(end - first).unwrap_or(0),
    };
    let bytes = snapshot.get_or_fetch(memory, region, region, Group::Root)?;
    let locked = bytes.i32_at(gil.locked - first);
    let holder = bytes.u64_at(gil.last_holder - first);
    Ok(match (locked, holder) {
        (Some(1), Some(holder)) => Gil::Held(holder),
        (Some(0), _) => Gil::Free,
        // -1: not made yet.
        _ => Gil::Unknown,
    })
}

fn collecting<M: RemoteMemory>(
    memory: &M,
    snapshot: &mut Snapshot,
    address: u64,
) -> Result<bool, ReadError> {
    let region = Region { address, length: 4 };
    let bytes = snapshot.get_or_fetch(memory, region, region, Group::Root)?;
    Ok(bytes.i32_at(0).is_some_and(|collecting| collecting != 0))
}

/// What is not mapped is not known; what ends the recording does.
pub(crate) fn tolerated<T>(result: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::Fault(_) | ReadError::Implausible { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
