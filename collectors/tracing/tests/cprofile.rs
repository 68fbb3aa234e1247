//! Row by row and edge by edge what cProfile says.

use std::collections::{BTreeMap, HashSet};
use std::fs;

use pystrobe_calls::{Calls, Options};
use serde_json::Value;

use crate::support::interpreters::{self, Interpreter, target_file};
use crate::support::trace;

type Key = (String, u64, String);
/// All calls and primitive calls, of functions and of edges.
type Counts = BTreeMap<What, (u64, u64)>;
/// A function, or with a caller an edge.
type What = (Option<Key>, Key);

/// What cProfile counts of a program.
fn expected(python: &Interpreter, program: &str) -> Counts {
    let table = tempfile::NamedTempFile::new().unwrap();
    let status = python
        .command()
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args([
            target_file("driver.py").as_str(),
            table.path().to_str().unwrap(),
            program,
        ])
        .status()
        .unwrap();
    assert!(status.success());
    let rows: Value = serde_json::from_slice(&fs::read(table.path()).unwrap()).unwrap();
    let mut counts = Counts::new();
    let key = |value: &Value| -> Key {
        let text = |n: usize| value[n].as_str().unwrap().to_owned();
        (text(0), value[1].as_u64().unwrap(), text(2))
    };
    let pair = |value: &Value| (value[0].as_u64().unwrap(), value[1].as_u64().unwrap());
    for row in rows.as_array().unwrap() {
        let function = key(&row[0]);
        // The end of the profile itself.
        if function.2.contains("_lsprof") || function.0.ends_with("cProfile.py") {
            continue;
        }
        let (primitive, all) = pair(&row[1]);
        counts.insert((None, function.clone()), (all, primitive));
        for edge in row[2].as_array().unwrap() {
            // Here the other way round: see `pstats`.
            counts.insert((Some(key(&edge[0])), function.clone()), pair(&edge[1]));
        }
    }
    counts
}

/// What the agent counts below the `exec` of the driver.
fn counted(calls: &Calls, driver: &str) -> Counts {
    let key = |function: u32| -> Key {
        let function = &calls.functions[function as usize];
        (
            function.file.clone(),
            u64::from(function.first_line),
            function.name.clone(),
        )
    };
    let mut counts = Counts::new();
    // What is on the stack at each node: functions and edges.
    let mut stacks: Vec<Option<HashSet<What>>> = Vec::new();
    for node in &calls.nodes {
        let (Some(parent), Some(function)) = (node.parent, node.function) else {
            stacks.push(None);
            continue;
        };
        let (caller, function) = (
            calls.nodes[parent as usize].function.map(key),
            key(function),
        );
        let above = match (&stacks[parent as usize], &caller) {
            (Some(stack), _) => stack.clone(),
            (None, Some(caller))
                if caller.0 == driver && function.2.ends_with("builtins.exec>") =>
            {
                HashSet::new()
            }
            _ => {
                stacks.push(None);
                continue;
            }
        };
        let mut stack = above.clone();
        let from_program = stacks[parent as usize].is_some();
        for what in [
            Some((None, function.clone())),
            from_program.then(|| (caller.clone(), function.clone())),
        ]
        .into_iter()
        .flatten()
        {
            let count = counts.entry(what.clone()).or_default();
            count.0 += node.calls;
            if !above.contains(&what) {
                count.1 += node.calls;
            }
            stack.insert(what);
        }
        stacks.push(Some(stack));
    }
    counts
}

#[test]
fn every_way_to_call() {
    let (driver, program) = (target_file("driver.py"), target_file("shapes.py"));
    for python in interpreters::all() {
        let traced = trace(python, &Options::default(), &[&driver, "plain", &program]);
        assert!(traced.status.success(), "{traced:?}");
        let (counted, expected) = (counted(traced.calls(), &driver), expected(python, &program));
        assert!(expected.len() > 200, "{}", expected.len());
        for what in counted.keys().chain(expected.keys()) {
            assert_eq!(
                counted.get(what),
                expected.get(what),
                "{what:?} in {python}"
            );
        }
        assert_eq!(traced.calls().about.folded, 0);
    }
}

#[test]
fn without_builtins_there_are_none() {
    let (driver, program) = (target_file("driver.py"), target_file("shapes.py"));
    for python in interpreters::all() {
        let options = Options {
            builtins: false,
            ..Options::default()
        };
        let traced = trace(python, &options, &[&driver, "plain", &program]);
        assert!(traced.status.success(), "{traced:?}");
        let of_python = |counts: Counts| -> BTreeMap<Key, (u64, u64)> {
            let rows = counts
                .into_iter()
                .filter(|((caller, function), _)| caller.is_none() && function.0 != "~");
            rows.map(|((_, function), count)| (function, count))
                .collect()
        };
        let calls = traced.calls();
        assert!(calls.functions.iter().all(|function| function.file != "~"));
        let mut found = BTreeMap::<Key, u64>::new();
        for node in &calls.nodes {
            if let Some(function) = node.function {
                let function = &calls.functions[function as usize];
                *found
                    .entry((
                        function.file.clone(),
                        u64::from(function.first_line),
                        function.name.clone(),
                    ))
                    .or_default() += node.calls;
            }
        }
        for (function, (all, _)) in of_python(expected(python, &program)) {
            // The driver has imported what it needs, and called some of the library.
            if function.0 == program {
                assert_eq!(found.get(&function), Some(&all), "{function:?} in {python}");
            }
        }
    }
}
