//! Nothing is lost inside the target, however many calls are counted.

use pystrobe_calls::Options;
use serde_json::Value;

use crate::support::{Python, pythons, target, trace};

const CALLS: u64 = 10_000_000;

/// What one object for each call of the rarest kind (a thousand threads) would exceed.
const FEW: u64 = 500;
/// Anonymous memory that comes and goes by itself, as the allocator likes.
const KILOBYTES: i64 = 1024;

fn nothing_is_lost(python: &Python) {
    let traced = trace(python, &Options::default(), &[&target("leaks.py"), "1"]);
    assert!(traced.status.success(), "{traced:?}");
    let counted: u64 = traced.calls().nodes.iter().map(|node| node.calls).sum();
    assert!(counted >= CALLS, "{counted} calls in 3.{}", python.minor);
    println!(
        "3.{}: {counted} calls, {}",
        python.minor,
        traced.stdout.trim()
    );
    let changes: Value = serde_json::from_str(&traced.stdout).unwrap();
    let change = |value: &Value| value.as_i64().unwrap();
    let references = changes["references"].as_object().unwrap();
    assert!(references.len() > 10);
    for (of, value) in references {
        assert!(
            change(value).unsigned_abs() < FEW,
            "references to {of} in 3.{}: {value}",
            python.minor
        );
    }
    for what in ["blocks", "objects"] {
        assert!(
            change(&changes[what]).unsigned_abs() < FEW,
            "{what} in 3.{}: {changes}",
            python.minor
        );
    }
    assert!(
        change(&changes["kilobytes"]) < KILOBYTES,
        "in 3.{}: {changes}",
        python.minor
    );
}

/// With `sys.monitoring`, and with `PyEval_SetProfile`.
#[test]
fn ten_million_calls_lose_nothing() {
    let (old, new): (Vec<_>, Vec<_>) = pythons().iter().partition(|python| python.minor < 12);
    for python in old.last().into_iter().chain(new.last()) {
        nothing_is_lost(python);
    }
}

#[test]
#[ignore = "the same on each version: half a minute"]
fn ten_million_calls_lose_nothing_on_any_version() {
    for python in pythons() {
        nothing_is_lost(python);
    }
}
