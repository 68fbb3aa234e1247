//! Who called a frame, where its own bytes do not tell any more.
//!
//! A frame that returned or yielded between the reading of the thread state and its own may have forgotten its caller.
//! What earlier samples saw is taken where what was read now confirms it.

use rustc_hash::FxHashMap;

use crate::memory::{Fields, ReadError, Region, RemoteMemory};

use super::data_stack::CHUNK_HEADER;
use super::told::{Life, Told};
use super::{Place, RawFrame, Walk};

impl<M: RemoteMemory> Walk<'_, M> {
    /// Who called a frame.
    pub(super) fn caller_of(&mut self, told: Told) -> Option<u64> {
        if told.caller != 0 {
            return Some(told.caller);
        }
        let caller = self.known.caller_at(told.address)?;
        if !told.stacked && self.ask(caller).is_some_and(|told| told.stacked) {
            return self.is_below(caller).then_some(caller);
        }
        let beside = !told.stacked
            || self.known.is_foot(told.address)
            || self.end_of(caller).is_none_or(|end| end == told.address);
        beside.then_some(caller)
    }

    /// Who called what lies in a chunk that was not read, because it is gone or was not there when this sample was
    /// planned: the frame at whose end the chunk was begun.
    pub(super) fn caller_of_lost(&mut self, frame: u64) -> Option<u64> {
        let address = self.known.chunk_around(frame)?;
        let length = CHUNK_HEADER as usize;
        let lost = self.snapshot.get(Region { address, length }).is_none();
        lost.then(|| self.known.caller_at(address + CHUNK_HEADER))?
    }

    /// Whether a shim still leads from the last of these frames to one that may have called it. It lies on the C stack, is
    /// copied later than the data stack, and another call may have put its own there by then.
    pub(super) fn shim_holds(&mut self, frames: &[RawFrame], shim: u64) -> Result<bool, ReadError> {
        let length = self.frame_length();
        self.fetch_heap(Region {
            address: shim,
            length,
        })?;
        let (Some(last), Some(caller)) = (frames.last(), self.below_shim(shim)) else {
            return Ok(false);
        };
        let Some(told) = self.ask(caller) else {
            // The shim at the foot, or a frame that is read later.
            return Ok(true);
        };
        Ok(match last.place {
            Place::DataStack { first: false, .. } => {
                !told.stacked || told.end.is_none_or(|end| end == last.address)
            }
            _ => told.life != Life::Gone && (!told.stacked || self.is_below(caller)),
        })
    }

    /// Whether a frame on the data stack is one of this thread, and lies below all that the walk has met there. What was
    /// remembered may be from another thread, which had a generator at the same address.
    fn is_below(&self, frame: u64) -> bool {
        self.chunk.is_some_and(|chunk| {
            if chunk.holds(frame) {
                self.lowest.is_none_or(|lowest| frame < lowest)
            } else {
                chunk.previous != 0 && self.known.chunk_around(frame) == Some(chunk.previous)
            }
        })
    }

    /// Who called the last of these frames, where its bytes do not tell.
    pub(super) fn way_back(&mut self, frames: &[RawFrame]) -> Option<u64> {
        let last = frames.last()?;
        let known = self.remembered_caller(last);
        if self.layout.frame.owner.is_some() {
            // A generator of a few dozen nanoseconds may never have been met while it ran.
            return known.or_else(|| match (last.place, self.lowest) {
                (Place::Heap, None) => {
                    let newest = self.newest_from_the_foot()?;
                    let credible = self.has_called_before(newest, last.code) == Some(true);
                    (credible && self.is_below(newest)).then_some(newest)
                }
                (_, lowest) => self.neighbour_of(lowest?),
            });
        }
        known
    }

    /// The frame that lies right below one on the data stack, found from the foot of its chunk on.
    fn neighbour_of(&mut self, frame: u64) -> Option<u64> {
        let mut at = self.chunk?.foot();
        while at < frame {
            let end = self.end_of(at)?;
            if end == frame {
                return Some(at);
            }
            // Upwards only: what is no code object may say that its frames have no size.
            if end <= at {
                return None;
            }
            at = end;
        }
        None
    }

    /// The newest frame that executes by its own bytes and those of all below it, from the foot of the thread on, as far
    /// as its oldest chunk is at hand.
    pub(super) fn newest_of_all(&mut self) -> Option<u64> {
        let address = match self.chunk {
            Some(chunk) => self.known.oldest_chunk(chunk.address),
            None => self.known.first_chunk(self.thread)?,
        };
        let length = CHUNK_HEADER as usize;
        self.snapshot.get(Region { address, length })?;
        self.chunk = Some(self.read_chunk(address, None).ok()?);
        self.newest_from_the_foot()
    }

    /// The newest frame of the newest chunk that executes by its own bytes and those of all below it.
    pub(super) fn newest_from_the_foot(&mut self) -> Option<u64> {
        let mut at = self.ask(self.chunk?.foot())?;
        while let Some(callee) = at.end.and_then(|end| self.callee_of(at, end)) {
            let direct = callee.caller == at.address || callee.through_c;
            let live = !matches!(callee.life, Life::Unstarted | Life::Gone)
                && (at.life != Life::Runs || callee.through_c);
            // Upwards only: what was torn while it was read may lead back to the foot.
            if !direct || !live || callee.address <= at.address {
                break;
            }
            at = callee;
        }
        // Of code that was not met yet, as in a first sample, nobody knows where its frame ends, nor what is above it.
        at.end.and(Some(at.address))
    }

    /// The frame objects that execute, each called by the one before it, from the foot of the thread on, and `current` at
    /// their end. Each of them tells of a moment of its own, and a recursion uses them again at other depths
    /// meanwhile: from the newest one down they can lead in a circle, but never from the foot up.
    pub(super) fn executing_chain(&mut self, current: u64) -> Vec<u64> {
        let mut callees: FxHashMap<u64, u64> = FxHashMap::default();
        for address in self.snapshot.starts(self.group) {
            if let Some(told) = self.ask(address)
                && told.life == Life::Executes
            {
                callees.insert(told.caller, address);
            }
        }
        let mut chain = Vec::new();
        let mut next = callees.remove(&0);
        while let Some(frame) = next.filter(|frame| *frame != current) {
            chain.push(frame);
            next = callees.remove(&frame);
        }
        chain.push(current);
        chain
    }

    /// Whether a frame executes a function that was seen to call this code object; `None` if that was never seen to be
    /// called.
    pub(super) fn has_called_before(&mut self, caller: u64, callee: u64) -> Option<bool> {
        let code = self.code_of(caller)?;
        self.known.has_called(code, callee)
    }

    /// The code object that a frame executes.
    pub(super) fn code_of(&mut self, frame: u64) -> Option<u64> {
        let address = frame.wrapping_add(self.layout.frame.code);
        let region = Region { address, length: 8 };
        Some(self.snapshot.get(region)?.u64_at(0)? & !7)
    }

    /// Who called a frame, as earlier samples know it, if that caller executes, and lies right below what lies on the
    /// data stack.
    pub(super) fn remembered_caller(&mut self, frame: &RawFrame) -> Option<u64> {
        if self.layout.frame.owner.is_none() {
            return self.known.caller(frame.address, frame.code);
        }
        if let Place::DataStack { first: false, .. } = frame.place {
            // Where it lies says who called it, whatever it executes.
            let known = [self.neighbour, self.known.caller_at(frame.address)];
            let beside = known
                .into_iter()
                .flatten()
                .find(|&caller| self.end_of(caller) == Some(frame.address));
            // Or a generator called it.
            return beside.or_else(|| {
                let caller = self.known.caller(frame.address, frame.code)?;
                let told = self.ask(caller)?;
                (!told.stacked).then_some(caller)
            });
        }
        let caller = self.known.caller(frame.address, frame.code)?;
        let told = self.ask(caller)?;
        (!told.stacked || told.life != Life::Gone && self.is_below(caller)).then_some(caller)
    }
}
