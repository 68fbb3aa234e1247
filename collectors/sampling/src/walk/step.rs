//! One step of a walk: the frame at an address, and where it goes on from there.

use crate::layout::{Activity, Instruction, Layout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::snapshot::Span;

use super::{At, OWNED_BY_GENERATOR, OWNED_BY_THREAD, Place, RawFrame, Walk, told};

/// Frames on the heap that are fetched together. The kernel takes 1024 regions a call.
const MAX_FORESEEN: usize = 1000;

/// A step further down.
pub(super) struct Step {
    pub(super) frame: Option<RawFrame>,
    pub(super) previous: u64,
    pub(super) foot: bool,
    /// Whether `previous` can be relied on.
    pub(super) linked: bool,
    /// Where its bytes lie, where they were read.
    pub(super) span: Option<Span>,
}

impl Step {
    /// To the foot of the thread, which is known without being read.
    pub(super) const FOOT: Self = Self {
        frame: None,
        previous: 0,
        foot: true,
        linked: true,
        span: None,
    };
}

impl<M: RemoteMemory> Walk<'_, M> {
    pub(super) fn step(&mut self, address: u64, base: Option<u64>) -> Result<Step, ReadError> {
        let layout = self.layout;
        let place = self.place(address)?;
        let wanted = Region {
            address,
            length: frame_bytes(layout),
        };
        match place {
            Place::DataStack { .. } => {
                self.data_stack_bytes(wanted)?;
            }
            Place::Heap => self.fetch_heap(wanted)?,
        }
        let (bytes, span) = self
            .snapshot
            .get_placed(wanted)
            .ok_or(ReadError::Fault(address))?;
        let span = Some(span);
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
            learnable: !matches!(place, Place::DataStack { first: false, .. }),
            shim: 0,
        });
        let Some(owner) = layout.frame.owner else {
            // A frame object that does not execute keeps `f_back` only while it waits for the next call of its
            // function (`co_zombieframe`): it then leads to a frame that executes, or has its way back too.
            // The list of free frames is linked by the same field.
            let executes = match layout.activity() {
                Activity::Flag(offset, value) => bytes.u8_at(offset).ok_or(fault)? == value,
                _ => true,
            };
            return Ok(Step {
                frame,
                previous,
                foot: executes && previous == 0,
                linked: executes || self.executes(previous),
                span,
            });
        };
        let owner = bytes.u8_at(owner).ok_or(fault)?;
        if layout.is_shim(owner) {
            // The stack of a greenlet begins without a base frame.
            let foot = match base {
                Some(base) => base == address || previous == 0 && self.has_no_room_below(),
                None => previous == 0,
            };
            return Ok(Step {
                frame: None,
                previous,
                foot,
                linked: true,
                span,
            });
        }
        let (mut linked, mut exposed) = (previous != 0, false);
        match (owner, place) {
            (OWNED_BY_THREAD, Place::DataStack { .. }) => {
                // A function that has not started is linked last (3.11 to 3.13: `_PyFrame_Initialize`, then
                // `previous`), and until then to the caller of whatever lay in its place before. Only to its
                // neighbour on the data stack it is linked for sure.
                let start = layout.code.bytecode.map(|offset| code.wrapping_add(offset));
                let minor = layout.version.1;
                let unstarted = minor <= 13
                    && matches!((at, start), (At::Address(at), Some(start)) if told::unstarted(minor, at, start));
                linked &= !unstarted || self.chunk.is_some_and(|chunk| chunk.holds(previous));
                self.lowest = Some(address);
                // Before greenlet switches to another stack it takes the shims, which lie on the C stack, out of this one,
                // and puts them back when that is on again (`Greenlet::expose_frames` in its `TGreenlet.cpp`, from 3.12
                // on). So while it switches, which takes it half a microsecond, the outermost function has none below it.
                exposed = previous == 0 && !unstarted && self.has_no_room_below();
                let size = self.frame_size(code);
                self.lowest_size = size;
                // A newer chunk was begun because there was no room behind this frame. Or the chunk says itself that it was
                // left here; but that is from when it was last left, which may have been elsewhere.
                if let (Some(callee), Some(size), Some(chunk)) =
                    (self.crossing.take(), size, self.chunk)
                    && chunk.top != address.saturating_add(size)
                    && chunk
                        .end
                        .checked_sub(address.saturating_add(size))
                        .is_none_or(|room| room > callee)
                {
                    return Err(ReadError::Implausible {
                        address,
                        expected: "the newest frame of its chunk",
                    });
                }
            }
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
        let outermost = layout.shim_free() && previous == 0 && owner == OWNED_BY_THREAD;
        let foot = outermost || exposed;
        Ok(Step {
            frame,
            previous,
            foot,
            linked: linked || foot,
            span,
        })
    }

    /// Whether the walk has come to the end of the data stack, be it a thread's or that of one of its greenlets, which begins
    /// anew for each of them.
    pub(super) fn has_no_room_below(&self) -> bool {
        self.chunk
            .is_none_or(|chunk| chunk.previous == 0 && self.lowest == Some(chunk.foot()))
    }

    /// Reads a frame on the heap that was not planned, and in the same call those that were below it before.
    pub(super) fn fetch_heap(&mut self, wanted: Region) -> Result<(), ReadError> {
        if self.snapshot.get(wanted).is_some() {
            return Ok(());
        }
        let mut missing = vec![(wanted, self.group)];
        for address in self.known.below(wanted.address).take(MAX_FORESEEN) {
            let region = Region { address, ..wanted };
            if self.chunk.is_none_or(|chunk| !chunk.holds(address))
                && self.snapshot.get(region).is_none()
            {
                missing.push((region, self.group));
            }
        }
        self.snapshot.fetch(self.memory, &missing)
    }
}

/// The bytes of a frame that are read: up to the last field of interest.
pub(crate) fn frame_bytes(layout: &Layout) -> usize {
    let frame = &layout.frame;
    let (Instruction::ByteIndex(at) | Instruction::UnitIndex(at) | Instruction::Pointer(at)) =
        frame.instruction;
    let activity = match layout.activity() {
        Activity::Flag(offset, _) | Activity::StackTop(offset) => offset,
        Activity::Code => 0,
    };
    let last = frame
        .previous
        .max(frame.code)
        .max(at)
        .max(activity)
        .max(frame.owner.unwrap_or(0));
    usize::try_from(last + 8).unwrap_or(0)
}
