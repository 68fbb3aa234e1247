//! Derives the stats table from the call tree.
//!
//! Everything counts once a stack, however deep the recursion: a function's cumulative time is
//! taken at its outermost frame, an edge's at its outermost occurrence. Which frame is outermost
//! is known while walking down, by counting how often each row and each edge is on the way.
//!
//! What is counted decides what a node adds to the counts: samples are frames of every stack that passes through
//! it, calls are its own. Calls are nested by function and not by row, since that is how cProfile nests
//! them: a function is not recursive for calling another one of the same name and line.

mod roots;

use std::collections::HashMap;

use crate::grouped_tree::Children;
use crate::stats_table::Keys;
use crate::{
    Caller, Counted, Frame, Function, GroupedTree, Profile, Row, StatsTable, Weights, escape,
};
use roots::Roots;

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
    /// stack; its callers likewise. It knows no rows for threads, and it means nothing where calls are counted.
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
    /// Frames over all samples, or calls.
    all: u64,
    /// Samples, or the calls that no recursion made.
    primitive: u64,
    /// On the stack, once a stack.
    on_stack: Weights,
    /// On top of the stack.
    on_top: Weights,
}

/// What a node adds to a tally.
#[derive(Debug, Clone, Copy)]
struct Share {
    counted: Counted,
    on_top: Weights,
    on_stack: Weights,
}

impl Tally {
    /// Adds a node. `outermost`: it is the first of its kind on its stacks; `primitive`: the first of its
    /// function, or of that function called by the same one.
    fn add(&mut self, share: Share, outermost: bool, primitive: bool) {
        let (calls, is_counted) = match share.counted {
            Counted::Samples => (share.on_stack.samples, outermost),
            Counted::Calls => (share.on_top.samples, primitive),
        };
        self.all = self.all.saturating_add(calls);
        if is_counted {
            self.primitive = self.primitive.saturating_add(calls);
        }
        self.on_top += share.on_top;
        if outermost {
            self.on_stack += share.on_stack;
        }
    }

    /// `(cc, nc)`.
    fn counts(&self, shape: &Shape) -> (u64, u64) {
        if shape.on_top_counts {
            (self.on_top.samples, self.on_stack.samples)
        } else {
            // Time without a sample still counts as a call, and so does a function that was running before the tracer
            // came: readers divide by the number of calls.
            (self.primitive.max(1), self.all.max(1))
        }
    }
}

fn seconds(weights: Weights) -> f64 {
    weights.nanoseconds as f64 / 1e9
}

fn derive(profile: &Profile, shape: &Shape) -> StatsTable {
    let mut keys = Keys::default();
    let shadow = Shadow::new(profile, shape, &mut keys);
    let roots = Roots::find(&shadow);
    let names = profile.thread_names();
    let mut walk = Walk::new(&shadow, profile.recording().counted);
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

/// The call tree, grouped by thread and subject (a function, or one of its executing lines), with what is asked of
/// it again and again. A thread's key is its position, a subject's its position after all threads.
struct Shadow {
    tree: GroupedTree,
    children: Children,
    totals: Vec<Weights>,
    threads: usize,
    /// Per subject: its row. Rows of threads come after them.
    row_of: Vec<u32>,
    rows: usize,
}

impl Shadow {
    fn new(profile: &Profile, shape: &Shape, keys: &mut Keys) -> Self {
        let threads = profile.threads().len();
        let mut subjects: HashMap<Frame, u32> = HashMap::new();
        let mut row_of = Vec::new();
        let tree = GroupedTree::new(profile.tree(), |frame| match frame {
            Frame::Thread(thread) => Some(thread.0),
            Frame::Call { function, line } => {
                let line = if shape.by_line { line } else { 0 };
                let subject = *subjects
                    .entry(Frame::Call { function, line })
                    .or_insert_with(|| {
                        let function = &profile.functions()[function.index()];
                        row_of.push(function_row(keys, function, shape.by_line.then_some(line)));
                        row_of.len() as u32 - 1
                    });
                Some(threads as u32 + subject)
            }
        });
        Self {
            threads,
            rows: keys.len(),
            row_of,
            children: tree.children(),
            totals: tree.totals(),
            tree,
        }
    }

    /// The subject of a node that is not a thread.
    fn subject(&self, node: usize) -> u32 {
        self.tree.key(node) - self.threads as u32
    }

    /// The row of a node that is not a thread.
    fn row(&self, node: usize) -> u32 {
        self.row_of[self.subject(node) as usize]
    }

    /// The children of a node that were seen at all.
    fn seen_below(&self, node: usize) -> impl Iterator<Item = usize> {
        let children = self.children.of(node).iter().map(|&child| child as usize);
        children.filter(|&child| !self.totals[child].is_zero())
    }
}

/// Who calls: a row, and the subject for which it stands here. For a thread both come after all others.
#[derive(Debug, Clone, Copy)]
struct Above {
    row: u32,
    subject: u32,
}

/// How often each of some things is on the way from the bottom to where the walk is.
#[derive(Debug, Default)]
struct OnTheWay(Vec<u32>);

impl OnTheWay {
    /// Whether it was not on the way yet.
    fn enter(&mut self, index: u32) -> bool {
        let count = &mut self.0[index as usize];
        *count += 1;
        *count == 1
    }

    fn leave(&mut self, index: u32) {
        self.0[index as usize] -= 1;
    }
}

/// Gives out positions to edges.
#[derive(Debug, Default)]
struct Edges {
    positions: HashMap<(u32, u32), u32>,
    on_the_way: OnTheWay,
}

impl Edges {
    /// The position of an edge, and whether it was not on the way yet.
    fn enter(&mut self, caller: u32, callee: u32) -> (u32, bool) {
        let next = self.on_the_way.0.len() as u32;
        let edge = *self.positions.entry((caller, callee)).or_insert(next);
        if edge == next {
            self.on_the_way.0.push(0);
        }
        (edge, self.on_the_way.enter(edge))
    }
}

/// The walk over all stacks, and what it has added up.
struct Walk<'a> {
    shadow: &'a Shadow,
    counted: Counted,
    rows: Vec<Tally>,
    rows_on_the_way: OnTheWay,
    subjects_on_the_way: OnTheWay,
    /// From a caller's row to a callee's.
    edges: Edges,
    edge_tallies: Vec<Tally>,
    /// From a caller's subject to a callee's.
    calls: Edges,
}

