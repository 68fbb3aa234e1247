//! The profile that the goldens show.

use pystrobe_exporters::{Format, Style, write};
use pystrobe_profile::{
    Batch, Builder, Clocks, Counted, Counters, Frame, Function, FunctionId, Measured, Node, NodeId,
    Observation, Profile, Recording, Seen, Thread, ThreadId,
};

use crate::recorder::{Sample, function, process, record, record_clocks, recording, thread};

pub(crate) fn functions() -> Vec<Function> {
    vec![
        function("/srv/app.py", 1, "<module>", "<module>"),
        function("/srv/app.py", 10, "main", "main"),
        function("/srv/app.py", 20, "fib", "Numbers.fib"),
        function("/srv/größe.py", 3, "größe", "größe"),
        function(
            "/usr/lib/python3.12/threading.py",
            995,
            "_bootstrap",
            "Thread._bootstrap",
        ),
        function(
            "/srv/site-packages/lib.py",
            7,
            "<lambda>",
            "poll.<locals>.<lambda>",
        ),
        function("~", 0, "<built-in method time.sleep>", ""),
        function("/srv/odd;name\n.py", 5, "evil 12", "evil & <b> \"12\""),
    ]
}

/// A program with recursion, two threads that start alike, and names that try to break a format.
pub(crate) fn profile() -> Profile {
    record(&functions(), &threads(), &samples())
}

/// The same program by all clocks: one thread computes, one sleeps without the GIL, one waits for it; no
/// exception was ever handled.
pub(crate) fn by_all_clocks() -> Profile {
    by_clocks(true)
}

/// The same, with or without knowing who waits for the GIL.
pub(crate) fn by_clocks(gil_wait: bool) -> Profile {
    let seen = |sample: &Sample| {
        let clocks = |wall: u64| match sample.thread {
            0 => Clocks {
                wall,
                cpu: wall * 3 / 4,
                gil: wall,
                ..Clocks::default()
            },
            1 => Clocks {
                wall,
                waiting: wall,
                ..Clocks::default()
            },
            _ => Clocks {
                wall,
                cpu: wall / 4,
                gil: wall / 4,
                waiting: wall / 2,
                gil_wait: if gil_wait { wall / 4 } else { 0 },
                ..Clocks::default()
            },
        };
        Seen {
            nanoseconds: clocks(sample.nanoseconds),
            samples: clocks(sample.samples),
        }
    };
    let samples: Vec<_> = samples()
        .into_iter()
        .map(|sample| (sample.clone(), seen(&sample)))
        .collect();
    let measured = Measured {
        cpu: true,
        gil: true,
        gil_wait,
        exception: true,
        waiting: true,
    };
    record_clocks(&functions(), &threads(), &samples, measured)
}

/// A traced program: `main` calls `fib`, which calls itself, and a C function from there; another thread sleeps.
pub(crate) fn traced() -> Profile {
    let call = |parent: usize, function: usize| Node {
        parent: Some(NodeId::from_index(parent)),
        frame: Frame::Call {
            function: FunctionId::from_index(function),
            line: 0,
        },
    };
    let foot = |thread: usize| Node {
        parent: None,
        frame: Frame::Thread(ThreadId::from_index(thread)),
    };
    // A node, its calls and its own nanoseconds.
    let nodes = [
        (foot(0), 0, 0),
        (call(0, 0), 1, 1_000),
        (call(1, 1), 1, 2_500),
        (call(2, 2), 10, 4_000),
        (call(3, 2), 100, 30_000),
        (call(4, 6), 7, 350),
        (foot(1), 0, 0),
        (call(6, 4), 1, 900),
        (call(7, 6), 3, 150_000),
    ];
    let observation = |(index, (_, calls, own)): (usize, &(Node, u64, u64))| Observation {
        node: NodeId::from_index(index),
        nanoseconds: Clocks::of_wall(*own),
        samples: Clocks::of_wall(*calls),
    };
    let mut builder = Builder::new(vec![process()]);
    builder
        .apply(&Batch {
            functions: functions(),
            threads: threads()[..2].to_vec(),
            nodes: nodes.iter().map(|(node, _, _)| *node).collect(),
            observations: nodes.iter().enumerate().map(observation).collect(),
            ..Batch::default()
        })
        .unwrap();
    builder.finish(Recording {
        interval_ns: 0,
        counters: Counters {
            taken: 123,
            ..Counters::default()
        },
        collector: "tracing".to_owned(),
        counted: Counted::Calls,
        ..recording(0)
    })
}

fn threads() -> [Thread; 3] {
    [
        thread("MainThread", 100),
        thread("worker", 101),
        thread("worker", 102),
    ]
}

fn samples() -> Vec<Sample> {
    let sample = |thread, stack: &[(usize, u32)], microseconds: u64| Sample {
        thread,
        stack: stack.to_vec(),
        nanoseconds: microseconds * 1000 + 300,
        samples: microseconds.div_ceil(1000),
    };
    vec![
        sample(0, &[(0, 3)], 1_500),
        sample(0, &[(0, 30), (1, 11), (2, 21)], 250_000),
        sample(0, &[(0, 30), (1, 12), (2, 22), (2, 21)], 500_000),
        sample(0, &[(0, 30), (1, 11), (2, 22), (2, 22), (2, 21)], 125_000),
        sample(0, &[(0, 30), (1, 14), (3, 4)], 60_000),
        sample(0, &[(0, 31), (7, 6)], 12_000),
        sample(1, &[(4, 1010), (5, 7), (6, 0)], 700_000),
        sample(2, &[(4, 1010), (2, 21)], 300_000),
        sample(2, &[], 40),
    ]
}

/// What `write` writes.
pub(crate) fn written(profile: &Profile, format: Format, style: &Style) -> Vec<u8> {
    let mut out = Vec::new();
    write(profile, format, style, &mut out).unwrap();
    out
}
