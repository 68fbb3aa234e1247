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

mod data_stack;
mod foot;
mod generators;
mod last_walk;
mod running;
mod step;
mod told;
mod way_back;

pub(crate) use data_stack::{CHUNK_HEADER, USUAL_CHUNK};

use crate::codes::Codes;
use crate::known::Known;
use crate::layout::{FrameChain, Layout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::ring::Ring;
use crate::snapshot::{Group, Snapshot, Span};

use data_stack::Chunk;
pub(crate) use last_walk::{LastWalk, Mark, join_marks};
use running::Stated;
pub(crate) use step::frame_bytes;
pub(crate) use told::unstarted;

/// No stack is deeper: this many frames fill more than 80 MiB. What seems deeper is not a stack.
const MAX_FRAMES: usize = 1 << 20;
/// A thread does not call or return this often between two regions of one read.
const SETTLING_STEPS: u32 = 64;
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
    /// Who called it may not be told by its bytes the next time, so it is worth remembering.
    pub(crate) learnable: bool,
    /// The shim between it and its caller; 0 where there is none, or where it was not met.
    pub(crate) shim: u64,
}

/// What earlier samples taught, which is taken only where this one confirms it.
#[derive(Debug)]
pub(crate) struct Learnt<'a> {
    pub(crate) codes: &'a Codes,
    pub(crate) known: &'a mut Known,
}

/// The thread whose stack is walked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    /// Its number, by which its regions are planned.
    pub(crate) number: u32,
    /// The part of its `PyThreadState` that is read.
    pub(crate) state: Region,
    /// Whether it does not hold the GIL, and so neither calls nor returns: then what its state says is right.
    pub(crate) stands: bool,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// At the foot of the thread.
    Foot,
    /// Where no stack can end or go on; the words say how.
    Impossible(&'static str),
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The frames, innermost first; a thread that executes no Python code has none. Where the walk came to a frame that is as
    /// it was in the last one, and all below it, that is the last of these.
    pub(crate) frames: Vec<RawFrame>,
    /// How many frames of the last walk lie below that one, as they did.
    pub(crate) kept: Option<usize>,
    /// By what it went, innermost first.
    pub(crate) marks: Vec<Mark>,
}

/// Walks the stack of a thread; `last` is what is still as the walk before found it.
///
/// # Errors
///
/// Only what ends the whole recording ([`ReadError::Gone`], [`ReadError::Denied`]); a frame that cannot
/// be read makes the stack impossible.
pub(crate) fn walk<M: RemoteMemory>(
    memory: &M,
    snapshot: &mut Snapshot,
    layout: &Layout,
    learnt: Learnt<'_>,
    subject: Subject,
    last: LastWalk<'_>,
    found: &mut Found,
) -> Result<End, ReadError> {
    found.frames.clear();
    found.marks.clear();
    found.kept = None;
    let mut walk = Walk {
        codes: learnt.codes,
        known: learnt.known,
        thread: subject.number,
        memory,
        snapshot,
        layout,
        group: Group::Stack(subject.number),
        chunk: None,
        neighbour: None,
        lowest: None,
        lowest_size: None,
        crossing: None,
        entered: None,
        last,
    };
    match walk.run(subject, found) {
        Ok(end) => Ok(end),
        Err(ReadError::Fault(_)) => Ok(End::Impossible("a frame lies where nothing is mapped")),
        Err(ReadError::Implausible { expected, .. }) => Ok(End::Impossible(expected)),
        Err(error) => Err(error),
    }
}

struct Walk<'a, M> {
    memory: &'a M,
    snapshot: &'a mut Snapshot,
    layout: &'a Layout,
    codes: &'a Codes,
    known: &'a mut Known,
    thread: u32,
    group: Group,
    /// The chunk that the walk is in.
    chunk: Option<Chunk>,
    /// The frame that lies right below the one that runs, where that one was called from C.
    neighbour: Option<u64>,
    /// The lowest frame on the data stack so far.
    lowest: Option<u64>,
    /// The size of that frame.
    lowest_size: Option<u64>,
    /// What there was no room for behind the next frame on the data stack, which is the newest of an older chunk.
    crossing: Option<u64>,
    /// The head of an older chunk that the walk has just come to.
    entered: Option<Span>,
    last: LastWalk<'a>,
}

