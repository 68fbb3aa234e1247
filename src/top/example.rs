//! Small recordings for the tests of the view.

use pystrobe_profile::{
    Batch, Builder, Clocks, Frame, Function, FunctionId, Node, NodeId, Observation, Process,
    Thread, ThreadId,
};

/// A recording with nothing in it yet.
pub(super) fn empty() -> Builder {
    Builder::new(vec![Process {
        pid: 1234,
        command: String::from("python app.py"),
        python: String::from("3.12.1"),
    }])
}

fn function(name: &str) -> Function {
    Function {
        file: format!("/srv/app/{name}.py"),
        first_line: 7,
        name: name.to_owned(),
        qualified_name: format!("Class.{name}"),
    }
}

/// The first batch: one thread whose stack is these functions, the n-th of them `FunctionId(n + first)`.
pub(super) fn batch(first: u32, names: &[&str], nanoseconds: u64) -> Batch {
    let mut batch = Batch {
        functions: names.iter().map(|name| function(name)).collect(),
        threads: vec![Thread {
            process: 0,
            name: String::from("MainThread"),
            native_id: Some(77),
            ident: 7700,
            interpreter: 0,
        }],
        nodes: vec![Node {
            parent: None,
            frame: Frame::Thread(ThreadId(0)),
        }],
        ..Batch::default()
    };
    for (number, _) in (0_u32..).zip(names) {
        batch.nodes.push(call(number, first + number));
    }
    batch.observations.push(Observation {
        node: NodeId::from_index(names.len()),
        nanoseconds: Clocks::of_wall(nanoseconds),
        samples: Clocks::of_wall(1),
    });
    batch
}

fn call(parent: u32, function: u32) -> Node {
    Node {
        parent: Some(NodeId(parent)),
        frame: Frame::Call {
            function: FunctionId(function),
            line: 8,
        },
    }
}

/// More time at a node that is known.
pub(super) fn more(node: u32, nanoseconds: u64) -> Batch {
    Batch {
        observations: vec![Observation {
            node: NodeId(node),
            nanoseconds: Clocks::of_wall(nanoseconds),
            samples: Clocks::of_wall(1),
        }],
        ..Batch::default()
    }
}

/// Two threads. MainThread: `main` calls `parse` (6 s), which calls itself (2 s), and `render` (1 s). worker: `main` calls
/// `render` (3 s). Nodes: 0 and 4 are the threads.
pub(super) fn two_threads() -> Builder {
    let mut builder = empty();
    let mut first = batch(0, &["main", "parse"], 6_000_000_000);
    first.functions.push(function("render"));
    first.nodes.push(call(2, 1));
    first.threads.push(Thread {
        process: 0,
        name: String::from("worker"),
        native_id: Some(78),
        ident: 7800,
        interpreter: 0,
    });
    first.nodes.push(Node {
        parent: None,
        frame: Frame::Thread(ThreadId(1)),
    });
    first.nodes.push(call(1, 2));
    first.nodes.push(call(4, 0));
    first.nodes.push(call(6, 2));
    for (node, seconds) in [(3, 2), (5, 1), (7, 3)] {
        first
            .observations
            .extend(more(node, seconds * 1_000_000_000).observations);
    }
    first.elapsed = 9_000_000_000;
    first.counters.taken = 9000;
    builder.apply(&first).unwrap();
    builder
}
