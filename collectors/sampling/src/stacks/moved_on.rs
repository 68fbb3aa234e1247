//! A thread of which nothing has moved but the instruction of the function that runs.
//!
//! That is what most samples at short intervals find: between calls a function changes its own instruction and its
//! locals, and nothing else of its thread. A walk would come to the same frames then, because all that it would decide by is, byte by
//! byte, what it was when the last one did; so what is new is the instruction.

use std::ops::Range;

use crate::code_object::Code;
use crate::known::Known;
use crate::layout::{Activity, FrameChain, Instruction, Layout};
use crate::memory::{Fields, Region};
use crate::snapshot::Snapshot;
use crate::walk::{At, Place, RawFrame, frame_bytes, unstarted};

/// The thread whose last walk is asked about: it was whole, proven, and owed nothing to what was remembered.
pub(super) struct Last<'a> {
    /// The number by which its regions are planned.
    pub(super) number: u32,
    /// The part of its state that is read.
    pub(super) state: Region,
    /// The frame that ran.
    pub(super) top: RawFrame,
    /// What it executes.
    pub(super) code: &'a Code,
}

/// The instruction that the frame that ran is at now, where all else is as it was in the sample before.
pub(super) fn moved_on(
    snapshot: &Snapshot,
    known: &mut Known,
    layout: &Layout,
    last: &Last<'_>,
) -> Option<At> {
    let Last { top, code, .. } = *last;
    let Instruction::Pointer(at_offset) = layout.frame.instruction else {
        return None;
    };
    let Place::DataStack { chunk, .. } = top.place else {
        return None;
    };
    let size = code.frame_size?;
    let length = frame_bytes(layout);
    let address = top.address;
    let (bytes, span) = snapshot.peek(Region { address, length })?;
    let (at, stack) = (bytes.u64_at(at_offset)?, bytes.u64_at(at_offset + 8)?);
    let minor = layout.version.1;
    // Up to 3.13 the word behind the instruction says whether it runs, which has to stay as it was; from then on it is the top
    // of its own stack, which moves with each instruction.
    let marks_itself = matches!(layout.activity(), Activity::StackTop(_));
    let (first, end) = code.bytecode?;
    let runs = match marks_itself {
        true => bytes.i32_at(at_offset + 8)? == -1,
        false => code.locals == Some(0) || stack != address.wrapping_add(layout.frame.size),
    };
    if !runs || unstarted(minor, at, first) || at >= end || code.generator {
        return None;
    }
    let moving = match marks_itself {
        true => 8,
        false => 16,
    };
    let start = span.start();
    let offset = |offset: u64| Some(start + usize::try_from(offset).ok()?);
    let apart: [Range<usize>; 2] = [
        offset(at_offset)?..offset(at_offset + moving)?,
        offset(layout.frame.size)?..offset(size.max(layout.frame.size))?,
    ];
    if !snapshot.is_thread_unchanged_but(last.number, &apart)
        || current_frame(snapshot, layout, last.state)? != address
        // What begins a chunk behind this one, and what was left right behind this frame, are judged by where this frame is.
        || known.chunks_beside(chunk).1 != 0
        || !marks_itself && has_called(snapshot, layout, address, size)
        || known.resumed_at((top.code, at)).is_some()
    {
        return None;
    }
    known.met_site((top.code, at), None);
    Some(At::Address(at))
}

/// The frame that the thread state has as the current one.
fn current_frame(snapshot: &Snapshot, layout: &Layout, state: Region) -> Option<u64> {
    let frame = snapshot.peek(state)?.0.u64_at(layout.thread.frame)?;
    let FrameChain::CFrame { current_frame } = layout.chain else {
        return Some(frame);
    };
    let address = frame.wrapping_add(current_frame);
    snapshot.peek(Region { address, length: 8 })?.0.u64_at(0)
}

/// Whether right behind a frame lies one that says it was called by it, and what it executed.
fn has_called(snapshot: &Snapshot, layout: &Layout, frame: u64, size: u64) -> bool {
    let behind = Region {
        address: frame.wrapping_add(size),
        length: frame_bytes(layout),
    };
    snapshot.peek(behind).is_some_and(|(bytes, _)| {
        bytes.u64_at(layout.frame.previous) == Some(frame)
            && bytes
                .u64_at(layout.frame.code)
                .is_some_and(|code| code & !7 != 0)
    })
}
