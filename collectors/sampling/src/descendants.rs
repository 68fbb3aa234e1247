//! The processes that a process has started, and those that these have, as they are at one moment.

use std::collections::{BTreeMap, BTreeSet};

use crate::process;

/// The ids of all descendants of a process, each behind its parent and those of one parent in the order of their ids; not
/// this process, nor what that has started. One list of all processes is read, so what starts or ends meanwhile may
/// be missing or gone.
#[must_use]
pub fn descendants(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for pid in process::all() {
        if let Some(parent) = process::parent_of_process(pid) {
            children.entry(parent).or_default().insert(pid);
        }
    }
    below(root, std::process::id(), children)
}

/// The same of a list of children by parent. Each is taken once: ids that were given out anew while the list was read can
/// make it a ring.
fn below(root: u32, left_out: u32, mut children: BTreeMap<u32, BTreeSet<u32>>) -> Vec<u32> {
    let mut met = BTreeSet::from([root, left_out]);
    let mut found = Vec::new();
    let mut rest: Vec<u32> = Vec::new();
    let mut parent = Some(root);
    while let Some(pid) = parent {
        let of_pid = children.remove(&pid).unwrap_or_default();
        rest.extend(of_pid.into_iter().rev().filter(|child| met.insert(*child)));
        parent = rest.pop();
        found.extend(parent);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn children(pairs: &[(u32, &[u32])]) -> BTreeMap<u32, BTreeSet<u32>> {
        let pairs = pairs.iter();
        pairs
            .map(|(pid, of)| (*pid, of.iter().copied().collect()))
            .collect()
    }

    #[test]
    fn each_comes_behind_its_parent() {
        let tree = children(&[
            (1, &[9, 2]),
            (2, &[5, 30]),
            (9, &[3]),
            (7, &[8]),
            (30, &[31]),
        ]);
        assert_eq!(below(1, 30, tree), [2, 5, 9, 3]);
        assert_eq!(below(1, 0, children(&[])), []);
    }

    #[test]
    fn a_ring_ends() {
        let ring = children(&[(1, &[2]), (2, &[3, 1]), (3, &[2])]);
        assert_eq!(below(1, 0, ring), [2, 3]);
    }

    #[test]
    fn a_child_is_found() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let parent = process::parent(std::process::id()).unwrap();
        assert!(descendants(std::process::id()).contains(&child.id()));
        assert!(
            !descendants(parent).contains(&child.id()),
            "what we have started"
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
