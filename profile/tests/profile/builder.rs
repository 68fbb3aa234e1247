//! The builder believes no id.

use pystrobe_profile::{
    Batch, BatchError, Builder, Clocks, Counters, Frame, FunctionId, Node, NodeId, Observation,
    Process, Recording, ThreadId,
};

use crate::recorder::{function, process, thread};

fn foot(thread: u32) -> Node {
    Node {
        parent: None,
        frame: Frame::Thread(ThreadId(thread)),
    }
}

fn call(parent: u32, function: u32) -> Node {
    Node {
        parent: Some(NodeId(parent)),
        frame: Frame::Call {
            function: FunctionId(function),
            line: 1,
        },
    }
}

fn seen(node: u32, nanoseconds: u64, samples: u64) -> Observation {
    Observation {
        node: NodeId(node),
        nanoseconds: Clocks::of_wall(nanoseconds),
        samples: Clocks::of_wall(samples),
    }
}

fn good() -> Batch {
    Batch {
        functions: vec![function("a.py", 1, "f", "")],
        threads: vec![thread("", 7)],
        nodes: vec![foot(0), call(0, 0)],
        observations: vec![seen(1, 10, 1)],
        elapsed: 10,
        counters: Counters {
            taken: 1,
            ..Counters::default()
        },
        ..Batch::default()
    }
}

/// Every process numbers what it sees on its own, and describes the functions of the program anew.
#[test]
fn sources_have_ids_of_their_own() {
    let worker = |pid| Process { pid, ..process() };
    let of = |source: u32, taken| Batch {
        source,
        processes: vec![worker(100 + source)],
        counters: Counters {
            taken,
            ..Counters::default()
        },
        ..good()
    };
    let mut builder = Builder::new(Vec::new());
    let mut second = of(2, 20);
    second.functions.insert(0, function("a.py", 9, "g", ""));
    builder.apply(&of(1, 10)).unwrap();
    builder.apply(&second).unwrap();
    // News of both, after those of the other.
    for (source, taken) in [(1, 11), (2, 22)] {
        let later = Batch {
            source,
            renamed: vec![(ThreadId(0), format!("of {source}"))],
            nodes: vec![call(1, 0)],
            observations: vec![seen(2, 100 * u64::from(source), 1)],
            counters: Counters {
                taken,
                ..Counters::default()
            },
            elapsed: 50 - u64::from(source),
            ..Batch::default()
        };
        builder.apply(&later).unwrap();
    }
    assert_eq!(builder.counters().taken, 33);
    assert_eq!(builder.elapsed_ns(), 49);
    let unknown = Batch {
        source: 3,
        observations: vec![seen(0, 1, 1)],
        ..Batch::default()
    };
    assert_eq!(
        builder.apply(&unknown),
        Err(BatchError::UnknownNode { node: 0 })
    );

    let profile = builder.finish(Recording::default());
    let names: Vec<&str> = profile
        .functions()
        .iter()
        .map(|f| f.name.as_str())
        .collect();
    assert_eq!(names, ["f", "g"], "described twice, and the same");
    let threads: Vec<_> = profile
        .threads()
        .iter()
        .map(|thread| (thread.process, thread.name.as_str()))
        .collect();
    assert_eq!(threads, [(0, "of 1"), (1, "of 2")]);
    assert_eq!(profile.tree().total().nanoseconds, 10 + 10 + 100 + 200);
    assert_eq!(profile.seen_processes(), [0, 1]);

    let first = profile.of_process(0);
    assert_eq!(first.tree().total().nanoseconds, 110);
    let second = profile.of_process(1);
    assert_eq!(second.tree().total().nanoseconds, 210);
    assert_eq!(second.recording().pid, 102);
    assert_eq!(second.recording().counters.taken, 22);
    assert_eq!(second.processes(), [worker(102)]);
    assert_eq!(second.threads()[0].process, 0);
    // What was on top below `g`, which is the first function that source 2 described, is still its.
    let last = second.tree().ids().next_back().unwrap();
    let Frame::Call { function, .. } = second.tree().node(last).frame else {
        panic!("a call")
    };
    assert_eq!(second.functions()[function.index()].name, "g");
}

