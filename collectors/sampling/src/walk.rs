//! From a thread state down its frames, over one snapshot.
//!
//! A walk races with the target. It does not ask whether the target moved meanwhile, because whoever
//! moves most would then be seen least; it asks whether the stack that it reads is *possible*: every
//! frame lies where frames of its kind can lie, frames on the data stack follow each other downwards,
//! and the last one is the foot of the thread. What the frames execute is judged later, by `stacks`.
//!
//! Frames of Python functions lie one behind the other in chunks of memory that belong to the thread
//! (3.11 and later: `Include/internal/pycore_frame.h`, `_PyThreadState_PushFrame` in `Python/pystate.c`).
//! Those of generators and coroutines lie inside these objects, and the shims that mark an entry from C
//! lie on the C stack. Before 3.11 each frame is an object on the heap.

use crate::layout::{FrameChain, Instruction, Layout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::ring::Ring;
use crate::snapshot::{Group, Snapshot};

/// Bytes that a chunk of the data stack is read beyond its live top: room for the next calls.
const HEADROOM: u64 = 512;
/// No chunk of the data stack is larger: CPython takes 16 KiB, and doubles that until one frame fits.
const MAX_CHUNK: u64 = 1 << 26;
/// No stack is deeper: this many frames fill more than 80 MiB. What seems deeper is not a stack.
const MAX_FRAMES: usize = 1 << 20;
/// `struct _PyStackChunk` before its data: `previous`, `size`, `top`.
const CHUNK_HEADER: u64 = 24;
/// `FRAME_OWNED_BY_THREAD`.
const OWNED_BY_THREAD: u8 = 0;
/// `FRAME_OWNED_BY_GENERATOR`.
const OWNED_BY_GENERATOR: u8 = 1;

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the chunk of the data stack that starts at `chunk`; `first` if nothing lies below it there.
    DataStack { chunk: u64, first: bool },
    /// In an object on the heap.
    Heap,
}

/// The instruction a frame is at, as the frame has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// Bytes from the start of the bytecode; negative before the first instruction.
    Offset(i64),
    /// Address of the instruction.
    Address(u64),
}

/// A frame as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) address: u64,
    pub(crate) code: u64,
    pub(crate) at: At,
    pub(crate) place: Place,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At the foot of the thread.
    Foot,
    /// Where no stack can end or go on; the words say how.
    Impossible(&'static str),
}

/// Walks the stack of the thread whose state is at `state`, and leaves its frames in `frames`,
/// innermost first. A thread that executes no Python code has none.
///
/// # Errors
///
/// Only what ends the whole recording ([`ReadError::Gone`], [`ReadError::Denied`]); a frame that cannot
/// be read makes the stack impossible.
pub(crate) fn walk<M: RemoteMemory>(
    memory: &M,
    snapshot: &mut Snapshot,
    layout: &Layout,
    thread: u32,
    state: Region,
    frames: &mut Vec<RawFrame>,
) -> Result<End, ReadError> {
    frames.clear();
    let mut walk = Walk {
        memory,
        snapshot,
        layout,
        group: Group::Stack(thread),
        chunk: None,
        lowest: None,
    };
    match walk.run(state, thread, frames) {
        Ok(end) => Ok(end),
        Err(ReadError::Fault(_)) => Ok(End::Impossible("a frame lies where nothing is mapped")),
        Err(ReadError::Implausible { expected, .. }) => Ok(End::Impossible(expected)),
        Err(error) => Err(error),
    }
}

/// A chunk of the data stack.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    address: u64,
    previous: u64,
    end: u64,
    /// The first byte behind the part that is in use.
    top: u64,
}

impl Chunk {
    /// Where its lowest frame lies. The first chunk of a thread leaves one slot empty, so that it is never popped.
    fn foot(&self) -> u64 {
        self.address + CHUNK_HEADER + if self.previous == 0 { 8 } else { 0 }
    }

    fn holds(&self, address: u64) -> bool {
        (self.foot()..self.end).contains(&address)
    }
}

struct Walk<'a, M> {
    memory: &'a M,
    snapshot: &'a mut Snapshot,
    layout: &'a Layout,
    group: Group,
    /// The chunk that the walk is in.
    chunk: Option<Chunk>,
    /// The lowest frame on the data stack so far.
    lowest: Option<u64>,
}

/// A step further down.
struct Step {
    frame: Option<RawFrame>,
    previous: u64,
    foot: bool,
}

