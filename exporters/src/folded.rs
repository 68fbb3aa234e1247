//! Folded stacks: a line a stack, `main (a.py:1);helper (a.py:7) 1234`, as `flamegraph.pl`, inferno,
//! speedscope and others read them. The weight is the time on top, as a whole number.
//!
//! A sampler's weights are in microseconds. A tracer's are in nanoseconds: a call often takes less than a microsecond, and
//! no stack may have the weight 0, so the many short ones would all become as long as that.

use std::io::{self, BufWriter, Write};

use pystrobe_profile::{Counted, Profile, Weights};

use crate::Style;
use crate::labels::{Labelled, NO_FRAME};

pub(crate) fn write(profile: &Profile, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let labelled = Labelled::new(profile, style);
    let children = labelled.tree.children();
    let mut rounding = Rounding::of(profile.recording().counted);
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
            let weight = rounding.weight(own);
            if labelled.is_foot(node) {
                let foot = path.len();
                push_label(&mut path, NO_FRAME);
                writeln!(out, "{path} {weight}")?;
                path.truncate(foot);
            } else {
                writeln!(out, "{path} {weight}")?;
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

/// Turns nanoseconds into whole numbers of a unit so that their sum stays right: what one weight loses, the
/// next one gets. A stack that was seen never becomes 0, which readers drop.
#[derive(Debug)]
pub(crate) struct Rounding {
    /// Nanoseconds in the unit.
    unit: u64,
    /// Nanoseconds that are still to be given out, less than a unit.
    owed: u64,
}

impl Rounding {
    /// In the unit of a profile that counts these.
    pub(crate) fn of(counted: Counted) -> Self {
        let unit = match counted {
            Counted::Samples => 1000,
            Counted::Calls => 1,
        };
        Self { unit, owed: 0 }
    }

    /// What the unit is called.
    pub(crate) fn unit(&self) -> &'static str {
        match self.unit {
            1 => "nanoseconds",
            _ => "microseconds",
        }
    }

    pub(crate) fn weight(&mut self, weights: Weights) -> u64 {
        let nanoseconds = weights.nanoseconds.saturating_add(self.owed);
        self.owed = nanoseconds % self.unit;
        (nanoseconds / self.unit).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_the_sum_and_every_stack() {
        let rounded = |counted, times: &[u64]| -> Vec<u64> {
            let mut rounding = Rounding::of(counted);
            let weight = |&nanoseconds| {
                rounding.weight(Weights {
                    nanoseconds,
                    samples: 1,
                })
            };
            times.iter().map(weight).collect()
        };
        let sampled = [1_600, 1_600, 1_600, 0, 199, 1, u64::MAX];
        assert_eq!(
            rounded(Counted::Samples, &sampled),
            [1, 2, 1, 1, 1, 1, u64::MAX / 1000]
        );
        assert_eq!(rounded(Counted::Calls, &[1_600, 0, 70]), [1_600, 1, 70]);
    }
}
