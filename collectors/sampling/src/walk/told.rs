//! What a frame's own bytes tell of it.

use crate::layout::{Activity, Instruction};
use crate::memory::{Fields, Region, RemoteMemory};

use super::step::frame_bytes;
use super::{OWNED_BY_GENERATOR, OWNED_BY_THREAD, Walk};

/// What a frame's own bytes say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs its own bytecode, or C code that it called (up to 3.13).
    Runs,
    /// It executes; whether it runs itself or waits for what it called is not told (up to 3.10, and from 3.14 on).
    Executes,
    /// It waits for a Python function that it called, or is about to return (3.11 to 3.13).
    Waits,
    /// It was made, and has not executed its first instruction.
    Unstarted,
    /// It has returned, or is suspended.
    Gone,
}

/// A frame as its own bytes tell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) address: u64,
    pub(super) life: Life,
    /// Who called it, the shim between them left out; 0 where it has forgotten.
    pub(super) caller: u64,
    /// Whether C code is between them.
    pub(super) through_c: bool,
    /// Whether it lies on the data stack.
    pub(super) stacked: bool,
    /// Where on the data stack it ends, if its code object is known.
    pub(super) end: Option<u64>,
    /// The code object that it executes and the instruction it is at, as the frame has it.
    pub(super) site: (u64, u64),
}

impl<M: RemoteMemory> Walk<'_, M> {
    /// Whether a frame object is at hand and executes.
    pub(super) fn executes(&mut self, address: u64) -> bool {
        self.layout.frame.owner.is_none()
            && self
                .ask(address)
                .is_some_and(|told| told.life == Life::Executes)
    }

    pub(super) fn frame_size(&self, code: u64) -> Option<u64> {
        self.codes.last_at(code)?.frame_size
    }

    pub(super) fn frame_length(&self) -> usize {
        frame_bytes(self.layout)
    }

    /// A frame whose bytes are at hand.
    pub(super) fn ask(&mut self, address: u64) -> Option<Told> {
        let layout = self.layout;
        let length = self.frame_length();
        let bytes = self.snapshot.get(Region { address, length })?;
        let code = bytes.u64_at(layout.frame.code)? & !7;
        let previous = bytes.u64_at(layout.frame.previous)?;
        let owner = layout.frame.owner.map(|offset| bytes.u8_at(offset));
        let seen = self.codes.last_at(code);
        let mut told = Told {
            address,
            life: Life::Executes,
            caller: previous,
            through_c: false,
            stacked: false,
            end: None,
            site: (code, 0),
        };
        match (layout.activity(), layout.frame.instruction) {
            (Activity::Flag(offset, value), _) => {
                if bytes.u8_at(offset)? != value {
                    told.life = Life::Gone;
                }
                return Some(told);
            }
            (Activity::StackTop(offset), Instruction::Pointer(at)) => {
                let stack_top = bytes.i32_at(offset)?;
                let first = layout
                    .code
                    .bytecode
                    .map(|offset| code.wrapping_add(offset))?;
                let cleared = stack_top == 0 && seen.and_then(|code| code.locals) > Some(0);
                told.life = match stack_top {
                    -1 => Life::Runs,
                    _ if unstarted(layout.version.1, bytes.u64_at(at)?, first) => Life::Unstarted,
                    // Its locals were released.
                    _ if cleared && !layout.shim_free() => Life::Gone,
                    _ => Life::Waits,
                };
                // `is_entry` of 3.11, in place of shims.
                told.through_c = layout.shim_free() && bytes.u8_at(offset + 4)? != 0;
            }
            (_, Instruction::Pointer(at)) => {
                let localsplus = address.wrapping_add(layout.frame.size);
                let first = layout
                    .code
                    .bytecode
                    .map(|offset| code.wrapping_add(offset))?;
                let cleared = bytes.u64_at(at + 8)? == localsplus
                    && seen.and_then(|code| code.locals) > Some(0);
                if code == 0 || cleared {
                    told.life = Life::Gone;
                } else if unstarted(layout.version.1, bytes.u64_at(at)?, first) {
                    told.life = Life::Unstarted;
                }
            }
            _ => return None,
        }
        if let Instruction::Pointer(at) = layout.frame.instruction {
            told.site.1 = bytes.u64_at(at)?;
        }
        let owner = owner??;
        // A shim, or what lies where a frame was that is over: on the C stack soon anything does.
        let is_frame = match owner {
            OWNED_BY_THREAD => self.may_be_on_data_stack(address),
            OWNED_BY_GENERATOR => address.is_multiple_of(8),
            _ => false,
        };
        if !is_frame {
            return None;
        }
        told.through_c |= owner != OWNED_BY_THREAD && self.known.is_resumed_from_c(address);
        if owner == OWNED_BY_THREAD {
            told.stacked = true;
            if told.life != Life::Gone && seen.is_some_and(|code| code.generator) {
                // A generator or coroutine is being made; its frame stays behind as it is when that is done.
                told.life = Life::Unstarted;
            }
            told.end = seen
                .and_then(|code| code.frame_size)
                .map(|size| address.wrapping_add(size));
        } else if previous == 0 {
            told.life = Life::Gone;
        }
        if let Some(caller) = self.below_shim(previous).filter(|caller| *caller != 0) {
            told.caller = caller;
            told.through_c = true;
            // A shim is copied later than the data stack, and another call may have put its own there by then.
            if told.stacked && self.end_of(caller).is_some_and(|end| end != address) {
                told.caller = 0;
            }
        } else if self.known.may_be_shim(self.thread, previous) {
            told.caller = 0;
            told.through_c = true;
        }
        Some(told)
    }

    fn may_be_on_data_stack(&self, address: u64) -> bool {
        self.chunk.is_some_and(|chunk| chunk.holds(address))
            || self.known.chunk_around(address).is_some()
    }

    /// Where a frame ends, if it lies on the data stack.
    pub(super) fn end_of(&mut self, address: u64) -> Option<u64> {
        let layout = self.layout;
        let length = self.frame_length();
        let bytes = self.snapshot.get(Region { address, length })?;
        let owner = layout.frame.owner.and_then(|offset| bytes.u8_at(offset))?;
        let code = bytes.u64_at(layout.frame.code)? & !7;
        let size = self.frame_size(code)?;
        (owner == OWNED_BY_THREAD).then(|| address.wrapping_add(size))
    }

    /// The frame below a shim, if there is a shim at an address; 0 is below that at the foot of a thread.
    pub(super) fn below_shim(&mut self, address: u64) -> Option<u64> {
        let layout = self.layout;
        let length = self.frame_length();
        let bytes = self.snapshot.get(Region { address, length })?;
        let owner = layout.frame.owner.and_then(|offset| bytes.u8_at(offset))?;
        let previous = bytes.u64_at(layout.frame.previous)?;
        layout.is_shim(owner).then_some(previous)
    }
}

/// Whether a frame is at its first instruction. Up to 3.12 the instruction before the next one is kept.
pub(crate) fn unstarted(minor: u8, at: u64, first: u64) -> bool {
    if minor <= 12 { at < first } else { at == first }
}
