//! From calls that were counted to a profile.
//!
//! Each recorded process is a source of its own for the profile's `Builder`: it is described by one batch, when all is over.

use std::collections::HashMap;

use pystrobe_calls::Calls;
use pystrobe_profile::{
    Batch, Clocks, Counters, Frame, Function, FunctionId, Node, NodeId, Observation, Process,
    Thread, ThreadId,
};

use crate::correction::corrected;

/// Which times a profile gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Without what it took to record them, as far as that was estimated.
    Corrected,
    /// As measured.
    Raw,
}

impl Times {
    /// What a recording with these times says that it was made by.
    #[must_use]
    pub fn collector(self) -> &'static str {
        match self {
            Times::Corrected => "tracing",
            Times::Raw => "tracing, not corrected",
        }
    }
}

/// What contradicts itself in a recording of calls. Positions are those in [`Calls`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A node is the root of a tree that no thread has.
    #[error("node {node} has neither a caller nor a thread")]
    NoThread {
        /// The node.
        node: usize,
    },
    /// A node has a caller and no function, or a function and no caller.
    #[error("node {node} is half a root")]
    HalfARoot {
        /// The node.
        node: usize,
    },
    /// A node is of a function that was never described.
    #[error("node {node} has a function that is not there")]
    NoFunction {
        /// The node.
        node: usize,
    },
}

/// All that was recorded of a process, as news of this source of a profile. Its counters say how many calls there were,
/// and how many of those were added to their caller's node.
///
/// # Errors
///
/// Where nodes, functions and threads contradict each other. Whether parents refer to something is left to the
/// builder, which checks that anyway.
pub fn batch(calls: &Calls, source: u32, command: &str, times: Times) -> Result<Batch, Damage> {
    let about = &calls.about;
    let own = match times {
        Times::Corrected => corrected(calls),
        Times::Raw => calls.nodes.iter().map(|node| node.own_ns).collect(),
    };
    let (functions, numbers) = functions(calls);
    let mut observations = Vec::new();
    let mut counted = 0_u64;
    for (index, (node, own)) in calls.nodes.iter().zip(own).enumerate() {
        counted = counted.saturating_add(node.calls);
        if node.calls > 0 || own > 0 {
            observations.push(Observation {
                node: NodeId::from_index(index),
                nanoseconds: Clocks::of_wall(own),
                samples: Clocks::of_wall(node.calls),
            });
        }
    }
    Ok(Batch {
        source,
        processes: vec![Process {
            pid: about.pid,
            command: command.to_owned(),
            python: about.python.clone(),
        }],
        functions,
        threads: calls.threads.iter().map(thread).collect(),
        renamed: Vec::new(),
        nodes: nodes(calls, &numbers)?,
        observations,
        counters: Counters {
            taken: counted.saturating_add(about.folded),
            truncated: about.folded,
            ..Counters::default()
        },
        elapsed: about.elapsed_ns,
    })
}

/// The functions that have a place in the tree, and by the number of each function of the recording the one that it has among them: what lets the tracer out of a
/// program is a function that was met and has no place.
fn functions(calls: &Calls) -> (Vec<Function>, Vec<Option<FunctionId>>) {
    let mut called = vec![false; calls.functions.len()];
    for function in calls.nodes.iter().filter_map(|node| node.function) {
        if let Some(called) = called.get_mut(function as usize) {
            *called = true;
        }
    }
    let mut functions = Vec::new();
    let numbered = calls.functions.iter().zip(called);
    let numbers = numbered.map(|(known, called)| {
        called.then(|| {
            functions.push(function(known));
            FunctionId::from_index(functions.len() - 1)
        })
    });
    let numbers = numbers.collect();
    (functions, numbers)
}

fn nodes(calls: &Calls, numbers: &[Option<FunctionId>]) -> Result<Vec<Node>, Damage> {
    let threads: HashMap<usize, ThreadId> = calls
        .threads
        .iter()
        .enumerate()
        .map(|(index, thread)| (thread.root as usize, ThreadId::from_index(index)))
        .collect();
    let numbered = calls.nodes.iter().enumerate();
    numbered
        .map(|(node, called)| match (called.parent, called.function) {
            (None, None) => match threads.get(&node) {
                Some(&thread) => Ok(Node {
                    parent: None,
                    frame: Frame::Thread(thread),
                }),
                None => Err(Damage::NoThread { node }),
            },
            (Some(parent), Some(function)) => Ok(Node {
                parent: Some(NodeId(parent)),
                frame: Frame::Call {
                    function: numbers
                        .get(function as usize)
                        .copied()
                        .flatten()
                        .ok_or(Damage::NoFunction { node })?,
                    // Calls are counted by function, wherever in it they come from.
                    line: 0,
                },
            }),
            (None, Some(_)) | (Some(_), None) => Err(Damage::HalfARoot { node }),
        })
        .collect()
}

fn function(function: &pystrobe_calls::Function) -> Function {
    Function {
        file: function.file.clone(),
        first_line: function.first_line,
        name: function.name.clone(),
        qualified_name: function.qualified_name.clone(),
    }
}

