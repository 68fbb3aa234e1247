//! The call tree around one function: whom it calls, or who calls it.
//!
//! Branches are followed down (or up) in groups of nodes that stand for the same function, heaviest first, and only
//! where they hold enough to be worth a line. So the work is bounded, whatever the target's stacks are like.

use std::collections::BTreeMap;

use pystrobe_profile::TreeIndex;

use super::look::{Look, Question};

/// Branches below this share of the function's own tree are left out.
const WORTH_A_LINE: f64 = 0.01;
/// Lines of the tree, and its levels.
const MOST_LINES: usize = 500;
const MOST_LEVELS: usize = 200;

/// Which way to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Down: what the function calls.
    Callees,
    /// Up: who calls it.
    Callers,
}

/// What a line stands for. Ordered so that lines of the same weight keep their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// Position of a function.
    Function(usize),
    /// Position of a thread: there callers end.
    Thread(usize),
}

/// A line of the tree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Branch {
    /// 0 for the function itself.
    pub(super) level: usize,
    /// What it stands for.
    pub(super) subject: Subject,
    /// Nanoseconds.
    pub(super) weight: f64,
    /// Of the function's whole time, 0 to 1.
    pub(super) share: f64,
}

/// Nodes that stand for the same thing, each with what flows through it.
type Group = Vec<(usize, f64)>;

/// The tree of a function, itself first, for what `question` asks about.
pub(super) fn branches(
    look: &Look,
    index: &TreeIndex,
    function: usize,
    direction: Direction,
    question: &Question<'_>,
) -> Vec<Branch> {
    let totals = index.totals(look.own(question.period), |thread| question.chooses(thread));
    let root: Group = (0..index.len())
        .filter(|&node| index.function(node) == Some(function) && index.is_outermost(node))
        .map(|node| (node, totals[node]))
        .filter(|(_, total)| *total > 0.0)
        .collect();
    let whole = weight(&root);
    let mut lines = Vec::new();
    if whole <= 0.0 {
        return lines;
    }
    let mut open = vec![(0, Subject::Function(function), root)];
    while let Some((level, subject, group)) = open.pop() {
        let weight_here = weight(&group);
        lines.push(Branch {
            level,
            subject,
            weight: weight_here,
            share: weight_here / whole,
        });
        if lines.len() == MOST_LINES {
            break;
        }
        if level == MOST_LEVELS {
            continue;
        }
        let next = match direction {
            Direction::Callees => below(index, &totals, &group),
            Direction::Callers => above(index, &group),
        };
        let mut next: Vec<_> = next
            .into_iter()
            .filter(|(_, group)| weight(group) >= whole * WORTH_A_LINE)
            .collect();
        // The heaviest is taken from the end.
        next.sort_by(|(a, a_group), (b, b_group)| {
            weight(a_group).total_cmp(&weight(b_group)).then(b.cmp(a))
        });
        open.extend(
            next.into_iter()
                .map(|(subject, group)| (level + 1, subject, group)),
        );
    }
    lines
}

fn weight(group: &Group) -> f64 {
    group.iter().map(|(_, weight)| weight).sum()
}

fn below(index: &TreeIndex, totals: &[f64], group: &Group) -> BTreeMap<Subject, Group> {
    let mut next: BTreeMap<Subject, Group> = BTreeMap::new();
    for &(node, _) in group {
        for &child in index.children(node) {
            let child = child as usize;
            if let Some(function) = index.function(child) {
                let group = next.entry(Subject::Function(function)).or_default();
                group.push((child, totals[child]));
            }
        }
    }
    next
}

fn above(index: &TreeIndex, group: &Group) -> BTreeMap<Subject, Group> {
    let mut next: BTreeMap<Subject, Group> = BTreeMap::new();
    for &(node, weight) in group {
        let Some(parent) = index.parent(node) else {
            continue;
        };
        let subject = match index.function(parent) {
            Some(function) => Subject::Function(function),
            None => Subject::Thread(index.thread(parent).index()),
        };
        next.entry(subject).or_default().push((parent, weight));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::example;
    use crate::top::load::Load;
    use crate::top::look::{Order, Period};
    use crate::top::recent::Recent;

    fn lines(
        builder: &pystrobe_profile::Builder,
        function: usize,
        direction: Direction,
    ) -> Vec<String> {
        let mut index = TreeIndex::default();
        index.update(builder.so_far().tree());
        let look = Look::at(
            builder.so_far(),
            builder.counters(),
            std::time::Duration::ZERO,
            &Recent::default(),
            Load::default(),
        );
        let question = Question {
            thread: None,
            filter: "",
            period: Period::Start,
            order: Order::Own,
        };
        branches(&look, &index, function, direction, &question)
            .iter()
            .map(|line| {
                let share = line.share * 100.0;
                let seconds = line.weight / 1e9;
                format!("{} {:?} {seconds} {share:.0}", line.level, line.subject)
            })
            .collect()
    }

    #[test]
    fn callees_hang_below_with_recursion_shown() {
        assert_eq!(
            lines(&example::two_threads(), 0, Direction::Callees),
            [
                "0 Function(0) 12 100",
                "1 Function(1) 8 67",
                "2 Function(1) 2 17",
                "1 Function(2) 4 33",
            ]
        );
    }

    #[test]
    fn callers_lead_to_the_threads() {
        assert_eq!(
            lines(&example::two_threads(), 2, Direction::Callers),
            [
                "0 Function(2) 4 100",
                "1 Function(0) 4 100",
                "2 Thread(1) 3 75",
                "2 Thread(0) 1 25",
            ]
        );
        assert!(lines(&example::two_threads(), 9, Direction::Callers).is_empty());
    }

    #[test]
    fn deep_trees_are_cut() {
        let names = vec!["f"; 5000];
        let mut builder = example::empty();
        builder.apply(&example::batch(0, &names, 1000)).unwrap();
        let down = lines(&builder, 0, Direction::Callees);
        assert_eq!(down.len(), MOST_LEVELS + 1);
        let up = lines(&builder, 4999, Direction::Callers);
        assert_eq!(up.len(), MOST_LEVELS + 1);
    }
}
