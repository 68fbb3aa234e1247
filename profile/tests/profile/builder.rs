//! The builder believes no id.

use pystrobe_profile::{
    Batch, BatchError, Builder, Counters, Frame, FunctionId, Node, NodeId, Observation, Process,
    Recording, ThreadId,
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
        nanoseconds,
        samples,
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