/// What the walk does next.
enum Step {
    Enter { node: usize, caller: Option<Above> },
    Leave(Entered),
}

/// What is on the way since a node was entered.
struct Entered {
    row: u32,
    subject: u32,
    /// The edge between rows, and that between subjects.
    edges: Option<(u32, u32)>,
}

impl<'a> Walk<'a> {
    fn new(shadow: &'a Shadow, counted: Counted) -> Self {
        Self {
            shadow,
            counted,
            rows: vec![Tally::default(); shadow.rows],
            rows_on_the_way: OnTheWay(vec![0; shadow.rows]),
            subjects_on_the_way: OnTheWay(vec![0; shadow.row_of.len()]),
            edges: Edges::default(),
            edge_tallies: Vec::new(),
            calls: Edges::default(),
        }
    }

    /// Walks a thread that has a row of its own, the next after all rows so far.
    fn thread_as_row(&mut self, thread: usize, row: u32) {
        debug_assert_eq!(row as usize, self.rows.len());
        let mut tally = Tally::default();
        tally.add(self.share(thread), true, true);
        self.rows.push(tally);
        let subject = self.shadow.row_of.len() + thread;
        let above = Above {
            row,
            subject: subject as u32,
        };
        for bottom in self.shadow.seen_below(thread) {
            self.stacks(bottom, Some(above));
        }
    }

    /// Walks all stacks from a bottom function up.
    fn stacks(&mut self, bottom: usize, caller: Option<Above>) {
        let mut steps = vec![Step::Enter {
            node: bottom,
            caller,
        }];
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter { node, caller } => {
                    let entered = self.enter(node, caller);
                    let caller = Some(Above {
                        row: entered.row,
                        subject: entered.subject,
                    });
                    steps.push(Step::Leave(entered));
                    let below = self.shadow.seen_below(node);
                    steps.extend(below.map(|node| Step::Enter { node, caller }));
                }
                Step::Leave(entered) => self.leave(&entered),
            }
        }
    }

    /// Adds a node to its row and to the edge from its caller.
    fn enter(&mut self, node: usize, caller: Option<Above>) -> Entered {
        let (row, subject) = (self.shadow.row(node), self.shadow.subject(node));
        let share = self.share(node);
        let outermost = self.rows_on_the_way.enter(row);
        let primitive = self.subjects_on_the_way.enter(subject);
        self.rows[row as usize].add(share, outermost, primitive);

        let edges = caller.map(|caller| {
            let (edge, outermost) = self.edges.enter(caller.row, row);
            let (call, primitive) = self.calls.enter(caller.subject, subject);
            if edge as usize == self.edge_tallies.len() {
                self.edge_tallies.push(Tally::default());
            }
            self.edge_tallies[edge as usize].add(share, outermost, primitive);
            (edge, call)
        });
        Entered {
            row,
            subject,
            edges,
        }
    }

    fn leave(&mut self, entered: &Entered) {
        self.rows_on_the_way.leave(entered.row);
        self.subjects_on_the_way.leave(entered.subject);
        if let Some((edge, call)) = entered.edges {
            self.edges.on_the_way.leave(edge);
            self.calls.on_the_way.leave(call);
        }
    }

    fn share(&self, node: usize) -> Share {
        Share {
            counted: self.counted,
            on_top: self.shadow.tree.own(node),
            on_stack: self.shadow.totals[node],
        }
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
        for (&(caller, callee), &edge) in &self.edges.positions {
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