impl<M: RemoteMemory> Walk<'_, M> {
    fn run(&mut self, subject: Subject, found: &mut Found) -> Result<End, ReadError> {
        let Found {
            frames,
            kept,
            marks,
        } = found;
        let (fields, state) = (self.layout.thread, subject.state);
        let bytes =
            self.snapshot
                .get_or_fetch(self.memory, state, state, Group::Thread(self.thread))?;
        let field = |offset| bytes.u64_at(offset).ok_or(ReadError::Fault(state.address));
        let mut address = field(fields.frame)?;
        let base = fields.base_frame.map(field).transpose()?;
        let data_stack = match fields.datastack_chunk {
            Some(offset) => Some((field(offset)?, field(offset + 8)?)),
            None => None,
        };
        if address == 0 || Some(address) == base {
            return Ok(End::Foot);
        }
        match data_stack {
            Some((chunk, top)) if chunk != 0 => {
                self.read_newest_chunk(chunk, top)?;
                if let FrameChain::CFrame { current_frame } = self.layout.chain {
                    let place = Region {
                        address: address.wrapping_add(current_frame),
                        length: 8,
                    };
                    let group = Group::Thread(self.thread);
                    let bytes = self
                        .snapshot
                        .get_or_fetch(self.memory, place, place, group)?;
                    address = bytes.u64_at(0).ok_or(ReadError::Fault(place.address))?;
                    if address == 0 {
                        return Ok(End::Foot);
                    }
                }
                self.cover(address)?;
                if !subject.stands && !self.switches_to(address, chunk)? {
                    address = self.settle(Stated {
                        current: address,
                        top,
                    })?;
                }
                self.chunk = Some(self.chunk_of(address, chunk)?);
            }
            _ => {}
        }

        // Frames outside the data stack have no order that could prove the end of the walk.
        let mut ring = Ring::new(address);
        loop {
            let step = self.step_down(frames.last(), address, base)?;
            if let (None, Some(last)) = (&step.frame, frames.last_mut())
                && Some(address) != base
            {
                // It was called from C code.
                last.learnable = true;
                last.shim = address;
            }
            frames.extend(step.frame);
            marks.push(Mark::new(step.span, step.frame.is_some()));
            marks.extend(self.entered.take().map(|head| Mark::new(Some(head), false)));
            if let Some(frame) = frames.last_mut()
                && step.frame.is_some()
                && let Some((old, below)) = self.last.meets(frame)
            {
                *frame = old;
                *kept = Some(below);
                return Ok(End::Foot);
            }
            if step.foot {
                return Ok(End::Foot);
            }
            if frames.len() >= MAX_FRAMES {
                return Ok(End::Impossible(
                    "there are more frames than memory can hold",
                ));
            }
            address = step.previous;
            if step.frame.is_some()
                && (!step.linked
                    || (self.known.may_be_shim(self.thread, address)
                        && !self.is_on_its_foot(frames.last(), address)
                        && !self.shim_holds(frames, address)?))
            {
                if let Some(caller) = self.way_back(frames) {
                    address = caller;
                    if let Some(last) = frames.last_mut() {
                        last.learnable = false;
                    }
                    // What was remembered may be another one the next time.
                    if let Some(mark) = marks.iter_mut().rev().find(|mark| mark.frame) {
                        mark.firm = false;
                    }
                } else if !step.linked {
                    return Ok(End::Impossible(
                        "a frame that does not execute any more has forgotten its caller",
                    ));
                }
            }
            if address == 0 {
                return Ok(End::Impossible(
                    "a frame that is not the foot of the thread has none before it",
                ));
            }
            if ring.closes(address) {
                return match self.layout.chain {
                    FrameChain::FrameObjects => {
                        marks.clear();
                        self.climb(frames)
                    }
                    _ => Ok(End::Impossible("the frames form a ring")),
                };
            }
        }
    }

    /// Puts the current frame on what executes below it, where following the frames down went in a circle.
    fn climb(&mut self, frames: &mut Vec<RawFrame>) -> Result<End, ReadError> {
        let impossible = Ok(End::Impossible("the frames form a ring"));
        let Some(current) = frames.first().copied() else {
            return impossible;
        };
        let chain = self.executing_chain(current.address);
        let below = chain.iter().rev().nth(1);
        if below.is_none_or(|caller| self.has_called_before(*caller, current.code) != Some(true)) {
            return impossible;
        }
        frames.clear();
        for address in chain.into_iter().rev() {
            frames.extend(self.step(address, None)?.frame.map(|frame| RawFrame {
                learnable: false,
                ..frame
            }));
        }
        Ok(End::Foot)
    }
}
