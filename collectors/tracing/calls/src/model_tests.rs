//! The tree against a simple model, through the file: what is written is read, for any order of events.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use crate::format::Parts;
use crate::{
    Calls, FormatError, Function, FunctionId, Kind, Options, Recording, ThreadTree, read,
    read_until, ticks, unix_ns,
};

/// A file and a recording in it that has begun.
fn begun(options: &Options) -> (File, Arc<Recording>) {
    let file = tempfile::tempfile().unwrap();
    options.write_to(&file).unwrap();
    let recording = Arc::new(Recording::of(&file).unwrap());
    recording.begin("3.12.1", 7, "python -c pass");
    (file, recording)
}

/// As a user would have them; under Miri with less memory, which is slow there.
fn usual() -> Options {
    Options {
        node_limit: if cfg!(miri) {
            2048
        } else {
            Options::NODE_LIMIT
        },
        ..Options::default()
    }
}

fn look(file: &File, recording: &Recording) -> Calls {
    // Under Miri the memory is not the file.
    #[cfg(miri)]
    recording.map.write_to(file).unwrap();
    let _ = recording;
    read(file).unwrap()
}

fn function(name: &str, kind: Kind) -> Function {
    Function {
        file: "shop/cart.py".into(),
        name: name.into(),
        qualified_name: format!("Cart.{name}"),
        first_line: 3,
        kind,
    }
}

/// Functions `0..count` of a recording, each known by its key, its number and 100.
fn functions(recording: &Recording, count: usize) -> Vec<FunctionId> {
    (0..count)
        .map(|n| {
            recording
                .add_function(&function(&n.to_string(), Kind::Python))
                .unwrap()
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Enter(u32),
    EnterKnown(u32),
    Leave,
    /// A return of the function with this number, wherever it is.
    LeaveOf(u32),
    LeaveAll,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..6u32).prop_map(Event::Enter),
        3 => (0..6u32).prop_map(Event::EnterKnown),
        8 => Just(Event::Leave),
        1 => (0..6u32).prop_map(Event::LeaveOf),
        1 => Just(Event::LeaveAll),
    ];
    prop::collection::vec(event, 0..if cfg!(miri) { 30 } else { 400 })
}

/// Calls and own ticks by path. The tick is the number of the event.
#[derive(Default)]
struct Model {
    path: Vec<u32>,
    nodes: BTreeMap<Vec<u32>, (u64, u64)>,
    last: u64,
}

impl Model {
    fn apply(&mut self, event: Event, now: u64) {
        if !self.path.is_empty() {
            self.nodes.get_mut(&self.path).unwrap().1 += now - self.last;
        }
        self.last = now;
        match event {
            Event::Enter(f) | Event::EnterKnown(f) => {
                self.path.push(f);
                self.nodes.entry(self.path.clone()).or_default().0 += 1;
            }
            Event::Leave => {
                self.path.pop();
            }
            Event::LeaveOf(f) => {
                if let Some(at) = self.path.iter().rposition(|&g| g == f) {
                    self.path.truncate(at);
                }
            }
            Event::LeaveAll => self.path.clear(),
        }
    }
}

