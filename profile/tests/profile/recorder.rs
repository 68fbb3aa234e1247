//! Makes profiles from stacks, as a collector would.

use std::collections::HashMap;

use pystrobe_profile::{
    Batch, Builder, Clocks, Counted, Counters, Frame, Function, FunctionId, Measured, Node, NodeId,
    Observation, Process, Profile, Recording, Seen, Thread, ThreadId,
};

/// A sample of one thread.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Position of the thread.
    pub(crate) thread: usize,
    /// Functions and executing lines, from the bottom to the top.
    pub(crate) stack: Vec<(usize, u32)>,
    /// How long it stands for.
    pub(crate) nanoseconds: u64,
    /// How many samples it stands for.
    pub(crate) samples: u64,
}

/// A function.
pub(crate) fn function(file: &str, first_line: u32, name: &str, qualified_name: &str) -> Function {
    Function {
        file: file.to_owned(),
        first_line,
        name: name.to_owned(),
        qualified_name: qualified_name.to_owned(),
    }
}

/// A thread of the only process.
pub(crate) fn thread(name: &str, native_id: u64) -> Thread {
    Thread {
        process: 0,
        name: name.to_owned(),
        native_id: Some(native_id),
        ident: native_id + 1_000_000,
        interpreter: 0,
    }
}

/// The only process.
pub(crate) fn process() -> Process {
    Process {
        pid: 4242,
        command: "python app.py --fast".to_owned(),
        python: "3.12.1".to_owned(),
    }
}

/// A recording of the only process.
pub(crate) fn recording(taken: u64) -> Recording {
    Recording {
        command: process().command,
        pid: 4242,
        python: process().python,
        interval_ns: 1_000_000,
        started_unix_ms: 1_700_000_000_000,
        elapsed_ns: 2_000_000_000,
        counters: Counters {
            taken,
            repaired: 3,
            truncated: 1,
            lost: 2,
            late: 4,
            skipped: 5,
        },
        collector: "sampling".to_owned(),
        counted: Counted::Samples,
        measured: Measured::default(),
    }
}

/// A profile of these samples, by the wall clock only: one batch a sample, and nodes described when
/// they are first seen.
pub(crate) fn record(functions: &[Function], threads: &[Thread], samples: &[Sample]) -> Profile {
    let on_the_wall = |sample: &Sample| {
        let seen = Seen {
            nanoseconds: Clocks::of_wall(sample.nanoseconds),
            samples: Clocks::of_wall(sample.samples),
        };
        (sample.clone(), seen)
    };
    let samples: Vec<_> = samples.iter().map(on_the_wall).collect();
    record_clocks(functions, threads, &samples, Measured::default())
}

/// The same by all clocks: what was seen stands beside each sample.
pub(crate) fn record_clocks(
    functions: &[Function],
    threads: &[Thread],
    samples: &[(Sample, Seen)],
    measured: Measured,
) -> Profile {
    let mut builder = Builder::new(vec![process()]);
    builder
        .apply(&Batch {
            functions: functions.to_vec(),
            threads: threads.to_vec(),
            ..Batch::default()
        })
        .unwrap();
    let mut known: HashMap<Node, NodeId> = HashMap::new();
    for (sample, seen) in samples {
        let mut batch = Batch::default();
        let foot = Frame::Thread(ThreadId::from_index(sample.thread));
        let calls = sample.stack.iter().map(|&(function, line)| Frame::Call {
            function: FunctionId::from_index(function),
            line,
        });
        let mut at = None;
        for frame in std::iter::once(foot).chain(calls) {
            let node = Node { parent: at, frame };
            let next = NodeId::from_index(known.len());
            at = Some(*known.entry(node).or_insert_with(|| {
                batch.nodes.push(node);
                next
            }));
        }
        batch.observations.push(Observation {
            node: at.unwrap(),
            nanoseconds: seen.nanoseconds,
            samples: seen.samples,
        });
        builder.apply(&batch).unwrap();
    }
    let taken = samples.iter().map(|(_, seen)| seen.samples.wall).sum();
    builder.finish(Recording {
        measured,
        ..recording(taken)
    })
}