#[test]
fn bad_batches_change_nothing() {
    let mut builder = Builder::new(vec![process()]);
    builder.apply(&good()).unwrap();
    let before = builder.clone().finish(Recording::default());
    let with = |change: fn(&mut Batch)| {
        let mut batch = Batch {
            counters: Counters {
                taken: 99,
                ..Counters::default()
            },
            elapsed: 99,
            ..good()
        };
        batch.nodes.clear();
        change(&mut batch);
        batch
    };
    let bad = [
        (
            with(|b| b.threads[0].process = 1),
            BatchError::UnknownProcess {
                thread: 1,
                process: 1,
            },
        ),
        (
            with(|b| b.renamed.push((ThreadId(2), "x".into()))),
            BatchError::RenamedUnknown { thread: 2 },
        ),
        (
            with(|b| b.nodes.push(foot(2))),
            BatchError::UnknownThread { node: 2, thread: 2 },
        ),
        (
            with(|b| b.nodes.push(call(0, 2))),
            BatchError::UnknownFunction {
                node: 2,
                function: 2,
            },
        ),
        (
            with(|b| b.nodes.push(call(2, 0))),
            BatchError::UnknownParent { node: 2, parent: 2 },
        ),
        (
            with(|b| {
                b.nodes.push(Node {
                    parent: Some(NodeId(0)),
                    ..foot(0)
                });
            }),
            BatchError::Misplaced { node: 2 },
        ),
        (
            with(|b| {
                b.nodes.push(Node {
                    parent: None,
                    ..call(0, 0)
                });
            }),
            BatchError::Misplaced { node: 2 },
        ),
        (
            with(|b| b.observations.push(seen(u32::MAX, 1, 1))),
            BatchError::UnknownNode { node: u32::MAX },
        ),
        (
            with(|b| b.observations.push(seen(0, u64::MAX, 1))),
            BatchError::TooMuch,
        ),
        (
            with(|b| b.observations.push(seen(0, 1, u64::MAX))),
            BatchError::TooMuch,
        ),
        (
            with(|b| {
                for node in [0, 1] {
                    b.observations.push(Observation {
                        nanoseconds: Clocks {
                            waiting: u64::MAX,
                            ..Clocks::default()
                        },
                        ..seen(node, 1, 1)
                    });
                }
            }),
            BatchError::TooMuch,
        ),
    ];
    for (batch, error) in bad {
        assert_eq!(builder.apply(&batch), Err(error));
        assert_eq!(builder.counters().taken, 1);
        assert_eq!(builder.elapsed_ns(), 10);
        assert_eq!(builder.clone().finish(Recording::default()), before);
    }
}

#[test]
fn batches_add_up() {
    let mut builder = Builder::new(vec![process()]);
    builder.apply(&good()).unwrap();
    builder
        .apply(&Batch {
            renamed: vec![(ThreadId(0), "MainThread".into())],
            nodes: vec![call(1, 0)],
            observations: vec![seen(2, 5, 1), seen(1, 7, 1)],
            elapsed: 22,
            ..Batch::default()
        })
        .unwrap();
    assert_eq!(builder.elapsed_ns(), 22);
    let profile = builder.finish(Recording {
        pid: 1,
        ..Recording::default()
    });
    assert_eq!(profile.recording().pid, 1);
    assert_eq!(profile.threads()[0].name, "MainThread");
    assert_eq!(profile.tree().own(NodeId(1)).nanoseconds, 17);
    assert_eq!(profile.tree().totals()[0].samples, 3);
    assert!(!profile.is_empty());
}

#[test]
fn a_profile_that_saw_nothing_is_empty() {
    let mut builder = Builder::new(Vec::<Process>::new());
    builder.apply(&Batch::default()).unwrap();
    assert!(builder.finish(Recording::default()).is_empty());

    let mut builder = Builder::new(vec![process()]);
    let mut batch = good();
    batch.observations.clear();
    builder.apply(&batch).unwrap();
    assert!(builder.finish(Recording::default()).is_empty());
}

#[test]
fn an_id_that_does_not_fit_is_unknown() {
    let mut builder = Builder::new(vec![process()]);
    let batch = Batch {
        observations: vec![seen(NodeId::from_index(usize::MAX).0, 1, 1)],
        ..Batch::default()
    };
    let unknown = BatchError::UnknownNode { node: u32::MAX };
    assert_eq!(builder.apply(&batch), Err(unknown));
}

#[test]
fn time_can_be_forgotten_and_goes_on() {
    let mut builder = Builder::new(vec![process()]);
    builder.apply(&good()).unwrap();
    assert_eq!(builder.so_far().tree().own(NodeId(1)).nanoseconds, 10);
    builder.forget_time();
    assert!(builder.so_far().is_empty());
    assert_eq!(builder.so_far().functions().len(), 1);
    // The sum of all times begins anew too: this would not have fitted.
    builder
        .apply(&Batch {
            observations: vec![seen(1, u64::MAX, 1)],
            ..Batch::default()
        })
        .unwrap();
    let profile = builder.finish(Recording::default());
    assert_eq!(profile.tree().own(NodeId(1)).nanoseconds, u64::MAX);
}

#[test]
fn counters_can_be_subtracted() {
    let counters = |by: u64| Counters {
        taken: by,
        repaired: 2 * by,
        truncated: 3 * by,
        lost: 4 * by,
        late: 5 * by,
        skipped: 6 * by,
    };
    assert_eq!(counters(7).since(counters(3)), counters(4));
    assert_eq!(counters(1).since(counters(2)), counters(0));
}
