//! Nothing is lost inside the target, however many calls are counted.

use pystrobe_calls::Options;
use serde_json::Value;

use crate::support::interpreters::{self, Interpreter, target_file};
use crate::support::trace;

const CALLS: u64 = 10_000_000;

/// What one object for each call of the rarest kind (a thousand threads) would exceed.
const FEW: u64 = 500;
/// Anonymous memory that comes and goes by itself, as the allocator likes.
const KILOBYTES: i64 = 1024;

fn nothing_is_lost(python: &Interpreter) {
    let traced = trace(
        python,
        &Options::default(),
        &[&target_file("leaks.py"), "1"],
    );
    assert!(traced.status.success(), "{traced:?}");
    let counted: u64 = traced.calls().nodes.iter().map(|node| node.calls).sum();
    assert!(counted >= CALLS, "{counted} calls in {python}");
    println!("{}: {counted} calls, {}", python, traced.stdout.trim());
    let changes: Value = serde_json::from_str(&traced.stdout).unwrap();
    let change = |value: &Value| value.as_i64().unwrap();
    let references = changes["references"].as_object().unwrap();
    assert!(references.len() > 10);
    for (of, value) in references {
        assert!(
            change(value).unsigned_abs() < FEW,
            "references to {of} in {python}: {value}"
        );
    }
    for what in ["blocks", "objects"] {
        assert!(
            change(&changes[what]).unsigned_abs() < FEW,
            "{what} in {python}: {changes}"
        );
    }
    assert!(
        change(&changes["kilobytes"]) < KILOBYTES,
        "in {python}: {changes}"
    );
}

/// With `sys.monitoring`, and with `PyEval_SetProfile`.
#[test]
fn ten_million_calls_lose_nothing() {
    let (old, new): (Vec<_>, Vec<_>) = interpreters::all()
        .iter()
        .partition(|python| python.version.1 < 12);
    for python in old.last().into_iter().chain(new.last()) {
        nothing_is_lost(python);
    }
}

#[test]
#[ignore = "the same on each version: half a minute"]
fn ten_million_calls_lose_nothing_on_any_version() {
    for python in interpreters::all() {
        nothing_is_lost(python);
    }
}
