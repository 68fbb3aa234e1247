//! Derives the stats table from the call tree.
//!
//! Everything counts once a stack, however deep the recursion: a function's cumulative time is
//! taken at its outermost frame, an edge's at its outermost occurrence. Which frame is outermost
//! is known while walking down, by counting how often each row and each edge is on the way.

use std::collections::HashMap;

use crate::grouped_tree::Children;
use crate::stats_table::Keys;
use crate::{Caller, Frame, Function, GroupedTree, Profile, Row, StatsTable, Weights, escape};

/// The file of what has no source, as cProfile writes it.
const NO_FILE: &str = "~";

impl StatsTable {
    /// The table as cProfile's readers take it: a row a function, and for every thread a row without
    /// callers whose cumulative time is the thread's. Where the thread's own functions give no
    /// such row, `('~', 0, '<thread NAME>')` does.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        derive(profile, &Shape::CALLS)
    }

    /// The same rows without those that stand for threads, but for a thread that was seen with no
    /// function at all.
    #[must_use]
    pub fn of_functions(profile: &Profile) -> Self {
        derive(
            profile,
            &Shape {
                thread_rows: ThreadRows::WhereTimeWouldBeLost,
                ..Shape::CALLS
            },
        )
    }

    /// The table as the sampler of CPython 3.15 counts (`profiling/sampling/pstats_collector.py`): a
    /// row per executing line under the qualified name, `cc` samples on top, `nc` samples on the
    /// stack; its callers likewise. It knows no rows for threads.
    #[must_use]
    pub fn sampled(profile: &Profile) -> Self {
        derive(
            profile,
            &Shape {
                by_line: true,
                on_top_counts: true,
                thread_rows: ThreadRows::WhereTimeWouldBeLost,
            },
        )
    }
}

/// What a table is to look like.
struct Shape {
    /// A row per executing line and qualified name, not per function.
    by_line: bool,
    /// Counts are samples on top and samples on the stack, not primitive calls and calls.
    on_top_counts: bool,
    thread_rows: ThreadRows,
}

impl Shape {
    const CALLS: Shape = Shape {
        by_line: false,
        on_top_counts: false,
        thread_rows: ThreadRows::WhereNoFunctionIsRoot,
    };
}

/// Which threads get a row of their own.
enum ThreadRows {
    WhereNoFunctionIsRoot,
    WhereTimeWouldBeLost,
}

/// What was seen of a row, or of an edge between two.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    /// Frames over all samples.
    frames: u64,
    /// On the stack, once a stack.
    on_stack: Weights,
    /// On top of the stack.
    on_top: Weights,
}

impl Tally {
    /// Adds a frame: what was seen with it on top and on the stack, and whether it is the first of
    /// its kind on its stacks.
    fn add(&mut self, on_top: Weights, on_stack: Weights, outermost: bool) {
        self.frames = self.frames.saturating_add(on_stack.samples);
        self.on_top += on_top;
        if outermost {
            self.on_stack += on_stack;
        }
    }

    /// `(cc, nc)`.
    fn counts(&self, shape: &Shape) -> (u64, u64) {
        if shape.on_top_counts {
            (self.on_top.samples, self.on_stack.samples)
        } else {
            // Time without a sample still counts as a call: readers divide by the number of calls.
            (self.on_stack.samples.max(1), self.frames.max(1))
        }
    }
}

fn seconds(weights: Weights) -> f64 {
    weights.nanoseconds as f64 / 1e9
}

fn derive(profile: &Profile, shape: &Shape) -> StatsTable {
    let mut keys = Keys::default();
    let tree = group(profile, shape, &mut keys);
    let shadow = Shadow {
        threads: profile.threads().len(),
        rows: keys.len(),
        children: tree.children(),
        totals: tree.totals(),
        tree,
    };
    let roots = Roots::find(&shadow);
    let names = profile.thread_names();
    let mut walk = Walk::new(&shadow);
    for thread in shadow.seen_below(0) {
        let wanted = match shape.thread_rows {
            ThreadRows::WhereNoFunctionIsRoot => !roots.has_one(&shadow, thread),
            ThreadRows::WhereTimeWouldBeLost => !shadow.tree.own(thread).is_zero(),
        };
        if wanted {
            let name = &names[shadow.tree.key(thread) as usize];
            walk.thread_as_row(thread, thread_row(&mut keys, name));
        } else {
            for bottom in shadow.seen_below(thread) {
                walk.stacks(bottom, None);
            }
        }
    }
    walk.into_table(&keys, shape)
}

