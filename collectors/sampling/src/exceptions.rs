//! Whether a thread is busy with an exception.
//!
//! It is while one is raised and not caught yet, and while code of an `except` or `finally` block runs, or anything that it
//! calls. `sys.exception()` is found in the same way: `_PyErr_GetTopmostException` in `Python/errors.c` goes from
//! `PyThreadState.exc_info` down to the first item that holds an exception, because each generator has an item of its own.

use crate::layout::Layout;
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::snapshot::{Group, Snapshot};

/// Items that are looked at. Each is a generator that another one, which handles no exception either, has resumed.
const ITEMS: usize = 16;

/// What a thread state tells of exceptions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// The exception that is raised and not caught yet, or 0.
    pub(crate) raised: u64,
    /// The newest item.
    pub(crate) item: u64,
}

impl Told {
    /// What the bytes of a thread state tell.
    pub(crate) fn of(layout: &Layout, state: &[u8]) -> Option<Self> {
        Some(Self {
            raised: state.u64_at(layout.exception.raised)?,
            item: state.u64_at(layout.exception.handled)?,
        })
    }
}

/// Whether the thread of that number is busy with an exception. `none` is the address of `None`, which stands for no exception.
/// What cannot be read holds no exception.
///
/// # Errors
///
/// Only what ends the whole recording.
pub(crate) fn is_busy<M: RemoteMemory>(
    memory: &M,
    snapshot: &mut Snapshot,
    layout: &Layout,
    none: u64,
    (thread, told): (u32, Told),
) -> Result<bool, ReadError> {
    if told.raised != 0 {
        return Ok(true);
    }
    let previous = layout.exception.previous_item;
    let length = usize::try_from(previous + 8).unwrap_or(0);
    let mut address = told.item;
    for _ in 0..ITEMS {
        if address == 0 {
            break;
        }
        let item = Region { address, length };
        let bytes = match snapshot.get_or_fetch(memory, item, item, Group::Stack(thread)) {
            Ok(bytes) => bytes,
            Err(ReadError::Fault(_) | ReadError::Implausible { .. }) => break,
            Err(error) => return Err(error),
        };
        match bytes.u64_at(0) {
            Some(exception) if exception != 0 && exception != none => return Ok(true),
            _ => address = bytes.u64_at(previous).unwrap_or(0),
        }
    }
    Ok(false)
}
