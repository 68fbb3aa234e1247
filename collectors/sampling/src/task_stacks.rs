//! The asyncio tasks of a thread as stacks of their own: what is left to do where they are to be shown once, and no profile
//! puts together what they have in common.

use std::iter;

use rustc_hash::FxHashMap;

use crate::tasks::{Joined, LogicalFrame};

/// Tasks that wait at one place, and for the same ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WaitingAt {
    /// How many.
    pub(crate) tasks: u64,
    /// Innermost first.
    pub(crate) frames: Vec<LogicalFrame>,
    /// Whether the older ones are missing.
    pub(crate) cut: bool,
}

/// A frame and those below it.
pub(crate) fn down_from(joined: &Joined, frame: u32) -> impl Iterator<Item = LogicalFrame> {
    let at = |number: u32| joined.frames.get(usize::try_from(number).ok()?).copied();
    iter::successors(at(frame), move |frame| frame.parent.and_then(at))
}

/// The tasks that wait, in the order of the thread's list. Each costs `room` its frames, and is cut where there is none left: the
/// frames that many have in common are many stacks' frames here.
pub(crate) fn waiting(joined: &Joined, room: &mut usize) -> Vec<WaitingAt> {
    // Frames that look alike, and all below them: the first of them stands for them.
    let mut alike: FxHashMap<LogicalFrame, u32> = FxHashMap::default();
    let mut first: Vec<u32> = Vec::new();
    let known = |first: &[u32], number: u32| first.get(usize::try_from(number).ok()?).copied();
    for (number, frame) in (0..).zip(&joined.frames) {
        let parent = frame.parent.and_then(|parent| known(&first, parent));
        first.push(
            *alike
                .entry(LogicalFrame { parent, ..*frame })
                .or_insert(number),
        );
    }
    let mut places: Vec<(u32, u64)> = Vec::new();
    let mut by_place: FxHashMap<u32, usize> = FxHashMap::default();
    for place in joined
        .waiting
        .iter()
        .filter_map(|frame| known(&first, *frame))
    {
        let index = *by_place.entry(place).or_insert(places.len());
        match places.get_mut(index) {
            Some((_, tasks)) => *tasks += 1,
            None => places.push((place, 1)),
        }
    }
    let stack = |(place, tasks)| {
        let mut rest = down_from(joined, place);
        let frames: Vec<LogicalFrame> = rest.by_ref().take(*room).collect();
        *room -= frames.len();
        WaitingAt {
            tasks,
            frames,
            cut: rest.next().is_some(),
        }
    };
    places.into_iter().map(stack).collect()
}

#[cfg(test)]
mod tests {
    use pystrobe_profile::FunctionId;

    use super::*;

    fn joined(frames: &[(Option<u32>, usize)], waiting: &[u32]) -> Joined {
        let frame = |&(parent, function)| LogicalFrame {
            parent,
            function: FunctionId::from_index(function),
            line: 7,
        };
        let mut joined = Joined::default();
        joined.frames = frames.iter().map(frame).collect();
        joined.waiting = waiting.to_vec();
        joined
    }

    fn shown(joined: &Joined, mut room: usize) -> Vec<(u64, Vec<usize>, bool)> {
        let functions = |frames: &[LogicalFrame]| -> Vec<usize> {
            frames.iter().map(|frame| frame.function.index()).collect()
        };
        waiting(joined, &mut room)
            .iter()
            .map(|at| (at.tasks, functions(&at.frames), at.cut))
            .collect()
    }

    /// Two below a root of theirs that look alike, one below a root that looks so too, and a fourth that stands elsewhere.
    #[test]
    fn what_looks_alike_is_shown_once() {
        let frames = [
            (None, 0),
            (Some(0), 1),
            (Some(0), 1),
            (None, 0),
            (Some(3), 1),
            (None, 2),
        ];
        let joined = joined(&frames, &[2, 5, 1, 4]);
        let expected = [(3, vec![1, 0], false), (1, vec![2], false)];
        assert_eq!(shown(&joined, 100), expected);
    }

    #[test]
    fn there_is_room_for_so_many_frames() {
        let joined = joined(
            &[(None, 0), (Some(0), 1), (Some(1), 2), (Some(0), 3)],
            &[2, 3],
        );
        let expected = [(1, vec![2, 1, 0], false), (1, vec![3], true)];
        assert_eq!(shown(&joined, 4), expected);
        let expected = [(1, vec![2, 1], true), (1, vec![], true)];
        assert_eq!(shown(&joined, 2), expected);
    }
}
