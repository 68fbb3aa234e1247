//! The stats table against a count sample by sample, and its root rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use pystrobe_profile::{Function, FunctionKey, Profile, StatsTable};

use crate::recorder::{Sample, function, record, thread};

type Key = (String, u32, String);

/// What is expected of a row or an edge, in counts and nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Expected {
    frames: u64,
    stacks: u64,
    top: u64,
    top_samples: u64,
    cumulative: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Reference {
    rows: BTreeMap<Key, Expected>,
    edges: BTreeMap<(Key, Key), Expected>,
}

/// Counts stack by stack, as the definition says it.
fn count(stacks: &[(Vec<Key>, &Sample)]) -> Reference {
    let mut reference = Reference::default();
    for (stack, sample) in stacks {
        let mut rows = BTreeSet::new();
        let mut edges = BTreeSet::new();
        for (level, key) in stack.iter().enumerate() {
            let is_top = level + 1 == stack.len();
            let add = |expected: &mut Expected, first: bool| {
                expected.frames += sample.samples;
                if is_top {
                    expected.top += sample.nanoseconds;
                    expected.top_samples += sample.samples;
                }
                if first {
                    expected.stacks += sample.samples;
                    expected.cumulative += sample.nanoseconds;
                }
            };
            let row = reference.rows.entry(key.clone()).or_default();
            add(row, rows.insert(key));
            if level > 0 {
                let edge = (stack[level - 1].clone(), key.clone());
                let expected = reference.edges.entry(edge.clone()).or_default();
                add(expected, edges.insert(edge));
            }
        }
    }
    reference
}

/// The stacks of keys, with a root for every thread that needs one.
fn with_roots<'s>(
    functions: &[Function],
    names: &[String],
    samples: &'s [Sample],
) -> Vec<(Vec<Key>, &'s Sample)> {
    let key = |function: &Function| {
        let Function {
            file,
            first_line,
            name,
            ..
        } = function;
        (file.clone(), *first_line, name.clone())
    };
    let plain: Vec<(Vec<Key>, &Sample)> = samples
        .iter()
        .map(|sample| {
            let keys = sample.stack.iter().map(|&(f, _)| key(&functions[f]));
            (keys.collect(), sample)
        })
        .collect();
    let called: BTreeSet<Key> = count(&plain)
        .edges
        .into_keys()
        .map(|(_, callee)| callee)
        .collect();
    let bottoms = |thread: usize| -> BTreeSet<Option<Key>> {
        let of_thread = plain.iter().filter(|(_, sample)| sample.thread == thread);
        of_thread.map(|(stack, _)| stack.first().cloned()).collect()
    };
    let has_root = |thread: usize| {
        let own = bottoms(thread);
        let Some(Some(bottom)) = own.first() else {
            return false;
        };
        let elsewhere = (0..names.len())
            .filter(|&other| other != thread)
            .any(|other| bottoms(other).contains(&Some(bottom.clone())));
        own.len() == 1 && !called.contains(bottom) && !elsewhere && !called.is_empty()
    };
    plain
        .iter()
        .map(|(stack, sample)| {
            let mut stack = stack.clone();
            if !has_root(sample.thread) {
                let name = format!("<thread {}>", names[sample.thread]);
                stack.insert(0, ("~".into(), 0, name));
            }
            (stack, *sample)
        })
        .collect()
}

