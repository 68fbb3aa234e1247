//! The data stack of a thread: chunks of memory in which frames lie one right behind the other.
//!
//! `_PyThreadState_PushFrame` and `push_chunk` in `Python/pystate.c`, 3.11 and later.

use crate::memory::{Fields, ReadError, Region, RemoteMemory};

use super::{Place, Walk};
use crate::snapshot::Group;

/// Bytes that a chunk of the data stack is read beyond its live top: room for the next calls.
const HEADROOM: u64 = 256;
/// Nearly all chunks of the data stack have this size (`DATA_STACK_CHUNK_SIZE`).
pub(crate) const USUAL_CHUNK: u64 = 16 << 10;
/// No chunk of the data stack is larger: CPython takes 16 KiB, and doubles that until one frame fits.
const MAX_CHUNK: u64 = 1 << 26;
/// `struct _PyStackChunk` before its data: `previous`, `size`, `top`.
pub(crate) const CHUNK_HEADER: u64 = 24;

/// A chunk of the data stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    pub(super) address: u64,
    pub(super) previous: u64,
    pub(super) end: u64,
    /// The first byte behind the part that is in use.
    pub(super) top: u64,
    /// Whether the thread state had it as the newest.
    newest: bool,
}

impl Chunk {
    /// Where its lowest frame lies. The first chunk of a thread leaves one slot empty, so that it is never popped.
    pub(super) fn foot(&self) -> u64 {
        self.address + CHUNK_HEADER + if self.previous == 0 { 8 } else { 0 }
    }

    pub(super) fn holds(&self, address: u64) -> bool {
        (self.foot()..self.end).contains(&address)
    }
}

