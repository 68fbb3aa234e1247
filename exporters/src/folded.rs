//! Folded stacks: a line a stack, `main (a.py:1);helper (a.py:7) 1234`, as `flamegraph.pl`, inferno,
//! speedscope and others read them. The weight is the time on top, in whole microseconds.

use std::io::{self, BufWriter, Write};

use pystrobe_profile::{Profile, Weights};

use crate::Style;
use crate::labels::{Labelled, NO_FRAME};

pub(crate) fn write(profile: &Profile, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let labelled = Labelled::new(profile, style);
    let children = labelled.tree.children();
    let mut rounding = Rounding::default();
    let mut out = BufWriter::new(out);
    // The labels on the way to where the walk is. A file is as long as its stacks are deep, but
    // one path is all that has to be kept.
    let mut path = String::new();
    // What is still to be visited, and how much of the path is above it.
    let mut rest = vec![(0, 0)];
    while let Some((node, parent_path)) = rest.pop() {
        path.truncate(parent_path);
        if node != 0 {
            push_label(&mut path, labelled.label(node));
        }
        let own = labelled.tree.own(node);
        if !own.is_zero() {
            let microseconds = rounding.microseconds(own);
            if labelled.is_foot(node) {
                let foot = path.len();
                push_label(&mut path, NO_FRAME);
                writeln!(out, "{path} {microseconds}")?;
                path.truncate(foot);
            } else {
                writeln!(out, "{path} {microseconds}")?;
            }
        }
        let below = children.of(node).iter().rev();
        rest.extend(below.map(|&child| (child as usize, path.len())));
    }
    out.flush()
}

fn push_label(path: &mut String, label: &str) {
    if !path.is_empty() {
        path.push(';');
    }
    path.push_str(label);
}

/// Turns nanoseconds into whole microseconds so that their sum stays right: what one weight loses, the
/// next one gets. A stack that was seen never becomes 0, which readers drop.
#[derive(Debug, Default)]
pub(crate) struct Rounding {
    /// Nanoseconds that are still to be given out, less than a microsecond.
    owed: u64,
}

impl Rounding {
    pub(crate) fn microseconds(&mut self, weights: Weights) -> u64 {
        let nanoseconds = weights.nanoseconds.saturating_add(self.owed);
        self.owed = nanoseconds % 1000;
        (nanoseconds / 1000).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_the_sum_and_every_stack() {
        let mut rounding = Rounding::default();
        let mut of = |nanoseconds| {
            rounding.microseconds(Weights {
                nanoseconds,
                samples: 1,
            })
        };
        assert_eq!([of(1_600), of(1_600), of(1_600)], [1, 2, 1]);
        assert_eq!([of(0), of(199), of(1)], [1, 1, 1]);
        assert_eq!(of(u64::MAX), u64::MAX / 1000);
    }
}
