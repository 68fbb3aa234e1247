//! Interpreters, and programs that are run in them.

#[path = "../../../../tests/support/attempts.rs"]
pub(crate) mod attempts;
#[path = "../../../sampling/tests/support/interpreters.rs"]
#[expect(dead_code, reason = "not every crate's tests use all of it")]
pub(crate) mod interpreters;
pub(crate) mod program;

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, ExitStatus};

use pystrobe_calls::{Calls, FormatError, Options, read_until, unix_ns};
use pystrobe_tracing::Launch;

use interpreters::Interpreter;

/// What became of a program that was traced.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) first: Result<Calls, FormatError>,
    pub(crate) others: Vec<Calls>,
    pub(crate) refusal: Option<String>,
}

impl Traced {
    pub(crate) fn calls(&self) -> &Calls {
        match &self.first {
            Ok(calls) => calls,
            Err(error) => panic!("{error}; {:?}; {}", self.refusal, self.stderr),
        }
    }
}

/// Runs a program with the agent.
pub(crate) fn trace(python: &Interpreter, options: &Options, arguments: &[&str]) -> Traced {
    trace_command(python.command().args(arguments), options)
}

pub(crate) fn trace_command(command: &mut Command, options: &Options) -> Traced {
    let launch = Launch::new(options).unwrap();
    let output = command
        .envs(launch.environment(None).unwrap())
        .output()
        .unwrap();
    let now = unix_ns();
    Traced {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        first: read_until(launch.first(), now),
        others: launch
            .others()
            .unwrap()
            .iter()
            .map(|path| read_until(&File::open(path).unwrap(), now).unwrap())
            .collect(),
        refusal: launch.refusal(),
    }
}

/// A function's calls and own nanoseconds below a root, by its name.
pub(crate) fn totals(calls: &Calls, root: u32) -> BTreeMap<&str, (u64, u64)> {
    let mut totals = BTreeMap::<&str, (u64, u64)>::new();
    let mut of_root = vec![false; calls.nodes.len()];
    for (number, node) in calls.nodes.iter().enumerate() {
        of_root[number] = node
            .parent
            .map_or(number == root as usize, |parent| of_root[parent as usize]);
        if of_root[number]
            && let Some(function) = node.function
        {
            let total = totals
                .entry(&calls.functions[function as usize].name)
                .or_default();
            total.0 += node.calls;
            total.1 += node.own_ns;
        }
    }
    totals
}

/// Of the only thread, or the main one.
pub(crate) fn main_totals(calls: &Calls) -> BTreeMap<&str, (u64, u64)> {
    let main = calls
        .threads
        .iter()
        .find(|thread| thread.native_id == u64::from(calls.about.pid));
    totals(calls, main.expect("the main thread was recorded").root)
}

/// How often a function was called.
pub(crate) fn count(totals: &BTreeMap<&str, (u64, u64)>, name: &str) -> u64 {
    totals.get(name).map_or(0, |total| total.0)
}