impl<M: RemoteMemory> Walk<'_, M> {
    /// Where the next frame lies. The walk goes to an older chunk only from the foot of a newer one.
    pub(super) fn place(&mut self, address: u64) -> Result<Place, ReadError> {
        let Some(chunk) = self.chunk else {
            return Ok(Place::Heap);
        };
        let chunk = if chunk.holds(address) {
            chunk
        } else if chunk.previous != 0 && self.lowest.is_none_or(|lowest| lowest == chunk.foot()) {
            let older = self.read_chunk(chunk.previous, None)?;
            if !older.holds(address) {
                return Ok(Place::Heap);
            }
            let head = Region {
                address: older.address,
                length: CHUNK_HEADER as usize,
            };
            self.entered = self.snapshot.get_placed(head).map(|(_, span)| span);
            self.crossing = self.lowest.and(self.lowest_size);
            self.chunk = Some(older);
            self.lowest = None;
            older
        } else {
            return Ok(Place::Heap);
        };
        if self.lowest.is_some_and(|lowest| lowest <= address) {
            return Err(ReadError::Implausible {
                address,
                expected: "a frame below the one that it called",
            });
        }
        Ok(Place::DataStack {
            chunk: chunk.address,
            first: address == chunk.foot(),
        })
    }

    /// Reads the newest chunk as the thread state has it, unless it was given back since.
    pub(super) fn read_newest_chunk(&mut self, address: u64, top: u64) -> Result<(), ReadError> {
        if !self.snapshot.is_missing(address) {
            self.chunk = Some(self.read_chunk(address, Some(top))?);
        } else if self.snapshot.is_left_out(address) {
            // One of a thread that has ended may have lain in its place, and be looked for after another one that is gone.
            self.chunk = match self.read_chunk(address, Some(top)) {
                Ok(chunk) => Some(chunk),
                Err(ReadError::Fault(_)) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Whether the thread is about to go on with another of its data stacks, where greenlet has put the current frame into
    /// the thread state and not yet what goes with it (`PythonState::operator>>` in its `TPythonState.cpp`). That stack stood
    /// still until now. The walk starts there then.
    pub(super) fn switches_to(&mut self, frame: u64, newest: u64) -> Result<bool, ReadError> {
        let Some(address) = self.known.on_another_stack(self.thread, frame, newest) else {
            return Ok(false);
        };
        // It may be gone since, and anything else be in its place.
        let chunk = match self.read_chunk(address, None) {
            Ok(chunk) if chunk.holds(frame) => chunk,
            Ok(_) | Err(ReadError::Fault(_) | ReadError::Implausible { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let newest = self.chunk.replace(chunk);
        self.cover(frame)?;
        let is_frame = self.ask(frame).is_some_and(|told| told.stacked);
        if !is_frame {
            self.chunk = newest;
        }
        Ok(is_frame)
    }

    /// Makes sure that the newest chunk was read as far as a frame reaches, if it lies there.
    pub(super) fn cover(&mut self, frame: u64) -> Result<(), ReadError> {
        if self.chunk.is_some_and(|chunk| chunk.holds(frame)) {
            let length = self.frame_length();
            self.data_stack_bytes(Region {
                address: frame,
                length,
            })?;
        }
        Ok(())
    }

    /// The chunk from which the walk starts, where `frame` runs and the thread state had `newest`: this one, or one that
    /// was begun or left since.
    pub(super) fn chunk_of(&mut self, frame: u64, newest: u64) -> Result<Chunk, ReadError> {
        if let Some(chunk) = self.chunk.filter(|chunk| chunk.holds(frame)) {
            return Ok(chunk);
        }
        let (older, newer) = self.known.chunks_beside(newest);
        let previous = self.chunk.map_or(older, |chunk| chunk.previous);
        let around = self.known.chunk_around(frame).unwrap_or(0);
        for chunk in [around, newer, previous] {
            if chunk == 0 || self.snapshot.is_missing(chunk) {
                continue;
            }
            match self.read_chunk(chunk, None) {
                Ok(chunk) if chunk.holds(frame) => return Ok(chunk),
                Ok(_) | Err(ReadError::Fault(_)) => {}
                Err(error) => return Err(error),
            }
        }
        // A generator, on whatever is the newest that is left.
        match self.chunk {
            Some(chunk) => Ok(chunk),
            None => self.read_chunk(older, None),
        }
    }

    /// Reads the used part of a chunk. Of the newest the thread state has the live top, which lies
    /// beyond what the chunk itself says.
    pub(super) fn read_chunk(
        &mut self,
        address: u64,
        live_top: Option<u64>,
    ) -> Result<Chunk, ReadError> {
        let header = Region {
            address,
            length: CHUNK_HEADER as usize,
        };
        if self.snapshot.get(header).is_none() {
            // Never seen. Of the newest the thread state says how much is in use; of the others only their
            // header does, but most have the size of the smallest.
            let length = match live_top.and_then(|top| top.checked_sub(address)) {
                Some(used) if used <= MAX_CHUNK => (used + HEADROOM).min(used.max(USUAL_CHUNK)),
                _ => USUAL_CHUNK,
            };
            let whole = Region {
                address,
                length: usize::try_from(length).unwrap_or(0),
            };
            self.snapshot
                .fetch(self.memory, &[(whole, self.chunk_group(live_top))])?;
            if self.snapshot.get(header).is_none() {
                self.snapshot
                    .fetch(self.memory, &[(header, self.chunk_group(live_top))])?;
            }
        }
        let bytes = self.snapshot.get(header).ok_or(ReadError::Fault(address))?;
        let field = |offset| bytes.u64_at(offset).ok_or(ReadError::Fault(address));
        let (previous, size, top) = (field(0)?, field(8)?, field(16)?);
        let implausible = ReadError::Implausible {
            address,
            expected: "a chunk of the data stack",
        };
        if !(CHUNK_HEADER..=MAX_CHUNK).contains(&size)
            || !address.is_multiple_of(8)
            || previous == address
        {
            return Err(implausible);
        }
        let end = address.checked_add(size).ok_or(implausible)?;
        let first = address + CHUNK_HEADER;
        let top = live_top.unwrap_or_else(|| first.saturating_add(top.saturating_mul(8)));
        if !(first..=end).contains(&top) {
            return Err(implausible);
        }
        self.known.met_chunk(address, previous);
        if previous == 0 {
            self.known.met_first_chunk(self.thread, address);
        }
        if live_top.is_some() {
            self.snapshot.regroup(address, Group::Newest(self.thread));
        }
        Ok(Chunk {
            address,
            previous,
            end,
            top,
            newest: live_top.is_some(),
        })
    }

    pub(super) fn data_stack_bytes(&mut self, wanted: Region) -> Result<&[u8], ReadError> {
        let fault = ReadError::Fault(wanted.address);
        let chunk = self.chunk.ok_or(fault)?;
        let end = wanted
            .end()
            .ok_or(fault)?
            .max(chunk.top)
            .saturating_add(HEADROOM)
            .min(chunk.end);
        let length = usize::try_from(end - chunk.address).map_err(|_| fault)?;
        let enclosing = Region {
            address: chunk.address,
            length,
        };
        let group = self.chunk_group(chunk.newest.then_some(chunk.top));
        self.snapshot
            .get_or_fetch(self.memory, wanted, enclosing, group)
    }

    /// The newest chunk is read first of all that belongs to the thread, older ones last.
    fn chunk_group(&self, live_top: Option<u64>) -> Group {
        match live_top {
            Some(_) => Group::Newest(self.thread),
            None => Group::Older(self.thread),
        }
    }
}
