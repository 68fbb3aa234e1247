//! `trace --pid`: a program that runs is traced for a while, and then is as it was.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::calls;
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::pystrobe::{Session, pystrobe};
use crate::support::target::Target;
use crate::support::{machine, pstats};

on_each_version! {
    counts_the_calls_of_a_running_program = counts_the_calls_of_a_running_program;
    a_first_signal_saves_and_a_second_aborts = a_first_signal_saves_and_a_second_aborts;
}

const SCRIPT: &str = "traced_while_running.py";
/// What the program maps while it is traced; the agent stays mapped ever after.
const AGENT: &str = "pystrobe_agent";
const RECORDING: &str = "first.calls";

/// `pystrobe trace --pid` until somebody ends it. It is back when the tracer is in the program, which is seen by `mapped`, a word of what the program maps then: the
/// agent, or for a second time, when that is there already, the recording.
fn begin(target: &Target, file: &Path, mapped: &str) -> Session {
    let session = pystrobe(["trace", "--pid", &target.pid().to_string(), "-o"])
        .arg(file)
        .start();
    let maps = format!("/proc/{}/maps", target.pid());
    let began = Instant::now();
    while !std::fs::read_to_string(&maps).unwrap().contains(mapped) {
        assert!(
            began.elapsed() < Duration::from_secs(60) && !session.stderr.is_over(),
            "the tracer does not come in: {}",
            String::from_utf8_lossy(&session.stderr.so_far())
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    session
}

fn nothing_is_left(truth: &Value) {
    assert_eq!(truth["left"], Value::Array(Vec::new()), "{truth}");
}

fn file_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("out.pstats")
}

fn counts_the_calls_of_a_running_program(python: &'static Interpreter) {
    let _turn = machine::shared();
    let target = Target::launch(python, SCRIPT, &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = file_in(&folder);
    // Twice: the second time the agent is there already.
    for _ in 0..2 {
        let finished = pystrobe(["trace", "--pid", &target.pid().to_string(), "-d", "1", "-o"])
            .arg(&file)
            .run()
            .ok();
        assert!(finished.stderr.contains(" calls of "), "{finished:?}");
        let stats = pstats::read(python, &file);
        let (step, leaf) = (stats.row(SCRIPT, "step"), stats.row(SCRIPT, "leaf"));
        assert!(step.nc > 100, "{step:?}");
        // The first and the last step may have been seen in part.
        assert!(leaf.nc.abs_diff(3 * step.nc) <= 3, "{leaf:?} {step:?}");
        let profile = calls::profile(&file);
        let names: Vec<_> = profile
            .threads()
            .iter()
            .map(|thread| &thread.name)
            .collect();
        assert!(names.iter().any(|name| *name == "worker"), "{names:?}");
        // Of the line that lets the tracer in and out, nothing is counted.
        let functions = profile.functions().iter();
        let odd: Vec<_> = functions
            .filter(|function| {
                function.name.contains("posix") || function.file.contains("<string>")
            })
            .collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
    let stats = pstats::read(python, &file);
    let counted = stats.row(SCRIPT, "step").nc;
    let truth = target.stop();
    nothing_is_left(&truth);
    assert!(truth["steps"].as_u64().unwrap() > counted, "{truth}");
}

fn a_first_signal_saves_and_a_second_aborts(python: &'static Interpreter) {
    let _turn = machine::shared();
    let target = Target::launch(python, SCRIPT, &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = file_in(&folder);
    let mut session = begin(&target, &file, AGENT);
    session.running.signal(Signal::SIGINT);
    let finished = session.finish().ok();
    assert!(finished.stderr.contains(" calls of "), "{finished:?}");
    assert!(!calls::profile(&file).is_empty());

    std::fs::remove_file(&file).unwrap();
    let mut session = begin(&target, &file, RECORDING);
    // The main thread rests, so the tracer is not out before the second one comes.
    session.running.signal(Signal::SIGINT);
    session.running.signal(Signal::SIGTERM);
    let finished = session.finish();
    assert!(!finished.status.success(), "{finished:?}");
    assert!(!file.exists());
    nothing_is_left(&target.stop());
}

#[test]
fn what_was_counted_is_saved_when_the_program_ends() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        let target = Target::launch(python, SCRIPT, &[]);
        let folder = tempfile::tempdir().unwrap();
        let file = file_in(&folder);
        let session = begin(&target, &file, AGENT);
        target.stop();
        let finished = session.finish().ok();
        assert!(finished.stderr.contains(" calls of "), "{finished:?}");
        assert!(!calls::profile(&file).is_empty());
    }
}

#[test]
fn what_cannot_be_traced_is_told_and_left_alone() {
    let _turn = machine::shared();
    let python = interpreters::one_per_family()[0];
    let mut target = Target::launch(python, SCRIPT, &[]);
    let trace = |pid: u32| {
        let folder = tempfile::tempdir().unwrap();
        let finished = pystrobe(["trace", "--pid", &pid.to_string(), "-d", "1", "-o"])
            .arg(file_in(&folder))
            .run();
        assert!(!file_in(&folder).exists());
        finished
    };
    target.signal(Signal::SIGSTOP);
    let stopped = trace(target.pid());
    target.signal(Signal::SIGCONT);
    stopped.failed(13, &["is stopped", "kill -CONT"]);
    trace(u32::try_from(i32::MAX).unwrap()).failed(3, &["there is no process"]);
    trace(std::process::id()).failed(4, &["Python"]);
    nothing_is_left(&target.stop());
}
