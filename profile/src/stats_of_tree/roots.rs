//! Which threads have a root among their own functions.

use std::collections::HashSet;

use super::Shadow;

/// What decides whether a thread's own functions give it a root: a row that no other row calls and
/// no other thread starts with.
pub(super) struct Roots {
    is_called: Vec<bool>,
    /// In how many threads a row is at the bottom.
    threads: Vec<u32>,
}

impl Roots {
    pub(super) fn find(shadow: &Shadow) -> Self {
        let mut roots = Self {
            is_called: vec![false; shadow.rows],
            threads: vec![0; shadow.rows],
        };
        let mut bottoms = HashSet::new();
        for node in 1..shadow.tree.node_count() {
            let Some(parent) = shadow.tree.parent(node).filter(|&parent| parent != 0) else {
                continue;
            };
            if shadow.totals[node].is_zero() {
                continue;
            }
            let row = shadow.row(node) as usize;
            match shadow.tree.parent(parent) {
                // Functions that share a row may be at the bottom of the same thread.
                Some(0) if bottoms.insert((parent, row)) => roots.threads[row] += 1,
                Some(0) => {}
                _ => roots.is_called[row] = true,
            }
        }
        roots
    }

    pub(super) fn has_one(&self, shadow: &Shadow, thread: usize) -> bool {
        let mut bottoms = shadow.seen_below(thread).map(|bottom| shadow.row(bottom));
        let Some(row) = bottoms.next() else {
            return false;
        };
        let alone = bottoms.all(|other| other == row);
        let row = row as usize;
        // Without any edge in the file there is no root for snakeviz and tuna to find.
        let any_edge = self.is_called.contains(&true);
        alone
            && shadow.tree.own(thread).is_zero()
            && !self.is_called[row]
            && self.threads[row] == 1
            && any_edge
    }
}
