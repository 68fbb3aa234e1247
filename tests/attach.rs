//! `attach` and `dump` on every interpreter, and on targets that begin, change and end meanwhile.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::attempts::{ensure, holds_once};
use crate::support::folded;
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::process::Running;
use crate::support::pystrobe::{Finished, Session, pystrobe};
use crate::support::target::Target;
use crate::support::{line_of, machine, pstats, target_script};

on_each_version! {
    reads_a_running_program = reads_a_running_program;
    dumps_a_running_program = dumps_a_running_program;
    outlives_its_target = outlives_its_target;
    meets_an_interpreter_that_is_starting = meets_an_interpreter_that_is_starting;
}

/// `attach PID -d SECONDS`, and an `-o` for each output in a folder.
fn attach(target: &Target, seconds: &str, folder: &Path, outputs: &[&str]) -> Finished {
    let mut run = pystrobe(["attach", &target.pid().to_string(), "-d", seconds]);
    for output in outputs {
        run = run.arg("-o").arg(folder.join(output));
    }
    run.run().ok()
}

fn reads_a_running_program(python: &'static Interpreter) {
    let _turn = machine::shared();
    holds_once(|| {
        let target = Target::launch(python, "alternating.py", &[]);
        let folder = tempfile::tempdir().unwrap();
        let outputs = ["out.pstats", "flame.svg", "stacks.folded"];
        let finished = attach(&target, "1", folder.path(), &outputs);

        for reader in [python, interpreters::newest()] {
            tells_of_alternating(
                &pstats::read(reader, &folder.path().join(outputs[0])),
                &finished,
            )?;
        }
        let svg = std::fs::read_to_string(folder.path().join(outputs[1])).unwrap();
        assert!(svg.contains("fibonacci") && svg.contains(&python.full_version()[..4]));
        let stacks = std::fs::read_to_string(folder.path().join(outputs[2])).unwrap();
        let stacks = folded::parse(&stacks);
        assert!(
            stacks.iter().any(|stack| stack.has("fibonacci")),
            "{stacks:?}"
        );
        assert!(stacks.iter().any(|stack| stack.has("loop")), "{stacks:?}");

        let truth = target.stop();
        assert!(truth["loop"].as_f64().unwrap() > 0.0);
        let summary = finished.summary();
        ensure!(summary.samples > 20, "{summary:?}");
        ensure!((0.9..2.0).contains(&summary.seconds), "{summary:?}");
        ensure!(summary.lost * 20 <= summary.samples, "{summary:?}");
        Ok(())
    });
}