/// Groups the call tree by thread and row. A thread's key is its position, a row's key is its
/// position after all threads.
fn group(profile: &Profile, shape: &Shape, keys: &mut Keys) -> GroupedTree {
    let threads = profile.threads().len() as u32;
    let mut rows: HashMap<Frame, u32> = HashMap::new();
    GroupedTree::new(profile.tree(), |frame| match frame {
        Frame::Thread(thread) => Some(thread.0),
        Frame::Call { function, line } => {
            let line = if shape.by_line { line } else { 0 };
            let row = *rows
                .entry(Frame::Call { function, line })
                .or_insert_with(|| {
                    let function = &profile.functions()[function.index()];
                    function_row(keys, function, shape.by_line.then_some(line))
                });
            Some(threads + row)
        }
    })
}

/// The row of a function, or of one of its executing lines.
fn function_row(keys: &mut Keys, function: &Function, executing: Option<u32>) -> u32 {
    let (line, name) = match executing {
        None => (function.first_line, &function.name),
        Some(line) if function.qualified_name.is_empty() => (line, &function.name),
        Some(line) => (line, &function.qualified_name),
    };
    keys.position(&escape(&function.file), line, &escape(name))
}

/// The row that stands for a thread: a new one, even where a function has taken its name.
fn thread_row(keys: &mut Keys, name: &str) -> u32 {
    let mut label = format!("<thread {name}>");
    while keys.knows(NO_FILE, 0, &label) {
        label.push('\'');
    }
    keys.position(NO_FILE, 0, &label)
}

/// The grouped tree with what is asked of it again and again.
struct Shadow {
    tree: GroupedTree,
    children: Children,
    totals: Vec<Weights>,
    threads: usize,
    /// Rows of functions; those of threads come after them.
    rows: usize,
}

impl Shadow {
    /// The row of a node that is not a thread.
    fn row(&self, node: usize) -> u32 {
        self.tree.key(node) - self.threads as u32
    }

    /// The children of a node that were seen at all.
    fn seen_below(&self, node: usize) -> impl Iterator<Item = usize> {
        let children = self.children.of(node).iter().map(|&child| child as usize);
        children.filter(|&child| !self.totals[child].is_zero())
    }
}

/// What decides whether a thread's own functions give it a root: a row that no other row calls and
/// no other thread starts with.
struct Roots {
    is_called: Vec<bool>,
    /// In how many threads a row is at the bottom.
    threads: Vec<u32>,
}

impl Roots {
    fn find(shadow: &Shadow) -> Self {
        let mut roots = Self {
            is_called: vec![false; shadow.rows],
            threads: vec![0; shadow.rows],
        };
        for node in 1..shadow.tree.node_count() {
            let Some(parent) = shadow.tree.parent(node).filter(|&parent| parent != 0) else {
                continue;
            };
            if shadow.totals[node].is_zero() {
                continue;
            }
            let row = shadow.row(node) as usize;
            match shadow.tree.parent(parent) {
                Some(0) => roots.threads[row] += 1,
                _ => roots.is_called[row] = true,
            }
        }
        roots
    }

    fn has_one(&self, shadow: &Shadow, thread: usize) -> bool {
        let mut bottoms = shadow.seen_below(thread);
        let (Some(bottom), None) = (bottoms.next(), bottoms.next()) else {
            return false;
        };
        let row = shadow.row(bottom) as usize;
        // Without any edge in the file there is no root for snakeviz and tuna to find.
        let any_edge = self.is_called.contains(&true);
        shadow.tree.own(thread).is_zero()
            && !self.is_called[row]
            && self.threads[row] == 1
            && any_edge
    }
}

/// The walk over all stacks, and what it has added up.
struct Walk<'a> {
    shadow: &'a Shadow,
    rows: Vec<Tally>,
    /// How often each row is on the way from the bottom to where the walk is.
    rows_on_stack: Vec<u32>,
    /// Position of the edge from a caller's row to a callee's.
    edges: HashMap<(u32, u32), u32>,
    edge_tallies: Vec<Tally>,
    edges_on_stack: Vec<u32>,
}