impl<M: RemoteMemory> Walk<'_, M> {
    fn run(
        &mut self,
        state: Region,
        thread: u32,
        frames: &mut Vec<RawFrame>,
    ) -> Result<End, ReadError> {
        let fields = self.layout.thread;
        let bytes = self
            .snapshot
            .get_or_fetch(self.memory, state, state, Group::Thread(thread))?;
        let field = |offset| bytes.u64_at(offset).ok_or(ReadError::Fault(state.address));
        let mut address = field(fields.frame)?;
        let base = fields.base_frame.map(field).transpose()?;
        let data_stack = match fields.datastack_chunk {
            Some(offset) => Some((field(offset)?, field(offset + 8)?)),
            None => None,
        };
        if let FrameChain::CFrame { current_frame } = self.layout.chain
            && address != 0
        {
            let place = Region {
                address: address.wrapping_add(current_frame),
                length: 8,
            };
            let bytes =
                self.snapshot
                    .get_or_fetch(self.memory, place, place, Group::Thread(thread))?;
            address = bytes.u64_at(0).ok_or(ReadError::Fault(place.address))?;
        }
        if address == 0 || Some(address) == base {
            return Ok(End::Foot);
        }
        if let Some((chunk, top)) = data_stack
            && chunk != 0
        {
            self.chunk = Some(self.read_chunk(chunk, Some(top))?);
        }

        // Frames outside the data stack have no order that could prove the end of the walk.
        let mut ring = Ring::new(address);
        loop {
            let step = self.step(address, base)?;
            frames.extend(step.frame);
            if step.foot {
                return Ok(End::Foot);
            }
            if frames.len() >= MAX_FRAMES {
                return Ok(End::Impossible(
                    "there are more frames than memory can hold",
                ));
            }
            address = step.previous;
            if address == 0 {
                return Ok(End::Impossible(
                    "a frame that is not the foot of the thread has none before it",
                ));
            }
            if ring.closes(address) {
                return Ok(End::Impossible("the frames form a ring"));
            }
        }
    }

    fn step(&mut self, address: u64, base: Option<u64>) -> Result<Step, ReadError> {
        let layout = self.layout;
        let place = self.place(address)?;
        let wanted = Region {
            address,
            length: usize::try_from(prefix(layout)).unwrap_or(0),
        };
        let bytes = match place {
            Place::DataStack { .. } => self.data_stack_bytes(wanted)?,
            Place::Heap => self
                .snapshot
                .get_or_fetch(self.memory, wanted, wanted, self.group)?,
        };
        let fault = ReadError::Fault(address);
        let previous = bytes.u64_at(layout.frame.previous).ok_or(fault)?;
        let code = bytes.u64_at(layout.frame.code).ok_or(fault)? & !7;
        let at = match layout.frame.instruction {
            Instruction::ByteIndex(offset) => {
                At::Offset(i64::from(bytes.i32_at(offset).ok_or(fault)?))
            }
            Instruction::UnitIndex(offset) => {
                At::Offset(2 * i64::from(bytes.i32_at(offset).ok_or(fault)?))
            }
            Instruction::Pointer(offset) => At::Address(bytes.u64_at(offset).ok_or(fault)?),
        };
        let frame = Some(RawFrame {
            address,
            code,
            at,
            place,
        });
        let Some(owner) = layout.frame.owner else {
            return Ok(Step {
                frame,
                previous,
                foot: previous == 0,
            });
        };
        let owner = bytes.u8_at(owner).ok_or(fault)?;
        if owner >= layout.frame.shim_owner {
            let foot = base.map_or(previous == 0, |base| base == address);
            return Ok(Step {
                frame: None,
                previous,
                foot,
            });
        }
        match (owner, place) {
            (OWNED_BY_THREAD, Place::DataStack { .. }) => self.lowest = Some(address),
            (OWNED_BY_GENERATOR, Place::Heap) => {}
            _ => {
                return Err(ReadError::Implausible {
                    address,
                    expected: "a frame that is executing",
                });
            }
        }
        // Without shims (3.11) the outermost function is its thread's foot. A generator is not: it has
        // none before it whenever it is suspended.
        let foot = layout.frame.shim_owner == u8::MAX && previous == 0 && owner == OWNED_BY_THREAD;
        Ok(Step {
            frame,
            previous,
            foot,
        })
    }

    /// Where the next frame lies. The walk goes to an older chunk only from the foot of a newer one.
    fn place(&mut self, address: u64) -> Result<Place, ReadError> {
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

    /// Reads the used part of a chunk. Of the newest the thread state has the live top, which lies
    /// beyond what the chunk itself says.
    fn read_chunk(&mut self, address: u64, live_top: Option<u64>) -> Result<Chunk, ReadError> {
        let header = Region {
            address,
            length: CHUNK_HEADER as usize,
        };
        if self.snapshot.get(header).is_none() {
            // Never seen: its size is known only from its header.
            self.snapshot.fetch(self.memory, &[(header, self.group)])?;
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
        Ok(Chunk {
            address,
            previous,
            end,
            top,
        })
    }

    fn data_stack_bytes(&mut self, wanted: Region) -> Result<&[u8], ReadError> {
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
        self.snapshot
            .get_or_fetch(self.memory, wanted, enclosing, self.group)
    }
}

/// The bytes of a frame that are read: up to the last field of interest.
fn prefix(layout: &Layout) -> u64 {
    let frame = &layout.frame;
    let (Instruction::ByteIndex(at) | Instruction::UnitIndex(at) | Instruction::Pointer(at)) =
        frame.instruction;
    frame
        .previous
        .max(frame.code)
        .max(at)
        .max(frame.owner.unwrap_or(0))
        + 8
}
