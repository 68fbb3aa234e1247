//! What the walk before found, as far as nothing has changed there since.
//!
//! Most of a stack stands still while its newest frames come and go. A walk notes by which bytes it went. Those that are
//! the same in the next sample lead to the same frames again, so the next walk need not go there: it ends where it
//! meets a frame whose bytes, and those of all below it, are what they were. Nothing is taken for unchanged
//! without having been read and compared.

use crate::codes::CodeId;
use crate::snapshot::{Snapshot, Span};

use super::{Place, RawFrame};

/// How far down the last walk a frame is looked for.
const SEARCHED: usize = 64;

/// Bytes that a walk went by: a frame, a shim, or the head of a chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Where they lie; none where they rest, and so stay what they are for as long as those above them do.
    span: Option<Span>,
    /// Whether it is a frame of Python code.
    pub(super) frame: bool,
    /// Whether the bytes alone say where it goes on.
    pub(crate) firm: bool,
}

impl Mark {
    pub(super) fn new(span: Option<Span>, frame: bool) -> Self {
        Self {
            span,
            frame,
            firm: true,
        }
    }

    /// Whether they are what they were in the sample before.
    pub(crate) fn is_unchanged(&self, snapshot: &Snapshot) -> bool {
        self.span.is_none_or(|span| snapshot.is_unchanged(span))
    }
}

/// See the module's documentation. The outermost frame comes first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastWalk<'a> {
    frames: &'a [(RawFrame, CodeId)],
}

impl<'a> LastWalk<'a> {
    /// Of a whole walk over the sample before, with its marks, what is unchanged in this one.
    pub(crate) fn unchanged(
        snapshot: &Snapshot,
        frames: &'a [(RawFrame, CodeId)],
        marks: &[Mark],
    ) -> Self {
        let same = marks
            .iter()
            .take_while(|mark| mark.firm && mark.is_unchanged(snapshot));
        let same = same.filter(|mark| mark.frame).count();
        Self {
            frames: frames.get(..same).unwrap_or_default(),
        }
    }

    /// If a frame is one of these, that one, and the number of those below it.
    pub(super) fn meets(&mut self, frame: &RawFrame) -> Option<(RawFrame, usize)> {
        while let Some(((top, _), rest)) = self.frames.split_last()
            && lies_above(top, frame)
        {
            self.frames = rest;
        }
        let mut below = self.frames.len();
        for (old, _) in self.frames.iter().rev().take(SEARCHED) {
            below -= 1;
            if old.address == frame.address {
                let same = old.code == frame.code && old.at == frame.at && old.place == frame.place;
                return same.then_some((*old, below));
            }
        }
        None
    }
}

/// Whether one frame lies above another in the same chunk, and so is over if that one is reached.
fn lies_above(one: &RawFrame, other: &RawFrame) -> bool {
    match (one.place, other.place) {
        (Place::DataStack { chunk, .. }, Place::DataStack { chunk: of, .. }) => {
            chunk == of && one.address > other.address
        }
        _ => false,
    }
}

/// The marks of a walk that left as many frames as `kept` to the one before it, whose marks are `marks`: those of that one
/// below, and `new` above. Where it left nothing, they are all its own. The outermost comes first.
pub(crate) fn join_marks(marks: &mut Vec<Mark>, kept: Option<usize>, new: &[Mark]) {
    let met = kept.and_then(|kept| {
        let of_frames = marks.iter().enumerate().filter(|(_, mark)| mark.frame);
        of_frames.map(|(number, _)| number).nth(kept)
    });
    marks.truncate(met.unwrap_or(0));
    marks.extend(new.iter().rev());
}
