//! The table of a traced profile against `_lsprof`: the same events, counted as `Modules/_lsprof.c` counts them.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use pystrobe_profile::{
    Batch, Builder, Clocks, Counted, Frame, FunctionId, Node, NodeId, Observation, Profile,
    Recording, StatsTable, ThreadId,
};

use crate::recorder::{process, recording, thread};
use crate::stats::functions;

type Key = (String, u32, String);

/// Something that happens in a thread, so many nanoseconds after what happened there before.
#[derive(Debug, Clone, Copy)]
struct Event {
    thread: usize,
    after: u64,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Call(usize),
    Return,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let what = prop_oneof![
        3 => (0..6_usize).prop_map(What::Call),
        2 => Just(What::Return),
    ];
    let event = (0..2_usize, 0..1_000_u64, what);
    prop::collection::vec(
        event.prop_map(|(thread, after, what)| Event {
            thread,
            after,
            what,
        }),
        1..60,
    )
}

/// `ProfilerEntry`, and `ProfilerSubEntry` alike.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    callcount: u64,
    recursivecallcount: u64,
    inline_time: u64,
    total_time: u64,
    recursion_level: u64,
}

impl Entry {
    fn start(&mut self) {
        self.recursion_level += 1;
    }

    fn stop(&mut self, total: u64, inline: u64) {
        self.recursion_level -= 1;
        if self.recursion_level == 0 {
            self.total_time += total;
        } else {
            self.recursivecallcount += 1;
        }
        self.inline_time += inline;
        self.callcount += 1;
    }
}

/// `ProfilerContext`.
#[derive(Debug)]
struct Context<E> {
    entry: E,
    started: u64,
    in_callees: u64,
}

/// What `_lsprof` knows of one thread, where `E` tells functions apart.
#[derive(Debug)]
struct Profiler<E> {
    now: u64,
    contexts: Vec<Context<E>>,
    entries: BTreeMap<E, Entry>,
    /// By caller and callee.
    subentries: BTreeMap<(E, E), Entry>,
}

impl<E: Ord + Clone> Profiler<E> {
    fn new() -> Self {
        Self {
            now: 0,
            contexts: Vec::new(),
            entries: BTreeMap::new(),
            subentries: BTreeMap::new(),
        }
    }

    /// `initContext`.
    fn call(&mut self, entry: E) {
        self.entries.entry(entry.clone()).or_default().start();
        if let Some(caller) = self.contexts.last() {
            let edge = (caller.entry.clone(), entry.clone());
            self.subentries.entry(edge).or_default().start();
        }
        self.contexts.push(Context {
            entry,
            started: self.now,
            in_callees: 0,
        });
    }

    /// `Stop`.
    fn stop(&mut self) {
        let Some(context) = self.contexts.pop() else {
            return;
        };
        let total = self.now - context.started;
        let inline = total - context.in_callees;
        let entry = self.entries.get_mut(&context.entry).unwrap();
        entry.stop(total, inline);
        if let Some(caller) = self.contexts.last_mut() {
            caller.in_callees += total;
            let edge = (caller.entry.clone(), context.entry);
            self.subentries.get_mut(&edge).unwrap().stop(total, inline);
        }
    }
}

/// Replays the events of one thread.
fn replay<E: Ord + Clone>(
    events: &[Event],
    thread: usize,
    identity: impl Fn(usize) -> E,
) -> Profiler<E> {
    let mut profiler = Profiler::new();
    for event in events.iter().filter(|event| event.thread == thread) {
        profiler.now += event.after;
        match event.what {
            What::Call(function) => profiler.call(identity(function)),
            What::Return => profiler.stop(),
        }
    }
    // `flush_unmatched`, when the profiler is disabled.
    while !profiler.contexts.is_empty() {
        profiler.stop();
    }
    profiler
}

/// The same events as a tracer records them: calls and own time of each node.
fn record(events: &[Event]) -> Profile {
    let mut batch = Batch {
        functions: functions(),
        threads: vec![thread("MainThread", 1), thread("worker", 2)],
        ..Batch::default()
    };
    let mut known: HashMap<Node, NodeId> = HashMap::new();
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for of_thread in 0..2 {
        let mut place = |node: Node, seen: &mut Vec<(u64, u64)>| {
            let next = NodeId::from_index(seen.len());
            let id = *known.entry(node).or_insert(next);
            if id == next {
                batch.nodes.push(node);
                seen.push((0, 0));
            }
            id
        };
        let foot = Node {
            parent: None,
            frame: Frame::Thread(ThreadId::from_index(of_thread)),
        };
        let mut stack = vec![place(foot, &mut seen)];
        for event in events.iter().filter(|event| event.thread == of_thread) {
            let top = *stack.last().unwrap();
            if stack.len() > 1 {
                seen[top.index()].1 += event.after;
            }
            match event.what {
                What::Call(function) => {
                    let frame = Frame::Call {
                        function: FunctionId::from_index(function),
                        line: 0,
                    };
                    let node = Node {
                        parent: Some(top),
                        frame,
                    };
                    let called = place(node, &mut seen);
                    seen[called.index()].0 += 1;
                    stack.push(called);
                }
                What::Return => stack.truncate(stack.len().max(2) - 1),
            }
        }
    }
    let observations = seen.iter().enumerate().map(|(index, &(calls, own))| {
        let node = NodeId::from_index(index);
        Observation {
            node,
            nanoseconds: Clocks::of_wall(own),
            samples: Clocks::of_wall(calls),
        }
    });
    batch.observations = observations.collect();
    let mut builder = Builder::new(vec![process()]);
    builder.apply(&batch).unwrap();
    builder.finish(Recording {
        counted: Counted::Calls,
        ..recording(0)
    })
}