fn plain(key: &FunctionKey) -> Key {
    (key.file.to_string(), key.line, key.name.to_string())
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Everything that pstats files promise.
fn check(profile: &Profile, samples: &[Sample]) {
    let table = StatsTable::of(profile);
    let names = profile.thread_names();
    let expected = count(&with_roots(profile.functions(), &names, samples));

    let keys: BTreeSet<Key> = table.rows().iter().map(|row| plain(&row.key)).collect();
    assert_eq!(keys.len(), table.rows().len(), "one row a key");
    assert_eq!(keys, expected.rows.keys().cloned().collect());
    let mut edges = 0;
    for row in table.rows() {
        let wanted = expected.rows[&plain(&row.key)];
        assert_eq!((row.cc, row.nc), (wanted.stacks, wanted.frames), "{row:?}");
        assert_eq!(row.tt, seconds(wanted.top), "{row:?}");
        assert_eq!(row.ct, seconds(wanted.cumulative), "{row:?}");
        assert!(1 <= row.cc && row.cc <= row.nc && row.tt <= row.ct);
        for edge in &row.callers {
            let caller = &table.rows()[edge.row];
            let wanted = expected.edges[&(plain(&caller.key), plain(&row.key))];
            assert_eq!((edge.cc, edge.nc), (wanted.stacks, wanted.frames));
            assert_eq!(edge.tt, seconds(wanted.top));
            assert_eq!(edge.ct, seconds(wanted.cumulative));
            assert!(1 <= edge.cc && edge.cc <= edge.nc && edge.tt <= edge.ct);
            for end in [row, caller] {
                assert!(edge.cc <= end.cc && edge.nc <= end.nc && edge.ct <= end.ct);
            }
            assert!(edge.tt <= row.tt);
            edges += 1;
        }
    }
    assert_eq!(edges, expected.edges.len());

    let total: u64 = samples.iter().map(|sample| sample.nanoseconds).sum();
    let difference = (table.total_seconds() - seconds(total)).abs();
    assert!(difference <= seconds(total) * 1e-12, "{difference}");
    for (thread, name) in names.iter().enumerate() {
        let of_thread = || samples.iter().filter(|sample| sample.thread == thread);
        if of_thread().next().is_none() {
            continue;
        }
        let total = seconds(of_thread().map(|sample| sample.nanoseconds).sum());
        let bottom = of_thread().find_map(|sample| sample.stack.first());
        let is_root = |key: Key| {
            let row = table.find(&key.0, key.1, &key.2);
            row.is_some_and(|row| row.callers.is_empty() && row.ct == total)
        };
        let own = bottom.is_some_and(|&(bottom, _)| {
            let bottom = &profile.functions()[bottom];
            is_root((bottom.file.clone(), bottom.first_line, bottom.name.clone()))
        });
        let synthetic = is_root(("~".into(), 0, format!("<thread {name}>")));
        assert!(own || synthetic, "no root for thread {thread}");
    }
}

/// Two functions share a key: they are one row.
pub(crate) fn functions() -> Vec<Function> {
    vec![
        function("a.py", 1, "<module>", "<module>"),
        function("a.py", 5, "f", "f"),
        function("a.py", 9, "f", "C.f"),
        function("a.py", 5, "f", "g.<locals>.f"),
        function("threading.py", 1, "_bootstrap", "Thread._bootstrap"),
        function("~", 0, "<built-in method builtins.len>", ""),
    ]
}

pub(crate) fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let stack = prop::collection::vec((0..6usize, 1..3u32), 0..7);
    let time = prop_oneof![Just(0), 1..2_000_000_000u64];
    let sample = (0..3usize, stack, time, 1..4u64);
    let sample = sample.prop_map(|(thread, stack, nanoseconds, samples)| Sample {
        thread,
        stack,
        nanoseconds,
        samples,
    });
    // Short and narrow ones more often: that is where roots come and go.
    let narrow = (0..3usize, 0..4usize, 0..3usize).prop_map(|(thread, bottom, top)| Sample {
        thread,
        stack: [(bottom + thread, 1), (5, 1)][..2 - top.min(1)].to_vec(),
        nanoseconds: 1_000,
        samples: 1,
    });
    prop_oneof![
        prop::collection::vec(sample, 1..40),
        prop::collection::vec(narrow, 1..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn table_is_what_the_samples_say(samples in samples()) {
        let threads = [thread("MainThread", 1), thread("worker", 2), thread("worker", 3)];
        check(&record(&functions(), &threads, &samples), &samples);
    }

    #[test]
    fn sampled_table_counts_as_cpython_315(samples in samples()) {
        let threads = [thread("MainThread", 1), thread("worker", 2), thread("worker", 3)];
        let profile = record(&functions(), &threads, &samples);
        let names = profile.thread_names();
        // As its `PstatsCollector` counts: locations once a stack, and the top one.
        let stacks: Vec<(Vec<Key>, &Sample)> = samples
            .iter()
            .map(|sample| {
                let mut stack: Vec<Key> = sample.stack.iter().map(|&(f, line)| {
                    let function = &profile.functions()[f];
                    let name = match &function.qualified_name {
                        name if name.is_empty() => &function.name,
                        name => name,
                    };
                    (function.file.clone(), line, name.clone())
                }).collect();
                // Time without any frame has a row too; CPython leaves it out.
                let is_bare = samples.iter().any(|other| {
                    other.thread == sample.thread && other.stack.is_empty()
                });
                if is_bare {
                    let name = format!("<thread {}>", names[sample.thread]);
                    stack.insert(0, ("~".into(), 0, name));
                }
                (stack, sample)
            })
            .collect();
        let expected = count(&stacks);
        let table = StatsTable::sampled(&profile);
        prop_assert_eq!(table.rows().len(), expected.rows.len());
        for row in table.rows() {
            let wanted = expected.rows[&plain(&row.key)];
            prop_assert_eq!((row.cc, row.nc), (wanted.top_samples, wanted.stacks));
            prop_assert_eq!(row.tt, seconds(wanted.top));
            prop_assert_eq!(row.ct, seconds(wanted.cumulative));
            for edge in &row.callers {
                let caller = plain(&table.rows()[edge.row].key);
                let wanted = expected.edges[&(caller, plain(&row.key))];
                prop_assert_eq!((edge.cc, edge.nc), (wanted.top_samples, wanted.stacks));
            }
        }
    }
}

fn one(thread: usize, stack: &[usize]) -> Sample {
    Sample {
        thread,
        stack: stack.iter().map(|&function| (function, 1)).collect(),
        nanoseconds: 1_000_000_000,
        samples: 1,
    }
}

/// The synthetic rows of a profile of two threads.
fn thread_rows(samples: &[Sample]) -> Vec<String> {
    let threads = [thread("MainThread", 1), thread("worker", 2)];
    let profile = record(&functions(), &threads, samples);
    check(&profile, samples);
    let table = StatsTable::of(&profile);
    let rows = table.rows().iter().map(|row| row.key.name.to_string());
    rows.filter(|name| name.starts_with("<thread ")).collect()
}

#[test]
fn own_functions_as_roots() {
    assert!(thread_rows(&[one(0, &[0, 1]), one(0, &[0, 2, 1])]).is_empty());
    assert!(thread_rows(&[one(0, &[0, 1]), one(1, &[4, 1])]).is_empty());
}

#[test]
fn synthetic_roots() {
    let main = "<thread MainThread>";
    let worker = "<thread worker>";
    // A single frame: there is no edge.
    assert_eq!(thread_rows(&[one(0, &[0])]), [main]);
    // Recursion through the bottom function.
    assert_eq!(thread_rows(&[one(0, &[0, 1, 0])]), [main]);
    assert_eq!(thread_rows(&[one(0, &[0, 0])]), [main]);
    // Several bottom functions.
    assert_eq!(thread_rows(&[one(0, &[0, 1]), one(0, &[4, 1])]), [main]);
    // Two threads that start with the same function.
    assert_eq!(
        thread_rows(&[one(0, &[4, 1]), one(1, &[4, 2])]),
        [main, worker]
    );
    // The bottom function of one is called in the other.
    assert_eq!(thread_rows(&[one(0, &[0, 4]), one(1, &[4, 1])]), [worker]);
    // A thread without a frame.
    assert_eq!(thread_rows(&[one(0, &[0, 1]), one(1, &[])]), [worker]);
    assert_eq!(thread_rows(&[one(0, &[0, 1]), one(0, &[])]), [main]);
}

#[test]
fn a_function_named_like_a_thread() {
    let mut functions = functions();
    functions.push(function("~", 0, "<thread MainThread>", ""));
    let samples = [one(0, &[6]), one(0, &[0])];
    let profile = record(&functions, &[thread("MainThread", 1)], &samples);
    let table = StatsTable::of(&profile);
    assert_eq!(table.find("~", 0, "<thread MainThread>").unwrap().ct, 1.0);
    assert_eq!(table.find("~", 0, "<thread MainThread>'").unwrap().ct, 2.0);
}

#[test]
fn names_are_escaped_and_merge() {
    let functions = [
        function("a\nb.py", 1, "f\x1b", ""),
        function("a\\nb.py", 1, "f\\x1b", ""),
    ];
    let samples = [one(0, &[0]), one(0, &[1])];
    let profile = record(&functions, &[thread("MainThread", 1)], &samples);
    let table = StatsTable::of(&profile);
    assert_eq!(table.find("a\\nb.py", 1, "f\\x1b").unwrap().ct, 2.0);
    assert_eq!(table.rows().len(), 2);
}

#[test]
fn very_deep_recursion() {
    // Samples all the way up: a walk that looks back over the stack at each frame would not end.
    const DEPTH: usize = 300_000;
    let functions = functions();
    let mut batch = pystrobe_profile::Batch {
        functions: functions.clone(),
        threads: vec![thread("MainThread", 1)],
        ..Default::default()
    };
    for index in 0..=DEPTH {
        let node = pystrobe_profile::NodeId::from_index(index);
        batch.nodes.push(pystrobe_profile::Node {
            parent: index
                .checked_sub(1)
                .map(pystrobe_profile::NodeId::from_index),
            frame: match index {
                0 => pystrobe_profile::Frame::Thread(pystrobe_profile::ThreadId(0)),
                _ => pystrobe_profile::Frame::Call {
                    function: pystrobe_profile::FunctionId(1 + index as u32 % 2),
                    line: index as u32 % 7,
                },
            },
        });
        if index > 0 {
            batch.observations.push(pystrobe_profile::Observation {
                node,
                nanoseconds: pystrobe_profile::Clocks::of_wall(1),
                samples: pystrobe_profile::Clocks::of_wall(1),
            });
        }
    }
    let mut builder = pystrobe_profile::Builder::new(vec![crate::recorder::process()]);
    builder.apply(&batch).unwrap();
    let profile = builder.finish(crate::recorder::recording(1));
    let depth = DEPTH as u64;
    let table = StatsTable::of(&profile);
    let f = table.find("a.py", 5, "f").unwrap();
    assert_eq!(f.cc, depth - 1);
    assert_eq!(f.ct, seconds(depth - 1));
    assert_eq!(f.tt, seconds(depth / 2));
    let root = table.find("~", 0, "<thread MainThread>").unwrap();
    assert_eq!((root.cc, root.ct), (depth, seconds(depth)));
    assert_eq!(StatsTable::sampled(&profile).rows().len(), 14);
}

#[test]
fn strings_are_shared() {
    let samples = [one(0, &[1, 2])];
    let profile = record(&functions(), &[thread("MainThread", 1)], &samples);
    let table = StatsTable::of(&profile);
    let [a, b] = table.rows() else {
        panic!("two rows: {table:?}")
    };
    assert!(Arc::ptr_eq(&a.key.file, &b.key.file));
}
