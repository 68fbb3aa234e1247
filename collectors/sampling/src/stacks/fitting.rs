//! Whether the frames that a walk found fit each other: each executes a code object, and lies where the frame before it on
//! the data stack ends.

use crate::codes::{CodeId, Codes};
use crate::walk::{Found, Place, RawFrame};

/// The frames that a walk found, from the innermost down to the first that does not fit what is above it; `below` is what
/// lies below them. Gives whether they all fit.
pub(super) fn fit(
    codes: &Codes,
    stamp: u64,
    found: &Found,
    below: &[(RawFrame, CodeId)],
    frames: &mut Vec<(RawFrame, CodeId)>,
) -> bool {
    frames.clear();
    // The frame above, where it lies on the data stack: its address, its chunk, whether it is at the foot.
    let mut above: Option<(u64, u64, bool)> = None;
    let mut fits = |frame: &RawFrame, id| {
        if let Place::DataStack { chunk, first } = frame.place {
            let size = codes
                .get(id)
                .and_then(|(_, code)| code.frame_size)
                .unwrap_or(0);
            let fits = above.is_none_or(|(address, above_chunk, above_first)| {
                if chunk == above_chunk {
                    frame.address + size == address
                } else {
                    above_first
                }
            });
            above = Some((frame.address, chunk, first));
            return fits;
        }
        true
    };
    for frame in &found.frames {
        let Some(id) = codes.proven(frame.code, stamp) else {
            return false;
        };
        if !fits(frame, id) {
            return false;
        }
        frames.push((*frame, id));
    }
    // Those below fit each other; the next of them on the data stack has to fit these.
    let on_data_stack =
        |(frame, _): &&(RawFrame, CodeId)| matches!(frame.place, Place::DataStack { .. });
    let next = below.iter().rev().find(on_data_stack);
    next.is_none_or(|(frame, id)| fits(frame, *id))
}
