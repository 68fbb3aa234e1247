//! The foot of a thread: the shim on the C stack below its outermost function.
//!
//! It is entered and left with that function (`entry_frame` of `_PyEval_EvalFrameDefault` in `Python/ceval.c`), and what it says, that
//! nothing is below, stays so for as long. So while the outermost function is the same, by its bytes, its shim need not be read with
//! each sample: it lies apart from all else, and to look up one more page takes the kernel half a microsecond. It is read now and
//! then, in case something that has a caller has called the same function to the same place.

use crate::memory::{ReadError, RemoteMemory};

use super::step::Step;
use super::{Place, RawFrame, Walk};

/// A shim was the foot this often, when all stacks were walked whole, before it rests. Where C code calls one function after the other,
/// it must not: whenever what is above it is another one, it has to be fetched by a call of its own.
const MET_BEFORE: u32 = 8;

impl<M: RemoteMemory> Walk<'_, M> {
    /// One step down from `frame`. What rests below the outermost function is not asked for.
    pub(super) fn step_down(
        &mut self,
        frame: Option<&RawFrame>,
        address: u64,
        base: Option<u64>,
    ) -> Result<Step, ReadError> {
        if self.is_on_its_foot(frame, address) {
            return Ok(Step::FOOT);
        }
        let mut step = self.step(address, base)?;
        if let Some(frame) = frame
            && step.frame.is_none()
            && Some(address) != base
        {
            let lowest = matches!(frame.place, Place::DataStack { first: true, .. })
                && self.has_no_room_below();
            let rests = self.snapshot.rests(address);
            if lowest && (step.foot || Some(step.previous) == base) {
                let counts = self.snapshot.is_before_forgetting();
                let met = self.known.met_foot(frame, address, counts);
                if rests {
                    step.span = None;
                } else if counts && met > MET_BEFORE {
                    self.snapshot.let_rest(address, self.thread);
                }
            } else if rests {
                self.snapshot.regroup(address, self.group);
            }
        }
        Ok(step)
    }

    /// Whether the walk has come down to the outermost function, and what is below it rests since it was that.
    pub(super) fn is_on_its_foot(&mut self, frame: Option<&RawFrame>, shim: u64) -> bool {
        frame.is_some_and(|frame| self.known.is_shim_at_foot(frame, shim))
            && self.snapshot.leaves_to_rest(shim)
    }
}