/// Holds a profile of `alternating.py` to what that program is.
fn tells_of_alternating(stats: &pstats::Stats, finished: &Finished) -> Result<(), String> {
    const FILE: &str = "alternating.py";
    stats.obeys_the_laws();
    let summary = finished.summary();
    let line = |start| line_of(FILE, start);
    assert_eq!(stats.key(FILE, "fibonacci").1, line("def fibonacci"));
    assert_eq!(stats.key(FILE, "recursion").1, line("def recursion"));
    assert_eq!(stats.key(FILE, "alternate").1, line("def alternate"));
    let callers = |name: &str| -> Vec<&str> {
        let row = stats.row(FILE, name);
        // Stacks that were cut short say so instead of a caller, and are counted.
        let (cut, callers): (Vec<_>, Vec<_>) = row
            .callers
            .iter()
            .partition(|edge| edge.key.2 == "<truncated>");
        let cut: u64 = cut.iter().map(|edge| edge.cc).sum();
        assert!(cut <= summary.truncated, "{cut} of {name} in {summary:?}");
        let mut names: Vec<_> = callers.iter().map(|edge| edge.key.2.as_str()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(callers("fibonacci"), ["fibonacci", "recursion"]);
    assert_eq!(callers("recursion"), ["alternate"]);
    assert_eq!(callers("loop"), ["alternate"]);
    assert_eq!(callers("alternate"), ["<module>"]);
    let recursive = stats.row(FILE, "fibonacci");
    assert!(recursive.nc > recursive.cc, "{recursive:?}");
    let flat = stats.row(FILE, "loop");
    assert_eq!(flat.nc, flat.cc, "{flat:?}");
    ensure!(
        summary.truncated * 50 <= summary.samples + 50,
        "{summary:?}"
    );
    // All that this program does, it does below `alternate`.
    let truncated = summary.truncated as f64 / summary.samples as f64;
    let (below, all) = (stats.row(FILE, "alternate").ct, stats.own_time());
    ensure!(
        below > (0.98 - truncated) * all,
        "{below} s below `alternate`, of {all} s: {summary:?}"
    );
    Ok(())
}

fn dumps_a_running_program(python: &'static Interpreter) {
    let _turn = machine::shared();
    let target = Target::launch(python, "threads.py", &["3"]);
    let pid = target.pid().to_string();

    let text = pystrobe(["dump", &pid]).run().ok().text();
    for name in ["MainThread", "waiter-000", "waiter-001", "waiter-002"] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(
        text.contains("threads.py") && text.contains("work"),
        "{text}"
    );
    assert!(text.contains("over.wait()"), "the source line in {text}");

    let json = pystrobe(["dump", "--json", &pid]).run().ok().text();
    let dumped: serde_json::Value = serde_json::from_str(&json).unwrap();
    let threads = dumped["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 4, "{json}");
    let main = threads
        .iter()
        .find(|thread| thread["name"] == "MainThread")
        .unwrap();
    let frames = main["frames"].as_array().unwrap();
    let names: Vec<_> = frames
        .iter()
        .map(|frame| frame["function"].as_str().unwrap())
        .collect();
    assert_eq!(names.last(), Some(&"<module>"), "{json}");
    assert!(names.contains(&"work"), "{json}");
    let outermost = frames.last().unwrap();
    let calls_work = line_of("threads.py", "work()");
    assert_eq!(outermost["line"], calls_work, "{json}");
    for thread in threads {
        if thread["name"] != "MainThread" {
            assert_eq!(thread["state"], "idle", "{json}");
        }
    }
}

/// `pystrobe attach` until something ends it. It is back when it samples.
fn sampling(target: &Target, file: &Path) -> Session {
    let session = pystrobe(["attach", &target.pid().to_string(), "-o"])
        .arg(file)
        .start();
    session.is_sampling();
    session
}

fn outlives_its_target(python: &'static Interpreter) {
    let _turn = machine::shared();
    holds_once(|| {
        let target = Target::launch(python, "alternating.py", &[]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.pstats");
        let session = sampling(&target, &file);
        target.stop();
        let finished = session.finish().ok();
        assert!(finished.summary().samples > 10);
        tells_of_alternating(&pstats::read(python, &file), &finished)
    });
}

fn meets_an_interpreter_that_is_starting(python: &'static Interpreter) {
    let _turn = machine::shared();
    for round in 0..8 {
        let mut command = python.command();
        command.args(["-c", "import json, decimal, time; time.sleep(2)"]);
        let running = Running::start(&mut command);
        // Not a wait for anything: each round shall meet another moment of the start.
        std::thread::sleep(Duration::from_micros(1500 * round));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.pstats");
        pystrobe(["attach", &running.pid().to_string(), "-d", "0.3", "-o"])
            .arg(&file)
            .run()
            .ok();
        pstats::read(python, &file).obeys_the_laws();
    }
}

/// 2.7 and 3.6 are read by another hand, which pauses them. They are not demanded, since few machines have them.
#[test]
fn reads_what_is_older_than_3_8() {
    for version in ["2.7", "3.6", "3.7"] {
        interpreters::on(version, |python| {
            let _turn = machine::shared();
            holds_once(|| {
                let target = Target::launch(python, "alternating.py", &[]);
                let folder = tempfile::tempdir().unwrap();
                let finished = attach(&target, "1", folder.path(), &["out.pstats"]);
                let notes: Vec<_> = finished
                    .stderr
                    .lines()
                    .filter(|line| line.contains("pause"))
                    .collect();
                assert_eq!(
                    notes.len(),
                    1,
                    "one line says that it is paused: {finished:?}"
                );
                let stats = pstats::read(interpreters::newest(), &folder.path().join("out.pstats"));
                tells_of_alternating(&stats, &finished)?;
                let text = pystrobe(["dump", &target.pid().to_string()])
                    .run()
                    .ok()
                    .text();
                assert!(text.contains("alternate"), "{text}");
                target.stop();
                Ok(())
            });
        });
    }
}

#[test]
fn reads_a_virtual_environment() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        for kind in ["--symlinks", "--copies"] {
            let folder = tempfile::tempdir().unwrap();
            let venv = folder.path().join("venv");
            python.output(&["-m", "venv", "--without-pip", kind, venv.to_str().unwrap()]);
            let mut command = Command::new(venv.join("bin/python"));
            command.arg("-B").arg(target_script("alternating.py"));
            let target = Target::start(&mut command);
            holds_once(|| {
                let finished = attach(&target, "0.5", folder.path(), &["out.pstats"]);
                tells_of_alternating(
                    &pstats::read(python, &folder.path().join("out.pstats")),
                    &finished,
                )
            });
        }
    }
}

#[test]
fn takes_the_process_id_as_an_option_too() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    for option in ["--pid", "-p"] {
        let table = pystrobe(["attach", option, &pid, "-d", "0.5"])
            .run()
            .ok()
            .text();
        assert!(table.contains("fibonacci"), "{table}");
    }
}

#[test]
fn follows_or_ends_properly_when_the_target_becomes_another_python() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        for successor in interpreters::one_per_family() {
            let arguments = [
                successor.path.to_str().unwrap(),
                "-B",
                target_script("alternating.py").to_str().unwrap(),
            ]
            .map(str::to_owned);
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let mut target = Target::launch(python, "becomes.py", &arguments);
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("out.pstats");
            let session = pystrobe(["attach", &target.pid().to_string(), "-d", "3", "-o"])
                .arg(&file)
                .start();
            session.is_sampling();
            target.signal(Signal::SIGTERM);
            assert!(target.line().starts_with("ready"));
            session.finish().ok();
            let stats = pstats::read(interpreters::newest(), &file);
            stats.obeys_the_laws();
            assert!(stats.row("becomes.py", "before").tt > 0.0);
            for (file, _, name) in stats.keys() {
                let known = file.ends_with(".py") || file.starts_with('<') || file == "~";
                assert!(known && !name.is_empty(), "{file} {name}");
            }
        }
    }
}