/// What the walk does next.
enum Step {
    Enter { node: usize, caller: Option<u32> },
    Leave { row: u32, edge: Option<u32> },
}

impl<'a> Walk<'a> {
    fn new(shadow: &'a Shadow) -> Self {
        Self {
            shadow,
            rows: vec![Tally::default(); shadow.rows],
            rows_on_stack: vec![0; shadow.rows],
            edges: HashMap::new(),
            edge_tallies: Vec::new(),
            edges_on_stack: Vec::new(),
        }
    }

    /// Walks a thread that has a row of its own, the next after all rows so far.
    fn thread_as_row(&mut self, thread: usize, row: u32) {
        debug_assert_eq!(row as usize, self.rows.len());
        let mut tally = Tally::default();
        let (own, total) = (self.shadow.tree.own(thread), self.shadow.totals[thread]);
        tally.add(own, total, true);
        self.rows.push(tally);
        for bottom in self.shadow.seen_below(thread) {
            self.stacks(bottom, Some(row));
        }
    }

    /// Walks all stacks from a bottom function up.
    fn stacks(&mut self, bottom: usize, caller: Option<u32>) {
        let mut steps = vec![Step::Enter {
            node: bottom,
            caller,
        }];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter { node, caller } => {
                    let row = self.shadow.row(node);
                    let edge = self.enter(node, row, caller);
                    steps.push(Step::Leave { row, edge });
                    steps.extend(self.shadow.seen_below(node).map(|node| Step::Enter {
                        node,
                        caller: Some(row),
                    }));
                }
                Step::Leave { row, edge } => {
                    self.rows_on_stack[row as usize] -= 1;
                    if let Some(edge) = edge {
                        self.edges_on_stack[edge as usize] -= 1;
                    }
                }
            }
        }
    }

    /// Adds a node to its row and to the edge from its caller, and returns that edge.
    fn enter(&mut self, node: usize, row: u32, caller: Option<u32>) -> Option<u32> {
        let (own, total) = (self.shadow.tree.own(node), self.shadow.totals[node]);
        let on_stack = &mut self.rows_on_stack[row as usize];
        self.rows[row as usize].add(own, total, *on_stack == 0);
        *on_stack += 1;

        let caller = caller?;
        let edge = *self.edges.entry((caller, row)).or_insert_with(|| {
            self.edge_tallies.push(Tally::default());
            self.edges_on_stack.push(0);
            self.edge_tallies.len() as u32 - 1
        });
        let on_stack = &mut self.edges_on_stack[edge as usize];
        self.edge_tallies[edge as usize].add(own, total, *on_stack == 0);
        *on_stack += 1;
        Some(edge)
    }

    /// The table, in the order of its keys.
    fn into_table(self, keys: &Keys, shape: &Shape) -> StatsTable {
        let seen = |row: &usize| !self.rows[*row].on_stack.is_zero();
        let mut order: Vec<usize> = (0..self.rows.len()).filter(seen).collect();
        order.sort_by(|&a, &b| keys.key(a).cmp(keys.key(b)));
        let mut place = vec![0; self.rows.len()];
        for (index, &row) in order.iter().enumerate() {
            place[row] = index;
        }
        let mut rows: Vec<Row> = order
            .iter()
            .map(|&row| {
                let tally = &self.rows[row];
                let (cc, nc) = tally.counts(shape);
                Row {
                    key: keys.key(row).clone(),
                    cc,
                    nc,
                    tt: seconds(tally.on_top),
                    ct: seconds(tally.on_stack),
                    callers: Vec::new(),
                }
            })
            .collect();
        for (&(caller, callee), &edge) in &self.edges {
            let tally = &self.edge_tallies[edge as usize];
            let (cc, nc) = tally.counts(shape);
            rows[place[callee as usize]].callers.push(Caller {
                row: place[caller as usize],
                nc,
                cc,
                tt: seconds(tally.on_top),
                ct: seconds(tally.on_stack),
            });
        }
        for row in &mut rows {
            row.callers.sort_by_key(|caller| caller.row);
        }
        StatsTable::from_checked_rows(rows)
    }
}
