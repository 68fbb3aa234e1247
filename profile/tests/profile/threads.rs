//! Names of threads, and profiles of only some of them.

use pystrobe_profile::{
    Batch, Builder, Frame, Process, Profile, Recording, StatsTable, Thread, escape,
};

use crate::recorder::{Sample, function, process, record, thread};

fn of_threads(processes: Vec<Process>, threads: Vec<Thread>) -> Profile {
    let mut builder = Builder::new(processes);
    let batch = Batch {
        threads,
        ..Batch::default()
    };
    builder.apply(&batch).unwrap();
    builder.finish(Recording::default())
}

#[test]
fn names_are_unique() {
    let unknown = Thread {
        native_id: None,
        ..thread("", 13)
    };
    let other_interpreter = Thread {
        interpreter: 2,
        ..thread("MainThread", 10)
    };
    let profile = of_threads(
        vec![process()],
        vec![
            thread("MainThread", 10),
            thread("worker", 11),
            thread("worker", 12),
            unknown,
            other_interpreter,
            thread("worker", 12),
            thread("a\nb", 15),
            thread("", 16),
            thread("16", 17),
        ],
    );
    assert_eq!(
        profile.thread_names(),
        [
            "MainThread (10)",
            "worker (11)",
            "worker (12)",
            "1000013",
            "MainThread (10, interpreter 2)",
            "worker (12) #2",
            "a\\nb",
            "16",
            "16 (17)",
        ]
    );
}

#[test]
fn names_tell_processes_apart() {
    let child = Process {
        pid: 5000,
        ..process()
    };
    let of_child = Thread {
        process: 1,
        ..thread("MainThread", 5000)
    };
    let profile = of_threads(
        vec![process(), child],
        vec![thread("MainThread", 4242), of_child, thread("io", 4243)],
    );
    assert_eq!(
        profile.thread_names(),
        [
            "MainThread (4242, pid 4242)",
            "MainThread (5000, pid 5000)",
            "io (pid 4242)",
        ]
    );
}

#[test]
fn processes_that_had_the_same_id() {
    let of = |pid| Process { pid, ..process() };
    let profile = of_threads(vec![of(7), of(8), of(7), of(7)], Vec::new());
    assert_eq!(profile.process_names(), ["7", "8", "7-2", "7-3"]);
    assert!(profile.seen_processes().is_empty());
}

#[test]
fn many_threads_of_one_name() {
    let profile = of_threads(vec![process()], vec![thread("x", 1); 50_000]);
    let names = profile.thread_names();
    assert_eq!(names[0], "x (1)");
    assert_eq!(names[49_999], "x (1) #50000");
}

#[test]
fn only_some_threads() {
    let functions: Vec<_> = ["main", "work", "io"]
        .map(|name| function("a.py", 1, name, ""))
        .to_vec();
    let sample = |thread, stack: &[usize], nanoseconds| Sample {
        thread,
        stack: stack.iter().map(|&function| (function, 2)).collect(),
        nanoseconds,
        samples: 1,
    };
    let threads = [thread("a", 1), thread("b", 2), thread("c", 3)];
    let profile = record(
        &functions,
        &threads,
        &[
            sample(0, &[0, 1], 5),
            sample(1, &[2], 7),
            sample(2, &[2, 1], 11),
            sample(2, &[2], 13),
        ],
    );
    let kept = profile.with_threads(|thread| thread.name == "c");
    assert_eq!(kept.threads(), [thread("c", 3)]);
    assert_eq!(kept.recording(), profile.recording());
    assert_eq!(kept.tree().total().nanoseconds, 24);
    let names: Vec<&str> = kept.functions().iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["io", "work"]);
    let table = StatsTable::of(&kept);
    assert_eq!(table.find("a.py", 1, "work").unwrap().tt, 11e-9);
    assert_eq!(table.find("a.py", 1, "main"), None);

    assert_eq!(profile.with_threads(|_| true).tree(), profile.tree());
    let none = profile.with_threads(|_| false);
    assert!(none.is_empty() && none.tree().is_empty() && none.functions().is_empty());
    let feet = kept.tree().ids().map(|id| kept.tree().node(id).frame);
    assert_eq!(
        feet.filter(|frame| matches!(frame, Frame::Thread(_)))
            .count(),
        1
    );
}

#[test]
fn escapes() {
    assert_eq!(escape("C:\\new\\file é 漢.py"), "C:\\new\\file é 漢.py");
    assert_eq!(
        escape("a\nb\r\t\0\x1b[0m\x7f"),
        "a\\nb\\r\\t\\x00\\x1b[0m\\x7f"
    );
    assert_eq!(
        escape("\u{85}\u{2028}\u{2029}\u{fffe}\u{ffff}"),
        "\\x85\\u2028\\u2029\\ufffe\\uffff"
    );
}