#[test]
fn ends_when_the_target_becomes_something_else() {
    let _turn = machine::shared();
    let sleep = ["/bin/sleep", "60"];
    for python in interpreters::one_per_family() {
        let mut target = Target::launch(python, "becomes.py", &sleep);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.pstats");
        let session = sampling(&target, &file);
        target.signal(Signal::SIGTERM);
        let finished = session.finish().ok();
        assert!(target.is_running());
        let stats = pstats::read(python, &file);
        assert!(stats.row("becomes.py", "before").tt > 0.0, "{finished:?}");
    }
}

#[test]
fn stays_with_the_parent_of_forks() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let target = Target::launch(python, "forking.py", &[]);
            let folder = tempfile::tempdir().unwrap();
            let finished = attach(&target, "1.5", folder.path(), &["out.pstats"]);
            let stats = pstats::read(python, &folder.path().join("out.pstats"));
            stats.obeys_the_laws();
            assert_eq!(stats.find("forking.py", "child_work").count(), 0);
            let forks = target.stop()["forks"].as_u64().unwrap();
            let seen = stats.row("forking.py", "parent_work").tt;
            ensure!(
                forks > 2 && seen > 0.5 * finished.summary().seconds,
                "{forks} forks, {seen} s in the parent: {finished:?}"
            );
            Ok(())
        });
    }
}

/// A target that is stopped, as by Ctrl-Z, is one that stands still for a while.
#[test]
fn reads_a_stopped_target() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        let mut target = Target::launch(python, "alternating.py", &[]);
        target.signal(Signal::SIGSTOP);
        let folder = tempfile::tempdir().unwrap();
        holds_once(|| {
            attach(&target, "0.3", folder.path(), &["out.pstats"]);
            let stats = pstats::read(python, &folder.path().join("out.pstats"));
            stats.obeys_the_laws();
            let seen = stats.row("alternating.py", "<module>").ct;
            ensure!((seen - 0.3).abs() < 0.1, "{seen} of 0.3 s");
            Ok(())
        });
        target.signal(Signal::SIGCONT);
        target.stop();
    }
}

/// Looks at a target as often as it can while pystrobe records it, and tells whether it was ever seen traced.
fn is_seen_traced(target: &Target, options: &[&str]) -> bool {
    let pid = target.pid().to_string();
    let mut session = pystrobe(["attach", &pid, "-d", "1", "-r", "5khz"])
        .args(options)
        .start();
    let mut traced = false;
    while session.running.ended().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        traced |= !status.contains("TracerPid:\t0\n") || status.contains("State:\tt");
    }
    session.finish().ok();
    traced
}

#[test]
fn stops_the_target_only_when_asked_to() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        let target = Target::launch(python, "alternating.py", &[]);
        assert!(!is_seen_traced(&target, &[]));
        assert!(is_seen_traced(&target, &["--blocking"]));
        assert!(target.stop()["loop"].as_f64().unwrap() > 0.0);
    }
}
