//! What a live view asks of a call tree that grows: whose node it is, where it counts, what hangs below it.
//!
//! All of it follows from the shape of the tree, which only ever grows. So it is worked out when there are
//! new nodes, and a look at other weights (of now, of one thread) is a pass over columns.

use crate::{CallTree, Frame, NodeId, ThreadId};

/// How much time a function took, in the unit of the weights that were asked about.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FunctionTime {
    /// In the function itself.
    pub own: f64,
    /// In the function and whatever it calls, each moment once however deep the recursion.
    pub cumulative: f64,
}

/// An index over a call tree. Nodes are given by their position.
#[derive(Debug, Clone, Default)]
pub struct TreeIndex {
    /// Per node: the thread at its foot.
    threads: Vec<ThreadId>,
    /// Per node: the function, `None` for the foot of a thread.
    functions: Vec<Option<u32>>,
    /// Per node: the parent; the node itself where there is none.
    parents: Vec<u32>,
    /// Per node: whether no node above stands for the same function.
    outermost: Vec<bool>,
    /// Where each node's children start in `children`; the next entry is where they end.
    starts: Vec<u32>,
    children: Vec<u32>,
}

impl TreeIndex {
    /// Takes in what is new in `tree`, which is the same one each time. Linear in the tree where it has grown, else
    /// free.
    pub fn update(&mut self, tree: &CallTree) {
        let known = self.parents.len();
        if tree.len() == known {
            return;
        }
        for id in tree.ids().skip(known) {
            let node = tree.node(id);
            let parent = node.parent.unwrap_or(id);
            let (thread, function) = match node.frame {
                Frame::Thread(thread) => (thread, None),
                Frame::Call { function, .. } => (self.threads[parent.index()], Some(function.0)),
            };
            self.threads.push(thread);
            self.functions.push(function);
            self.parents.push(parent.0);
        }
        self.link();
        self.find_outermost();
    }

    /// Number of nodes that it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// The thread at the foot of a node.
    ///
    /// # Panics
    ///
    /// When the node is not known; so do all below.
    #[must_use]
    pub fn thread(&self, node: usize) -> ThreadId {
        self.threads[node]
    }

    /// The position of the function that a node stands for; `None` for the foot of a thread.
    #[must_use]
    pub fn function(&self, node: usize) -> Option<usize> {
        self.functions[node].map(|function| function as usize)
    }

    /// The node above; `None` for the foot of a thread.
    #[must_use]
    pub fn parent(&self, node: usize) -> Option<usize> {
        let parent = self.parents[node] as usize;
        (parent != node).then_some(parent)
    }

    /// Whether no node above stands for the same function: there its cumulative time is taken.
    #[must_use]
    pub fn is_outermost(&self, node: usize) -> bool {
        self.outermost[node]
    }

    /// The nodes right below a node.
    #[must_use]
    pub fn children(&self, node: usize) -> &[u32] {
        &self.children[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// Per node: the sum of `own` over everything from it upwards on the stack, of the threads that `keep` chooses. Nodes
    /// that `own` does not reach weigh nothing.
    #[must_use]
    pub fn totals(&self, own: &[f64], keep: impl Fn(ThreadId) -> bool) -> Vec<f64> {
        let mut totals: Vec<f64> = (0..self.len())
            .map(|node| match own.get(node) {
                Some(&own) if keep(self.threads[node]) => own,
                _ => 0.0,
            })
            .collect();
        // A parent comes before its children.
        for node in (0..totals.len()).rev() {
            let parent = self.parents[node] as usize;
            if parent != node {
                totals[parent] += totals[node];
            }
        }
        totals
    }

    /// Per function, of `functions` functions: its time by the weights `own` of the nodes, of the threads that `keep`
    /// chooses.
    #[must_use]
    pub fn functions(
        &self,
        functions: usize,
        own: &[f64],
        keep: impl Fn(ThreadId) -> bool,
    ) -> Vec<FunctionTime> {
        let mut times = vec![FunctionTime::default(); functions];
        let totals = self.totals(own, &keep);
        for (node, total) in totals.into_iter().enumerate() {
            let Some(time) = self.function(node).and_then(|f| times.get_mut(f)) else {
                continue;
            };
            if let Some(&own) = own.get(node)
                && keep(self.threads[node])
            {
                time.own += own;
            }
            if self.outermost[node] {
                time.cumulative += total;
            }
        }
        times
    }

    fn link(&mut self) {
        let count = self.len();
        let mut starts = vec![0_u32; count + 1];
        let has_parent = |node: usize, parent: u32| parent as usize != node;
        for (node, &parent) in self.parents.iter().enumerate() {
            if has_parent(node, parent) {
                starts[parent as usize + 1] += 1;
            }
        }
        for node in 1..starts.len() {
            starts[node] += starts[node - 1];
        }
        let mut next = starts.clone();
        self.children = vec![0; starts[count] as usize];
        for (node, &parent) in self.parents.iter().enumerate() {
            if has_parent(node, parent) {
                let slot = &mut next[parent as usize];
                self.children[*slot as usize] = NodeId::from_index(node).0;
                *slot += 1;
            }
        }
        self.starts = starts;
    }

    /// Walks down from every foot, counting how often each function is on the way.
    fn find_outermost(&mut self) {
        enum Step {
            Down(usize),
            Up(usize),
        }
        let functions = self.functions.iter().flatten().max();
        let mut on_the_way = vec![0_u32; functions.map_or(0, |&last| last as usize + 1)];
        let mut outermost = vec![false; self.len()];
        let feet = (0..self.len()).filter(|&node| self.parents[node] as usize == node);
        let mut steps: Vec<Step> = feet.map(Step::Down).collect();
        while let Some(step) = steps.pop() {
            match step {
                Step::Down(node) => {
                    if let Some(function) = self.functions[node] {
                        let count = &mut on_the_way[function as usize];
                        outermost[node] = *count == 0;
                        *count += 1;
                        steps.push(Step::Up(node));
                    }
                    let children = self.children(node);
                    steps.extend(children.iter().map(|&child| Step::Down(child as usize)));
                }
                Step::Up(node) => {
                    if let Some(function) = self.functions[node] {
                        on_the_way[function as usize] -= 1;
                    }
                }
            }
        }
        self.outermost = outermost;
    }
}