/// Calls by path, as they were read.
fn paths(calls: &Calls) -> BTreeMap<Vec<u32>, (u64, u64)> {
    let mut paths: Vec<Vec<u32>> = Vec::new();
    let mut result = BTreeMap::new();
    for node in &calls.nodes {
        let mut path = node
            .parent
            .map_or_else(Vec::new, |parent| paths[parent as usize].clone());
        if let Some(function) = node.function {
            path.push(function);
            result.insert(path.clone(), (node.calls, node.own_ns));
        }
        paths.push(path);
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_the_model(events in events()) {
        let (file, recording) = begun(&Options { node_limit: if cfg!(miri) { 1024 } else { 4096 }, ..Options::default() });
        let ids = functions(&recording, 6);
        // Far from now: what it takes to make a node is not charged, and is not part of this.
        let start = ticks() + 1_000_000_000_000;
        let mut tree = ThreadTree::new(&recording, 1, 2, 0, start).unwrap();
        let mut model = Model { last: start, ..Model::default() };
        // Ticks that are long beside the rounding to nanoseconds.
        for (n, &event) in events.iter().enumerate() {
            let now = start + (n as u64 + 1) * 1_000_000;
            let key = |f: u32| f as usize + 100;
            match event {
                Event::Enter(f) => tree.enter(ids[f as usize], key(f), now),
                Event::EnterKnown(f) => tree.enter_known(key(f), now, || Some(ids[f as usize])),
                Event::Leave => tree.leave(model.path.last().map_or(1, |&f| key(f)), now),
                Event::LeaveOf(f) => tree.leave(key(f), now),
                Event::LeaveAll => tree.leave_all(now),
            }
            model.apply(event, now);
            prop_assert_eq!(tree.is_at_root(), model.path.is_empty());
        }
        let calls = look(&file, &recording);
        prop_assert_eq!(calls.about.folded, 0);
        let tick_ns = recording.map.header().tick_ns.load(Relaxed) as f64 / 2f64.powi(32);
        let read = paths(&calls);
        prop_assert_eq!(read.keys().collect::<Vec<_>>(), model.nodes.keys().collect::<Vec<_>>());
        for (path, (count, own)) in &model.nodes {
            prop_assert_eq!(read[path].0, *count, "{:?}", path);
            let expected = *own as f64 * tick_ns;
            prop_assert!((read[path].1 as f64 - expected).abs() <= 1.0 + expected * 0.01, "{:?}: {} for {}", path, read[path].1, expected);
        }
        for node in &calls.nodes {
            let index = calls.nodes.iter().position(|other| std::ptr::eq(other, node)).unwrap() as u32;
            let out: u64 = calls.nodes.iter().filter(|child| child.parent == Some(index)).map(|child| child.calls).sum();
            prop_assert_eq!(node.calls_out, out);
        }
    }

    #[test]
    fn any_damage_is_an_error_or_a_tree(damage in prop::collection::vec((0usize..4096, any::<u64>()), 1..6)) {
        let (file, recording) = begun(&Options { node_limit: 1024, ..Options::default() });
        let ids = functions(&recording, 3);
        let mut tree = ThreadTree::new(&recording, 1, 2, 0, ticks()).unwrap();
        for n in 0..9 {
            tree.enter(ids[n % 3], n, ticks());
        }
        look(&file, &recording);
        let parts = Parts { node_capacity: 1024, heap_words: if cfg!(miri) { 1 << 11 } else { 1 << 17 } };
        for (place, word) in damage {
            use std::os::unix::fs::FileExt;
            // Into the head, the first threads, the first nodes and the first functions alike.
            let base = [8, Parts::THREADS, Parts::NODES, parts.heap()][place % 4];
            file.write_all_at(&word.to_ne_bytes(), base + (place as u64 / 4) % 80 * 4).unwrap();
        }
        if let Ok(calls) = read(&file) {
            for (n, node) in calls.nodes.iter().enumerate() {
                prop_assert!(node.parent.is_none_or(|parent| (parent as usize) < n));
                prop_assert!(node.function.is_none_or(|function| (function as usize) < calls.functions.len()));
            }
            for thread in &calls.threads {
                prop_assert!(calls.nodes[thread.root as usize].parent.is_none());
            }
        }
    }
}

#[test]
fn beyond_the_limit_calls_are_folded() {
    let (file, recording) = begun(&Options {
        node_limit: 1024,
        ..Options::default()
    });
    let ids = functions(&recording, 1);
    let mut tree = ThreadTree::new(&recording, 1, 2, 0, ticks()).unwrap();
    // Number 0 is nobody's, number 1 the root: 1022 are left.
    for _ in 0..2000 {
        tree.enter(ids[0], 5, ticks());
    }
    for _ in 0..977 {
        tree.leave(5, ticks());
    }
    tree.enter_known(5, ticks(), || Some(ids[0]));
    for _ in 0..2 {
        tree.leave(5, ticks());
    }
    assert!(!tree.is_at_root());
    for _ in 0..1022 {
        tree.leave(5, ticks());
    }
    assert!(tree.is_at_root());
    let calls = look(&file, &recording);
    assert_eq!((calls.about.folded, calls.nodes.len()), (979, 1023));
    assert_eq!(calls.nodes.last().unwrap().calls_out, 979);
    assert!(calls.nodes[1..].iter().all(|node| node.calls == 1));
}

#[test]
fn a_node_with_many_children() {
    let (file, recording) = begun(&usual());
    let many = if cfg!(miri) { 50 } else { 20_000 };
    let ids = functions(&recording, many);
    let mut tree = ThreadTree::new(&recording, 1, 2, 0, ticks()).unwrap();
    for step in [1, 7, 3] {
        for n in 0..many {
            let n = n * step % many;
            tree.enter(ids[n], n + 1, ticks());
            tree.leave(n + 1, ticks());
        }
    }
    let calls = look(&file, &recording);
    assert_eq!(calls.nodes.len(), many + 1);
    assert!(calls.nodes[1..].iter().map(|node| node.calls).sum::<u64>() == 3 * many as u64);
    assert_eq!(calls.nodes[0].calls_out, 3 * many as u64);
}

#[test]
fn what_was_said_of_functions_and_threads() {
    let (file, recording) = begun(&usual());
    let long = "ä".repeat(4000);
    let said = [
        function("total", Kind::Python),
        Function {
            file: "~".into(),
            name: "<built-in method builtins.len>".into(),
            qualified_name: String::new(),
            first_line: 0,
            kind: Kind::Builtin,
        },
        function(&long, Kind::Python),
    ];
    for function in &said {
        recording.add_function(function).unwrap();
    }
    let mut tree = ThreadTree::new(&recording, 11, 12, 0, ticks()).unwrap();
    tree.set_name("MainThread, a longer name");
    tree.set_name("MainThread");
    recording.set_cost((0, 0), (0, 0));
    let calls = look(&file, &recording);
    assert_eq!(calls.functions[..2], said[..2]);
    assert_eq!(calls.functions[2].name, long[..4096]);
    assert_eq!(calls.about.python, "3.12.1");
    assert_eq!(calls.about.pid, 7);
    let thread = &calls.threads[0];
    assert_eq!(
        (
            thread.native_id,
            thread.ident,
            thread.name.as_str(),
            thread.root
        ),
        (11, 12, "MainThread", 0)
    );
}

#[test]
fn the_running_function_has_run_until_now() {
    let (file, recording) = begun(&usual());
    let ids = functions(&recording, 1);
    let mut tree = ThreadTree::new(&recording, 1, 2, 0, ticks()).unwrap();
    tree.enter(ids[0], 1, ticks());
    let calls = look(&file, &recording);
    assert_eq!(calls.nodes[1].own_ns, 0);
    assert!(!calls.about.ended);
    // How fast this runs does not matter: two moments that both lie ahead.
    let ahead = unix_ns() + 3_600_000_000_000;
    let [sooner, later] =
        [ahead, ahead + 100_000_000_000].map(|moment| read_until(&file, moment).unwrap());
    let more = later.nodes[1].own_ns - sooner.nodes[1].own_ns;
    assert!(more.abs_diff(100_000_000_000) < 1_000_000_000, "{more}");
    assert!(later.about.elapsed_ns >= later.nodes[1].own_ns);
    tree.leave(1, ticks());
    recording.end();
    look(&file, &recording);
    let ended = read_until(&file, ahead).unwrap();
    assert!(
        ended.about.ended && ended.about.elapsed_ns < sooner.about.elapsed_ns / 2,
        "{ended:?}"
    );
}

#[test]
fn what_ran_before_has_no_calls() {
    let (file, recording) = begun(&usual());
    let ids = functions(&recording, 2);
    let mut tree = ThreadTree::new(&recording, 1, 2, 0, ticks()).unwrap();
    tree.resume(ids[0], 1);
    tree.resume(ids[1], 2);
    tree.leave(2, ticks());
    tree.leave(1, ticks());
    assert!(tree.is_at_root());
    let calls = look(&file, &recording);
    assert_eq!(
        calls
            .nodes
            .iter()
            .map(|node| node.calls)
            .collect::<Vec<_>>(),
        [0, 0, 0]
    );
}

#[test]
fn after_the_first_nothing_is_recorded() {
    let (file, recording) = begun(&usual());
    let ids = functions(&recording, 3);
    let mut tree = ThreadTree::new(&recording, 1, 2, 0, ticks()).unwrap();
    tree.end_with_first();
    for n in [0, 1, 2, 0] {
        tree.enter(ids[n], n + 1, ticks());
        tree.enter(ids[1], 2, ticks());
        tree.enter_known(3, ticks(), || Some(ids[2]));
        tree.leave(3, ticks());
        tree.leave(2, ticks());
        tree.leave(n + 1, ticks());
        assert!(tree.is_at_root());
    }
    let calls = look(&file, &recording);
    assert_eq!(calls.about.folded, 0);
    // The same function again is the same again.
    let counts: Vec<u64> = calls.nodes.iter().map(|node| node.calls).collect();
    assert_eq!(counts, [0, 2, 2, 2]);
}

#[test]
fn files_that_hold_no_calls() {
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(read(&file), Err(FormatError::NotARecording)));
    file.set_len(1 << 20).unwrap();
    assert!(matches!(read(&file), Err(FormatError::NotARecording)));
    usual().write_to(&file).unwrap();
    assert!(matches!(read(&file), Err(FormatError::NotStarted)));
    let recording = Recording::of(&file).unwrap();
    recording.refuse("it is a free-threaded build");
    #[cfg(miri)]
    recording.map.write_to(&file).unwrap();
    match read(&file) {
        Err(FormatError::Refused(why)) => assert_eq!(why, "it is a free-threaded build"),
        other => panic!("{other:?}"),
    }
    file.set_len(1 << 20).unwrap();
    assert!(read(&file).is_err());
}

#[test]
fn options_travel() {
    let options = Options {
        builtins: false,
        subprocesses: true,
        node_limit: if cfg!(miri) { 1024 } else { 5000 },
        only: vec![
            crate::Pattern::parse("shop.cart:*").unwrap(),
            crate::Pattern::parse("django/db/**").unwrap(),
        ],
    };
    let file = tempfile::tempfile().unwrap();
    options.write_to(&file).unwrap();
    let recording = Recording::of(&file).unwrap();
    assert_eq!(recording.options(), options);
    recording.begin("3.8.18", 1, "");
    #[cfg(miri)]
    recording.map.write_to(&file).unwrap();
    assert!(matches!(Recording::of(&file), Err(crate::OpenError::Used)));
}
