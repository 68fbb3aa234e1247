//! Which frame runs, as the frames themselves tell.
//!
//! The thread state says which frame was current a moment before the frames were copied. Functions of a few dozen
//! nanoseconds come and go in that time, so it is asked of the frames' own bytes: whether a frame executes, has
//! returned, or has not started, and where it would have put what it called.

use crate::layout::{Activity, Instruction};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};

use super::{OWNED_BY_THREAD, Place, RawFrame, Walk, prefix};

/// A thread does not call or return this often between two regions of one read.
const SETTLING_STEPS: u32 = 64;

/// What is looked at to find the frame that runs.
#[derive(Debug, Clone, Copy)]
struct Peeked {
    previous: u64,
    code: u64,
    /// Whether it runs itself, where the version tells (3.11 to 3.13).
    state: Option<bool>,
    /// Whether C code called it, in 3.11.
    entry: bool,
    /// Nothing is on its stack, as when it has returned, where it does not run itself (3.11 to 3.13).
    ended: bool,
    /// It has returned (3.14 and later).
    gone: bool,
    /// It has not executed its first instruction, so that the thread may not be there yet (3.14 and later).
    fresh: bool,
    shim: bool,
    thread: bool,
}

impl Peeked {
    fn runs(&self) -> bool {
        self.state == Some(true)
    }

    fn gone(&self) -> bool {
        self.gone && !self.shim
    }
}

impl<M: RemoteMemory> Walk<'_, M> {
    /// The frame that ran when the frames were read, which is a little later than the thread state was: functions
    /// of a few dozen nanoseconds have returned and others were called since. Which function the *current* frame
    /// executes has to be read from the same bytes as which frame is current, or the functions that
    /// are followed by the longest pauses would be seen in place of the others.
    ///
    /// Calls through C code and generators leave no such trace: for them the thread state decides.
    pub(super) fn settle(&mut self, current: u64, top: u64) -> Result<u64, ReadError> {
        let Some(chunk) = self.chunk else {
            return Ok(current);
        };
        if chunk.holds(current) {
            // So that the bytes are there.
            let length = self.frame_length();
            let address = current;
            self.data_stack_bytes(Region { address, length })?;
        }
        let Some(start) = self.peek(current) else {
            return Ok(current);
        };
        if start.shim
            && let Some(newest) = self.known.ending_at(top)
            && let Some(frame) = self.peek(newest)
            && frame.previous == current
            && self.frame_size(frame.code) == top.checked_sub(newest)
        {
            // 3.12 has the current frame in the `_PyCFrame`, which is read after the thread state: what C code had called
            // when that was read has returned since.
            return Ok(newest);
        }
        // What it called since. Frames are copied upwards, so the highest one that runs was read last.
        let mut found = start.runs().then_some(current);
        let (mut caller, mut end) = (current, top);
        if chunk.holds(current)
            && let Some(size) = self.frame_size(start.code)
        {
            end = current.saturating_add(size);
        }
        let mut callee_ended = false;
        let mut steps = 0..SETTLING_STEPS;
        while !start.gone()
            && steps.next().is_some()
            && chunk.holds(end)
            && let Some(frame) = self.peek(end)
            && frame.previous == caller
            && frame.thread
            && !frame.gone()
            && !frame.fresh
        {
            if frame.state != Some(false) {
                found = Some(end);
            }
            callee_ended |= frame.ended;
            let Some(size) = self.frame_size(frame.code) else {
                break;
            };
            (caller, end) = (end, end.saturating_add(size));
        }
        if let Some(found) = found {
            return Ok(found);
        }
        // Whom it returned to, as long as no C code is between.
        let (mut frame, mut steps) = (start, 0..SETTLING_STEPS);
        while steps.next().is_some()
            && (frame.state.is_some() || frame.gone())
            && !frame.entry
            && let Some(previous) = self.peek(frame.previous)
            && !previous.shim
        {
            if previous.runs() || (frame.gone() && !previous.gone()) {
                return Ok(frame.previous);
            }
            frame = previous;
        }
        // It is about to be popped, and its caller does not run again yet. (3.11 pops it before it goes back.)
        if start.ended
            && !callee_ended
            && !self.layout.shim_free()
            && let Some(previous) = self.peek(start.previous)
            && !previous.shim
        {
            return Ok(start.previous);
        }
        Ok(current)
    }

    pub(super) fn frame_size(&self, code: u64) -> Option<u64> {
        self.codes.last_at(code)?.frame_size
    }

    /// Who called a frame, as earlier samples know it, if that caller is still where it has to be: right below it
    /// on the data stack, or at its end when the thread state was read.
    pub(super) fn remembered_caller(&mut self, frame: &RawFrame) -> Option<u64> {
        let known = self.known.caller(frame.address, frame.code);
        if self.layout.frame.owner.is_none() {
            return known;
        }
        let end = match frame.place {
            Place::DataStack { first: false, .. } => Some(frame.address),
            Place::DataStack { first: true, .. } => return None,
            // Below a generator on which nothing was called.
            Place::Heap => self.top,
        };
        known.into_iter().find(|&caller| {
            if self.chunk.is_none_or(|chunk| !chunk.holds(caller)) {
                // Another generator.
                return Some(caller) == known && self.is_planned(caller);
            }
            self.peek(caller).is_some_and(|peeked| {
                end.is_none_or(|end| self.frame_size(peeked.code) == end.checked_sub(caller))
            })
        })
    }

    pub(super) fn frame_length(&self) -> usize {
        usize::try_from(prefix(self.layout)).unwrap_or(0)
    }

    /// A frame whose bytes are at hand.
    fn peek(&mut self, address: u64) -> Option<Peeked> {
        let layout = self.layout;
        let length = self.frame_length();
        let bytes = self.snapshot.get(Region { address, length })?;
        let code = bytes.u64_at(layout.frame.code)? & !7;
        let owner = layout.frame.owner.and_then(|offset| bytes.u8_at(offset))?;
        let localsplus = address.wrapping_add(layout.frame.size);
        let (mut state, mut entry, mut ended, mut gone) = (None, false, false, code == 0);
        let mut fresh = false;
        if let Instruction::Pointer(at) = layout.frame.instruction {
            let stack_top = at + 8;
            let locals = self.codes.last_at(code).and_then(|code| code.locals);
            let bytes = self.snapshot.get(Region { address, length })?;
            match layout.activity() {
                Activity::StackTop(offset) => {
                    let top = bytes.i32_at(offset)?;
                    state = Some(top == -1);
                    ended = top >= 0 && locals.is_some_and(|locals| top.cast_unsigned() <= locals);
                    gone = false;
                    // `is_entry` of 3.11, in place of shims.
                    entry = layout.shim_free() && bytes.u8_at(offset + 4)? != 0;
                }
                _ => {
                    // Its locals are being released: the thread has left it already.
                    let cleared = bytes.u64_at(stack_top)? == localsplus && locals > Some(0);
                    let first = layout.code.bytecode.map(|offset| code.wrapping_add(offset));
                    gone |= cleared;
                    fresh = Some(bytes.u64_at(at)?) == first;
                }
            }
        }
        let bytes = self.snapshot.get(Region { address, length })?;
        Some(Peeked {
            previous: bytes.u64_at(layout.frame.previous)?,
            code,
            state,
            entry,
            ended,
            gone,
            fresh,
            shim: owner >= layout.frame.shim_owner,
            thread: owner == OWNED_BY_THREAD,
        })
    }
}