fn key(function: usize) -> Key {
    let function = &functions()[function];
    (
        function.file.clone(),
        function.first_line,
        function.name.clone(),
    )
}

/// `(cc, nc, tt, ct)` in calls and nanoseconds.
type Numbers = (u64, u64, u64, u64);

/// What is expected of rows and edges: counts add up over functions of one key, and so does own time;
/// their common time is what a profiler says that does not tell them apart.
fn expected(events: &[Event]) -> (BTreeMap<Key, Numbers>, BTreeMap<(Key, Key), Numbers>) {
    let mut rows: BTreeMap<Key, Numbers> = BTreeMap::new();
    let mut edges: BTreeMap<(Key, Key), Numbers> = BTreeMap::new();
    fn count(numbers: &mut Numbers, entry: Entry) {
        numbers.0 += entry.callcount - entry.recursivecallcount;
        numbers.1 += entry.callcount;
        numbers.2 += entry.inline_time;
    }
    for thread in 0..2 {
        let by_function = replay(events, thread, |function| function);
        for (function, entry) in by_function.entries {
            count(rows.entry(key(function)).or_default(), entry);
        }
        for ((caller, callee), entry) in by_function.subentries {
            count(edges.entry((key(caller), key(callee))).or_default(), entry);
        }
        let by_key = replay(events, thread, key);
        for (key, entry) in by_key.entries {
            rows.entry(key).or_default().3 += entry.total_time;
        }
        for (edge, entry) in by_key.subentries {
            edges.entry(edge).or_default().3 += entry.total_time;
        }
    }
    (rows, edges)
}

fn numbers(cc: u64, nc: u64, tt: f64, ct: f64) -> Numbers {
    let nanoseconds = |seconds: f64| (seconds * 1e9).round() as u64;
    (cc, nc, nanoseconds(tt), nanoseconds(ct))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_table_is_what_lsprof_counts(events in events()) {
        let profile = record(&events);
        let table = StatsTable::of(&profile);
        let is_thread = |row: usize| table.rows()[row].key.name.starts_with("<thread ");
        let mut rows = BTreeMap::new();
        let mut edges = BTreeMap::new();
        let plain = |row: usize| {
            let key = &table.rows()[row].key;
            (key.file.to_string(), key.line, key.name.to_string())
        };
        for (index, row) in table.rows().iter().enumerate() {
            if is_thread(index) {
                prop_assert_eq!((row.cc, row.nc, row.tt), (1, 1, 0.0));
                prop_assert!(row.callers.is_empty());
                continue;
            }
            rows.insert(plain(index), numbers(row.cc, row.nc, row.tt, row.ct));
            for edge in row.callers.iter().filter(|edge| !is_thread(edge.row)) {
                let place = (plain(edge.row), plain(index));
                edges.insert(place, numbers(edge.cc, edge.nc, edge.tt, edge.ct));
            }
        }
        prop_assert_eq!((rows, edges), expected(&events));

        // Roots hold all of the time.
        let roots = table.rows().iter().filter(|row| row.callers.is_empty());
        let held: f64 = roots.map(|row| row.ct).sum();
        prop_assert!((held - table.total_seconds()).abs() < 1e-9, "{held}");
    }
}

fn call(function: usize) -> Event {
    Event {
        thread: 0,
        after: 1,
        what: What::Call(function),
    }
}

const RETURN: Event = Event {
    thread: 0,
    after: 1,
    what: What::Return,
};

#[test]
fn recursion() {
    // main calls f, which calls itself twice, one below the other.
    let events = [call(0), call(1), call(1), call(1), RETURN, RETURN, RETURN];
    let table = StatsTable::of(&record(&events));
    let f = table.find("a.py", 5, "f").unwrap();
    assert_eq!((f.cc, f.nc), (1, 3));
    let itself = f
        .callers
        .iter()
        .find(|edge| table.rows()[edge.row].key == f.key);
    let itself = itself.unwrap();
    assert_eq!((itself.cc, itself.nc), (1, 2));
}

#[test]
fn functions_of_one_key_do_not_recurse_into_each_other() {
    // The functions 1 and 3 share a key.
    let table = StatsTable::of(&record(&[call(1), call(3), RETURN, RETURN]));
    let f = table.find("a.py", 5, "f").unwrap();
    assert_eq!((f.cc, f.nc), (2, 2));
    assert_eq!(numbers(0, 0, f.tt, f.ct), (0, 0, 3, 3));
}

#[test]
fn calls_without_any_time_are_seen() {
    let instant = |what| Event {
        thread: 0,
        after: 0,
        what,
    };
    let profile = record(&[instant(What::Call(0)), instant(What::Call(1))]);
    assert!(!profile.is_empty());
    assert_eq!(StatsTable::of(&profile).rows().len(), 2);
}