fn thread(thread: &pystrobe_calls::Thread) -> Thread {
    Thread {
        process: 0,
        name: thread.name.clone(),
        native_id: Some(thread.native_id),
        ident: thread.ident,
        interpreter: thread.interpreter,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use pystrobe_calls::{About, Cost, Kind};
    use pystrobe_profile::{Builder, Counted, Recording, StatsTable};

    use super::*;

    pub(crate) fn function(file: &str, name: &str, kind: Kind) -> pystrobe_calls::Function {
        pystrobe_calls::Function {
            file: file.to_owned(),
            name: name.to_owned(),
            qualified_name: String::new(),
            first_line: u32::from(kind == Kind::Python),
            kind,
        }
    }

    pub(crate) fn node(
        parent: Option<u32>,
        function: Option<u32>,
        calls: u64,
        own_ns: u64,
    ) -> pystrobe_calls::Node {
        pystrobe_calls::Node {
            parent,
            function,
            calls,
            own_ns,
            calls_out: 0,
        }
    }

    /// A recording of one thread, whose root is the first node.
    pub(crate) fn calls(
        functions: Vec<pystrobe_calls::Function>,
        nodes: Vec<pystrobe_calls::Node>,
    ) -> Calls {
        Calls {
            about: About {
                pid: 7,
                python: String::from("3.12.1"),
                command: String::from("python3 -c pass"),
                started_unix_ns: 1,
                elapsed_ns: 2_000_000_000,
                cost: Cost::default(),
                folded: 0,
                ended: true,
            },
            functions,
            threads: vec![pystrobe_calls::Thread {
                native_id: 7,
                ident: 140,
                interpreter: 0,
                name: String::from("MainThread"),
                root: 0,
            }],
            nodes,
        }
    }

    fn of_two_functions() -> Calls {
        calls(
            vec![
                function("a.py", "f", Kind::Python),
                function("~", "<built-in method builtins.len>", Kind::Builtin),
            ],
            vec![
                node(None, None, 0, 0),
                node(Some(0), Some(0), 2, 3_000_000_000),
                node(Some(1), Some(1), 40, 1_000_000_000),
            ],
        )
    }

    #[test]
    fn what_was_counted_is_in_the_table() {
        let mut calls = of_two_functions();
        calls.about.folded = 5;
        let batch = batch(&calls, 0, "python a.py", Times::Corrected).unwrap();
        assert_eq!((batch.counters.taken, batch.counters.truncated), (47, 5));
        let mut builder = Builder::new(Vec::new());
        builder.apply(&batch).unwrap();
        let profile = builder.finish(Recording {
            counted: Counted::Calls,
            ..Recording::default()
        });
        let table = StatsTable::of(&profile);
        let f = table.find("a.py", 1, "f").unwrap();
        assert_eq!((f.cc, f.nc, f.tt, f.ct), (2, 2, 3.0, 4.0));
        let len = table
            .find("~", 0, "<built-in method builtins.len>")
            .unwrap();
        assert_eq!(
            (len.nc, len.callers[0].nc, len.callers[0].tt),
            (40, 40, 1.0)
        );
    }

    #[test]
    fn roots_and_threads_belong_together() {
        let mut stray = of_two_functions();
        stray.threads.clear();
        let error = batch(&stray, 0, "", Times::Raw).unwrap_err();
        assert_eq!(error, Damage::NoThread { node: 0 });
        let mut half = of_two_functions();
        half.nodes[2].function = None;
        let error = batch(&half, 0, "", Times::Raw).unwrap_err();
        assert_eq!(error, Damage::HalfARoot { node: 2 });
    }

    proptest! {
        /// Whatever a recording says, it is an error or a profile.
        #[test]
        fn nothing_is_believed(
            nodes in prop::collection::vec(
                (prop::option::of(0..6_u32), prop::option::of(0..4_u32), any::<u64>(), any::<u64>()),
                0..6,
            ),
            roots in prop::collection::vec(0..6_u32, 0..3),
            folded in any::<u64>(),
        ) {
            let nodes = nodes.into_iter().map(|(parent, function, calls, own)| node(parent, function, calls, own));
            let mut calls = calls(of_two_functions().functions, nodes.collect());
            calls.about.folded = folded;
            calls.about.cost = Cost { python_ns: folded, python_inside_ns: 3, builtin_ns: 4, builtin_inside_ns: folded };
            calls.threads = roots.iter().map(|&root| pystrobe_calls::Thread { root, ..calls.threads[0].clone() }).collect();
            for times in [Times::Corrected, Times::Raw] {
                if let Ok(batch) = batch(&calls, 0, "", times) {
                    let mut builder = Builder::new(Vec::new());
                    if builder.apply(&batch).is_ok() {
                        let profile = builder.finish(Recording::default());
                        prop_assert!(StatsTable::of(&profile).total_seconds() >= 0.0);
                    }
                }
            }
        }
    }
}
