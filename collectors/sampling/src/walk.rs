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

use crate::codes::Codes;
use crate::known::Known;
use crate::layout::{Activity, FrameChain, Instruction, Layout};
use crate::memory::{Fields, ReadError, Region, RemoteMemory};
use crate::ring::Ring;
use crate::snapshot::{Group, Snapshot};

/// Bytes that a chunk of the data stack is read beyond its live top: room for the next calls.
const HEADROOM: u64 = 512;
/// Nearly all chunks of the data stack have this size (`DATA_STACK_CHUNK_SIZE`).
const USUAL_CHUNK: u64 = 16 << 10;
/// No chunk of the data stack is larger: CPython takes 16 KiB, and doubles that until one frame fits.
const MAX_CHUNK: u64 = 1 << 26;
/// Frames on the heap that are fetched together. The kernel takes 1024 regions a call.
const MAX_FORESEEN: usize = 1000;
/// A thread does not call or return this often between two regions of one read.
const SETTLING_STEPS: u32 = 64;
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
    /// Who called it may not be told by its bytes the next time, so it is worth remembering.
    pub(crate) learnable: bool,
}

/// What earlier samples taught, which is taken only where this one confirms it.
#[derive(Debug)]
pub(crate) struct Learnt<'a> {
    pub(crate) codes: &'a Codes,
    pub(crate) known: &'a mut Known,
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
    learnt: Learnt<'_>,
    thread: u32,
    state: Region,
    frames: &mut Vec<RawFrame>,
) -> Result<End, ReadError> {
    frames.clear();
    let mut walk = Walk {
        codes: learnt.codes,
        known: learnt.known,
        thread,
        top: None,
        memory,
        snapshot,
        layout,
        group: Group::Stack(thread),
        chunk: None,
        lowest: None,
        older_top: None,
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
    codes: &'a Codes,
    known: &'a mut Known,
    thread: u32,
    group: Group,
    /// Where the data stack ended when the thread state was read, until a frame on it was met.
    top: Option<u64>,
    /// The chunk that the walk is in.
    chunk: Option<Chunk>,
    /// The lowest frame on the data stack so far.
    lowest: Option<u64>,
    /// Where the frame has to end that is the newest of its chunk, until that one was met.
    older_top: Option<u64>,
}

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

/// A step further down.
struct Step {
    frame: Option<RawFrame>,
    previous: u64,
    foot: bool,
    /// Whether `previous` can be relied on.
    linked: bool,
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
            self.top = Some(top);
            address = self.settle(address, top)?;
        }

        // Frames outside the data stack have no order that could prove the end of the walk.
        let mut ring = Ring::new(address);
        loop {
            let step = self.step(address, base)?;
            if let (None, Some(last)) = (&step.frame, frames.last_mut())
                && Some(address) != base
            {
                // It was called from C code.
                last.learnable = true;
                self.known.met_shim(self.thread, address);
            }
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
            if step.frame.is_some()
                && let Some(last) = frames.last_mut()
                && (!step.linked || self.known.may_be_shim(self.thread, address))
            {
                if let Some(caller) = self.remembered_caller(last) {
                    address = caller;
                    last.learnable = false;
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
            Place::Heap => {
                self.fetch_heap(wanted)?;
                self.snapshot.get(wanted).ok_or(ReadError::Fault(address))?
            }
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
            learnable: place == Place::Heap,
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
            });
        };
        let owner = bytes.u8_at(owner).ok_or(fault)?;
        if owner >= layout.frame.shim_owner {
            let foot = base.map_or(previous == 0, |base| base == address);
            return Ok(Step {
                frame: None,
                previous,
                foot,
                linked: true,
            });
        }
        let mut linked = previous != 0;
        match (owner, place) {
            (OWNED_BY_THREAD, Place::DataStack { .. }) => {
                // A function that has not started is linked last (3.11, 3.12: `_PyFrame_Initialize`, then
                // `previous`), and until then to the caller of whatever lay in its place before. Only to its
                // neighbour on the data stack it is linked for sure.
                let start = layout.code.bytecode.map(|offset| code.wrapping_add(offset));
                let unstarted = matches!((at, start), (At::Address(at), Some(start)) if at < start);
                linked &= !unstarted || self.chunk.is_some_and(|chunk| chunk.holds(previous));
                self.lowest = Some(address);
                self.top = None;
                // A newer chunk was begun where this one was left.
                if let Some(end) = self.older_top.take()
                    && self
                        .frame_size(code)
                        .is_some_and(|size| address.wrapping_add(size) != end)
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
        let foot = layout.shim_free() && previous == 0 && owner == OWNED_BY_THREAD;
        Ok(Step {
            frame,
            previous,
            foot,
            linked: linked || foot,
        })
    }

    /// The frame that ran when the frames were read, which is a little later than the thread state was: functions
    /// of a few dozen nanoseconds have returned and others were called since. Which function the *current* frame
    /// executes has to be read from the same bytes as which frame is current, or the functions that
    /// are followed by the longest pauses would be seen in place of the others.
    ///
    /// Calls through C code and generators leave no such trace: for them the thread state decides.
    fn settle(&mut self, current: u64, top: u64) -> Result<u64, ReadError> {
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

    fn frame_size(&self, code: u64) -> Option<u64> {
        self.codes.last_at(code)?.frame_size
    }

    /// Who called a frame, as earlier samples know it, if that caller is still where it has to be: right below it
    /// on the data stack, or at its end when the thread state was read.
    fn remembered_caller(&mut self, frame: &RawFrame) -> Option<u64> {
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

    fn frame_length(&self) -> usize {
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

    /// Whether a frame object is planned and executes.
    fn executes(&mut self, address: u64) -> bool {
        let Activity::Flag(offset, value) = self.layout.activity() else {
            return false;
        };
        let region = Region {
            address: address.wrapping_add(offset),
            length: 1,
        };
        self.snapshot.get(region).and_then(|bytes| bytes.u8_at(0)) == Some(value)
    }

    fn is_planned(&mut self, address: u64) -> bool {
        let length = self.frame_length();
        self.snapshot.get(Region { address, length }).is_some()
    }

    /// Reads a frame on the heap that was not planned, and in the same call those that were below it before.
    fn fetch_heap(&mut self, wanted: Region) -> Result<(), ReadError> {
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
            self.older_top = Some(older.top);
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
            self.snapshot.fetch(self.memory, &[(whole, self.group)])?;
            if self.snapshot.get(header).is_none() {
                self.snapshot.fetch(self.memory, &[(header, self.group)])?;
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
    let activity = match layout.activity() {
        Activity::Flag(offset, _) | Activity::StackTop(offset) => offset,
        Activity::Code => 0,
    };
    frame
        .previous
        .max(frame.code)
        .max(at)
        .max(activity)
        .max(frame.owner.unwrap_or(0))
        + 8
}
