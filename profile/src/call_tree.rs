//! The call tree: every stack that was seen, sharing what they share.
//!
//! A node is a frame (a function that is executing a line) below a parent; its foot is a thread. The
//! tree is kept in columns, and a parent always comes before its children. So a pass over the
//! columns in order sees parents first, a pass in reverse sees children first, and no question
//! needs recursion, however deep the stacks are.

use crate::{Clock, Frame, FunctionId, Node, NodeId, Seen, ThreadId, Weights};

/// In the column of parents: the node is the foot of a thread.
const NO_PARENT: u32 = u32::MAX;

/// The call tree of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallTree {
    parents: Vec<u32>,
    /// The thread where there is no parent, else the function.
    subjects: Vec<u32>,
    lines: Vec<u32>,
    own: Vec<Seen>,
    /// What weighs; all others are kept.
    clock: Clock,
}

impl CallTree {
    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether there is no node at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// All nodes, parents before their children.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.len()).map(NodeId::from_index)
    }

    /// What a node is and where it hangs.
    ///
    /// # Panics
    ///
    /// When the node is not of this tree.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Node {
        let index = id.index();
        let subject = self.subjects[index];
        match self.parents[index] {
            NO_PARENT => Node {
                parent: None,
                frame: Frame::Thread(ThreadId(subject)),
            },
            parent => Node {
                parent: Some(NodeId(parent)),
                frame: Frame::Call {
                    function: FunctionId(subject),
                    line: self.lines[index],
                },
            },
        }
    }

    /// The clock whose time and samples all weights of the tree are.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// What was seen with this node on top of the stack.
    ///
    /// # Panics
    ///
    /// When the node is not of this tree.
    #[must_use]
    pub fn own(&self, id: NodeId) -> Weights {
        self.seen(id).on(self.clock)
    }

    /// What was seen with this node on top of the stack, on all clocks.
    ///
    /// # Panics
    ///
    /// When the node is not of this tree.
    #[must_use]
    pub fn seen(&self, id: NodeId) -> Seen {
        self.own[id.index()]
    }

    /// What was seen over the whole tree.
    #[must_use]
    pub fn total(&self) -> Weights {
        let mut total = Weights::default();
        for own in &self.own {
            total += own.on(self.clock);
        }
        total
    }

    /// Per node: what was seen with it anywhere on the stack.
    #[must_use]
    pub fn totals(&self) -> Vec<Weights> {
        let own = self.own.iter().map(|own| own.on(self.clock)).collect();
        subtree_totals(own, |index| match self.parents[index] {
            NO_PARENT => None,
            parent => Some(parent as usize),
        })
    }

    /// Adds a node whose references the caller has checked.
    pub(crate) fn push(&mut self, node: Node, own: Seen) -> NodeId {
        let id = NodeId::from_index(self.len());
        let (subject, line) = match node.frame {
            Frame::Thread(thread) => (thread.0, 0),
            Frame::Call { function, line } => (function.0, line),
        };
        self.parents.push(node.parent.map_or(NO_PARENT, |p| p.0));
        self.subjects.push(subject);
        self.lines.push(line);
        self.own.push(own);
        id
    }

    /// Makes all weights those of another clock.
    pub(crate) fn choose(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Adds to what was seen at a node that the caller has checked.
    pub(crate) fn observe(&mut self, id: NodeId, seen: Seen) {
        self.own[id.index()] += seen;
    }

    /// Makes it as if nothing had been seen at any node.
    pub(crate) fn forget_time(&mut self) {
        self.own.fill(Seen::default());
    }
}

/// Sums each node's weights over its subtree; parents come before their children.
pub(crate) fn subtree_totals(
    own: Vec<Weights>,
    parent: impl Fn(usize) -> Option<usize>,
) -> Vec<Weights> {
    let mut totals = own;
    for index in (0..totals.len()).rev() {
        if let Some(parent) = parent(index) {
            let total = totals[index];
            totals[parent] += total;
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clocks;

    #[test]
    fn totals_of_a_deep_chain() {
        let mut tree = CallTree::default();
        let one = Seen {
            nanoseconds: Clocks::of_wall(1),
            samples: Clocks::of_wall(1),
        };
        let mut parent = tree.push(
            Node {
                parent: None,
                frame: Frame::Thread(ThreadId(0)),
            },
            one,
        );
        for line in 1..1_000_000 {
            parent = tree.push(
                Node {
                    parent: Some(parent),
                    frame: Frame::Call {
                        function: FunctionId(0),
                        line,
                    },
                },
                one,
            );
        }
        let totals = tree.totals();
        assert_eq!(totals[0].samples, 1_000_000);
        assert_eq!(totals[999_999].samples, 1);
        assert_eq!(tree.total(), totals[0]);
        assert_eq!(
            tree.node(NodeId(999_999)).frame,
            Frame::Call {
                function: FunctionId(0),
                line: 999_999
            }
        );
    }
}
