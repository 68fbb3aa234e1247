//! The call tree seen through a choice of what counts as the same frame.
//!
//! The call tree keeps threads and executing lines apart. Whoever asks decides what matters: a
//! flame graph merges frames with the same label, a stats table frames of the same function.

use std::collections::HashMap;

use crate::call_tree::subtree_totals;
use crate::{CallTree, Frame, Weights};

/// A tree whose nodes are keys below a parent; the same key below the same parent is one node.
/// Node 0 is the root: it has no key, and everything hangs below it.
#[derive(Debug, Clone)]
pub struct GroupedTree {
    parents: Vec<u32>,
    keys: Vec<u32>,
    own: Vec<Weights>,
}

impl GroupedTree {
    /// Groups `tree` by the keys of each frame. A frame with no key is left out, and what was seen
    /// there, or hangs below, belongs to the frame that called it; one with several becomes as many
    /// nodes, one below the other. Linear in the tree.
    pub fn new<K: IntoIterator<Item = u32>>(
        tree: &CallTree,
        mut keys: impl FnMut(Frame) -> K,
    ) -> Self {
        let mut grouped = Self {
            parents: vec![0],
            keys: vec![0],
            own: vec![Weights::default()],
        };
        let mut known: HashMap<(u32, u32), u32> = HashMap::new();
        let mut place: Vec<u32> = Vec::with_capacity(tree.len());
        for id in tree.ids() {
            let node = tree.node(id);
            let mut at = node.parent.map_or(0, |parent| place[parent.index()]);
            for key in keys(node.frame) {
                at = *known.entry((at, key)).or_insert_with(|| {
                    grouped.parents.push(at);
                    grouped.keys.push(key);
                    grouped.own.push(Weights::default());
                    // The call tree has at most u32::MAX nodes; that its feet may become two each does not
                    // matter, since no machine has room for so many of those.
                    (grouped.parents.len() - 1) as u32
                });
            }
            grouped.own[at as usize] += tree.own(id);
            place.push(at);
        }
        grouped
    }

    /// Number of nodes, with the root.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.parents.len()
    }

    /// The node above; `None` for the root.
    #[must_use]
    pub fn parent(&self, node: usize) -> Option<usize> {
        (node != 0).then(|| self.parents[node] as usize)
    }

    /// The key of a node; 0 for the root, which has none.
    #[must_use]
    pub fn key(&self, node: usize) -> u32 {
        self.keys[node]
    }

    /// What was seen with this node on top.
    #[must_use]
    pub fn own(&self, node: usize) -> Weights {
        self.own[node]
    }

    /// Per node: what was seen with it anywhere on the stack.
    #[must_use]
    pub fn totals(&self) -> Vec<Weights> {
        subtree_totals(self.own.clone(), |node| self.parent(node))
    }

    /// The children of every node, in the order of their keys.
    #[must_use]
    pub fn children(&self) -> Children {
        let mut starts = vec![0u32; self.node_count() + 1];
        for &parent in &self.parents[1..] {
            starts[parent as usize + 1] += 1;
        }
        for node in 1..starts.len() {
            starts[node] += starts[node - 1];
        }
        let mut by_key: Vec<u32> = (1..self.node_count() as u32).collect();
        by_key.sort_by_key(|&node| self.keys[node as usize]);
        // Dealing the nodes out in the order of their keys leaves every family in that order.
        let mut next = starts.clone();
        let mut nodes = vec![0u32; by_key.len()];
        for node in by_key {
            let slot = &mut next[self.parents[node as usize] as usize];
            nodes[*slot as usize] = node;
            *slot += 1;
        }
        Children { starts, nodes }
    }
}

/// The children of each node of a [`GroupedTree`].
#[derive(Debug, Clone)]
pub struct Children {
    /// Where each node's children start in `nodes`; the next entry is where they end.
    starts: Vec<u32>,
    nodes: Vec<u32>,
}

impl Children {
    /// The children of a node.
    #[must_use]
    pub fn of(&self, node: usize) -> &[u32] {
        &self.nodes[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clocks, FunctionId, Node, NodeId, Seen, ThreadId};

    fn weigh(samples: u64) -> Weights {
        Weights {
            nanoseconds: samples * 10,
            samples,
        }
    }

    fn seen(samples: u64) -> Seen {
        Seen {
            nanoseconds: Clocks::of_wall(samples * 10),
            samples: Clocks::of_wall(samples),
        }
    }

    fn tree() -> CallTree {
        let mut tree = CallTree::default();
        let call = |parent, function, line| Node {
            parent: Some(NodeId(parent)),
            frame: Frame::Call {
                function: FunctionId(function),
                line,
            },
        };
        let thread = |thread| Node {
            parent: None,
            frame: Frame::Thread(ThreadId(thread)),
        };
        tree.push(thread(0), seen(0));
        tree.push(thread(1), seen(5));
        tree.push(call(0, 7, 1), seen(1));
        tree.push(call(1, 7, 2), seen(2));
        tree.push(call(2, 3, 9), seen(4));
        tree.push(call(3, 3, 9), seen(8));
        tree.push(call(3, 2, 9), seen(16));
        tree
    }

    #[test]
    fn threads_and_lines_merge() {
        let grouped = GroupedTree::new(&tree(), |frame| match frame {
            Frame::Thread(_) => None,
            Frame::Call { function, .. } => Some(function.0),
        });
        assert_eq!(grouped.node_count(), 4);
        assert_eq!(grouped.own(0), weigh(5));
        let children = grouped.children();
        let [bottom] = children.of(0) else {
            panic!("one bottom function")
        };
        assert_eq!(grouped.own(*bottom as usize), weigh(3));
        let keys: Vec<u32> = children
            .of(*bottom as usize)
            .iter()
            .map(|&node| grouped.key(node as usize))
            .collect();
        assert_eq!(keys, [2, 3]);
        assert_eq!(grouped.totals()[0], weigh(36));
        assert_eq!(grouped.totals()[*bottom as usize], weigh(31));
    }

    #[test]
    fn all_apart() {
        let grouped = GroupedTree::new(&tree(), |frame| match frame {
            Frame::Thread(thread) => Some(100 + thread.0),
            Frame::Call { function, line } => Some(function.0 * 10 + line),
        });
        assert_eq!(grouped.node_count(), 8);
        assert!(grouped.own(0).is_zero());
    }

    #[test]
    fn a_frame_that_becomes_two() {
        let grouped = GroupedTree::new(&tree(), |frame| match frame {
            Frame::Thread(thread) => vec![100, 200 + thread.0],
            Frame::Call { .. } => Vec::new(),
        });
        let keys: Vec<u32> = (1..grouped.node_count())
            .map(|node| grouped.key(node))
            .collect();
        assert_eq!(keys, [100, 200, 201]);
        assert_eq!([grouped.parent(2), grouped.parent(3)], [Some(1), Some(1)]);
        assert_eq!(grouped.totals()[1], weigh(36));
        assert_eq!(grouped.own(2), weigh(1 + 4));
    }

    #[test]
    fn nothing_at_all() {
        let grouped = GroupedTree::new(&CallTree::default(), |_| None::<u32>);
        assert_eq!(grouped.node_count(), 1);
        assert!(grouped.children().of(0).is_empty());
    }
}
