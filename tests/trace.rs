//! Every call: as long as the program itself says, and however the program ends. How often is compared in `trace_cprofile.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use pystrobe_profile::{Frame, Profile, StatsTable, TreeIndex};
use serde_json::Value;

use crate::support::attempts::{ensure, holds_once};
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::pystrobe::pystrobe;
use crate::support::traced::Traced;
use crate::support::{line_of, machine, pstats, target_script};

on_each_version! {
    is_right_in_threads = is_right_in_threads;
    saves_however_the_program_ends = saves_however_the_program_ends;
    leaves_others_their_events = leaves_others_their_events;
}

/// Seconds in a function and all that it calls, and its calls, per thread by the thread's name.
fn by_thread(profile: &Profile, name: &str) -> BTreeMap<String, (u64, f64)> {
    let tree = profile.tree();
    let mut index = TreeIndex::default();
    index.update(tree);
    let totals = tree.totals();
    let mut found: BTreeMap<String, (u64, f64)> = BTreeMap::new();
    for id in tree.ids() {
        let Frame::Call { function, .. } = tree.node(id).frame else {
            continue;
        };
        if profile.functions()[function.index()].name == name {
            let thread = index.thread(id.index());
            let entry = found
                .entry(profile.threads()[thread.index()].name.clone())
                .or_default();
            entry.0 += tree.own(id).samples;
            entry.1 += totals[id.index()].nanoseconds as f64 / 1e9;
        }
    }
    found
}

fn is_right_in_threads(python: &'static Interpreter) {
    let _turn = machine::alone();
    holds_once(|| {
        let traced = Traced::by(python);
        let finished = traced.run(&[], "traced_threads.py", &[]).ok();
        let told: BTreeMap<String, (u64, u64, f64)> =
            serde_json::from_str(&finished.text()).unwrap();
        assert_eq!(told.len(), 8);
        let profile = traced.profile();
        let (leaf, inner, spin) = (
            by_thread(&profile, "leaf"),
            by_thread(&profile, "inner"),
            by_thread(&profile, "spin"),
        );
        for (name, (leaves, inners, _)) in &told {
            assert_eq!(leaf[name].0, *leaves, "{name}");
            assert_eq!(inner[name].0, *inners, "{name}");
            assert_eq!(spin[name].0, 1, "{name}");
        }
        for (name, (_, _, seconds)) in told {
            let measured = spin[&name].1;
            // What it takes to call and to record a function is the difference, and up to 5 ms of waiting for the GIL around it.
            assert!(
                measured <= seconds + 1e-4,
                "{name}: {measured} s of {seconds} s"
            );
            ensure!(
                measured > seconds * 0.9 - 0.005,
                "{name}: {measured} s of {seconds} s"
            );
        }
        Ok(())
    });
}

fn saves_however_the_program_ends(python: &'static Interpreter) {
    let _turn = machine::shared();
    let endings: [(&[&str], i32); 6] = [
        (&["return"], 0),
        (&["exit", "7"], 7),
        (&["raise"], 1),
        (&["_exit", "3"], 3),
        (&["signal", "9"], 128 + 9),
        (&["signal", "15"], 128 + 15),
    ];
    for (ending, code) in endings {
        let traced = Traced::by(python);
        // It works for a time that a clock tells it, that of the tracer included.
        let finished = traced.run(&["--no-correction"], "ending.py", ending);
        assert_eq!(finished.code(), code, "{ending:?}: {finished:?}");
        assert_eq!(finished.text(), "worked\n");
        let table = traced.table();
        let line = line_of("ending.py", "def work");
        let script = target_script("ending.py");
        let work = table.find(script.to_str().unwrap(), line, "work").unwrap();
        assert_eq!(work.nc, 1, "{ending:?}");
        assert!((0.04..1.0).contains(&work.ct), "{ending:?}: {work:?}");
    }

    // The traceback is what it would be without us.
    let script = target_script("ending.py");
    let plain = python.command().arg(&script).arg("raise").output().unwrap();
    let finished = Traced::by(python)
        .trace(&["-q"])
        .arg(&script)
        .arg("raise")
        .run();
    assert_eq!(finished.stderr, String::from_utf8_lossy(&plain.stderr));
}

fn leaves_others_their_events(python: &'static Interpreter) {
    let _turn = machine::shared();
    for how in ["setprofile", "settrace", "threading", "monitoring"] {
        if how == "monitoring" && python.version < (3, 12, 0) {
            continue;
        }
        let script = target_script("own_events.py");
        let plain = python.output(&[script.to_str().unwrap(), how]);
        let traced = Traced::by(python);
        let finished = traced.run(&[], "own_events.py", &[how]).ok();
        assert_eq!(finished.text(), plain, "{how}");
        assert_eq!(traced.calls("own_events.py", "callee"), 10, "{how}");
        assert_eq!(traced.calls("own_events.py", "after"), 100, "{how}");
    }
}

/// Its tracer in C, which was installed for the readers' Python; everywhere the one in Python, and from 3.12 on the one by `sys.monitoring`.
#[test]
fn coverage_measures_as_without_us() {
    let _turn = machine::shared();
    let (Some(readers), Some(programs)) = (interpreters::readers(), interpreters::programs())
    else {
        return;
    };
    coverage_is_the_same(&readers.join("bin/python"), programs, "ctrace");
    for python in interpreters::one_per_family() {
        coverage_is_the_same(&python.path, programs, "pytrace");
        if python.version >= (3, 12, 0) {
            coverage_is_the_same(&python.path, programs, "sysmon");
        }
    }
}

fn coverage_is_the_same(python: &Path, programs: &Path, core: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = target_script("ending.py");
    let report = |trace: bool| -> Value {
        let words = ["-m", "coverage", "run", "--data-file=data"];
        let mut command = match trace {
            true => {
                let mut command = Command::new(crate::support::pystrobe::PROGRAM);
                command.args(["trace", "-q", "-o", "out.pstats", "--python"]);
                command.arg(python);
                command
            }
            false => Command::new(python),
        };
        let output = command
            .args(words)
            .arg(&script)
            .arg("return")
            .env("PYTHONPATH", programs)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("COVERAGE_CORE", core)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{python:?} {core}: {output:?}");
        let output = Command::new(python)
            .args(["-m", "coverage", "json", "--data-file=data", "-o", "-"])
            .env("PYTHONPATH", programs)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{python:?} {core}: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["files"].clone()
    };
    let plain = report(false);
    assert!(plain.as_object().is_some_and(|files| !files.is_empty()));
    assert_eq!(report(true), plain, "{python:?} {core}");
}

#[test]
fn c_functions_and_limits_are_optional() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        let script = ["exit", "0"];
        let all = Traced::by(python);
        all.run(&[], "ending.py", &script).ok();
        let of_c = |traced: &Traced| {
            let table = traced.table();
            let rows = table.rows().iter();
            rows.filter(|row| row.key.name.starts_with("<built-in "))
                .count()
        };
        assert!(of_c(&all) > 0);

        let python_only = Traced::by(python);
        python_only
            .run(&["--no-builtins"], "ending.py", &script)
            .ok();
        assert_eq!(of_c(&python_only), 0);
        assert_eq!(python_only.calls("ending.py", "work"), 1);

        let only = Traced::by(python);
        only.run(&["--only", "__main__:work"], "ending.py", &script)
            .ok();
        assert_eq!(only.calls("ending.py", "work"), 1);
        assert_eq!(only.calls("ending.py", "<module>"), 0);

        let none = Traced::by(python);
        let finished = none
            .trace(&["--only", "no.such.module"])
            .arg(target_script("ending.py"))
            .arg("return")
            .run();
        assert_eq!(finished.code(), 8, "{finished:?}");
        assert!(
            finished.stderr.contains("no call was counted"),
            "{finished:?}"
        );
        assert!(!none.file().exists());
    }
}

/// A tree with more places than are allowed: no call is lost, only where some of them were made.
#[test]
fn calls_beyond_the_limit_are_counted_and_told() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        let code = "def f(n):\n    return n and f(n - 1) + f(n - 1)\nimport sys\n\
                    def deep(n):\n    return n and deep(n - 1)\nsys.setrecursionlimit(4000)\n\
                    for _ in range(3): deep(3000)\nf(10)\n";
        let traced = Traced::by(python);
        let finished = traced
            .trace(&["--max-places", "1024"])
            .args(["-c", code])
            .run()
            .ok();
        let warning = finished
            .stderr
            .lines()
            .find(|line| line.contains("--max-places"))
            .unwrap_or_else(|| panic!("{finished:?}"));
        let counters = traced.profile().recording().counters;
        let folded = format!(" {} calls ", counters.truncated);
        assert!(warning.contains(&folded), "{warning}");
        let calls = 3 * 3001 + (2_u64.pow(11) - 1);
        assert!(
            (calls..calls + 100).contains(&counters.taken),
            "{calls}, {counters:?}"
        );
        assert!(traced.profile().tree().len() <= 1100);
    }
}

/// The tracer's own time is not the program's: a function that makes many calls of nothing.
#[test]
fn raw_times_are_longer_than_corrected_ones() {
    let _turn = machine::alone();
    let python = interpreters::newest();
    let code = "def leaf(): pass\ndef many():\n    for _ in range(300000): leaf()\nmany()\n";
    let time = |options: &[&str]| {
        let traced = Traced::by(python);
        let finished = traced.trace(options).args(["-c", code]).run().ok();
        let word = if options.is_empty() {
            ", subtracted"
        } else {
            ", not subtracted"
        };
        assert!(finished.stderr.contains(word), "{finished:?}");
        let profile = traced.profile();
        let table = StatsTable::of(&profile);
        let many = table
            .rows()
            .iter()
            .find(|row| &*row.key.name == "many")
            .unwrap();
        many.tt
    };
    // Noise makes times longer, so the shortest of some is next to none of it.
    let shortest = |options: &[&str]| (0..5).map(|_| time(options)).fold(f64::INFINITY, f64::min);
    let (corrected, raw) = (shortest(&[]), shortest(&["--no-correction"]));
    println!("corrected {corrected}, raw {raw}");
    assert!(corrected < 0.8 * raw, "corrected {corrected}, raw {raw}");
}

/// The share of a function that makes many small calls is nearer to what a clock says without us where the cost of the calls is subtracted: at most half as far from it.
/// A machine that slows down between two runs shows something else, so it may take several attempts; a wrong correction is wrong in each.
#[test]
fn corrected_shares_are_nearer_to_the_truth() {
    let _turn = machine::alone();
    for version in ["3.8", "3.11", "3.12", "3.15"] {
        interpreters::on_any(version, |python| {
            let share = |options: &[&str]| -> f64 {
                let traced = Traced::by(python);
                traced.run(options, "small_calls.py", &[]).ok();
                let table = traced.table();
                let seconds = |name: &str| {
                    let mut rows = table.rows().iter();
                    rows.find(|row| &*row.key.name == name).unwrap().ct
                };
                let (many, none) = (seconds("many_calls"), seconds("no_calls"));
                many / (many + none)
            };
            let script = target_script("small_calls.py");
            let found = (0..5).any(|_| {
                let told = python.output(&[script.to_str().unwrap()]);
                let truth: f64 = told.trim().parse().unwrap();
                let (raw, corrected) = (share(&["--no-correction"]), share(&[]));
                println!(
                    "{version}: {truth:.3} is true, {raw:.3} measured, {corrected:.3} corrected"
                );
                raw > truth && (corrected - truth).abs() < (raw - truth) / 2.0
            });
            assert!(found, "{version}");
        });
    }
}

#[test]
fn programs_that_keep_the_tracer_out_are_told_so() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    for option in ["-I", "-S", "-E"] {
        let traced = Traced::by(python);
        let finished = pystrobe(["trace", "-o"])
            .arg(traced.file())
            .arg("--")
            .arg(&python.path)
            .args([option, "-c", "print('ran'); raise SystemExit(5)"])
            .run();
        assert_eq!(finished.code(), 5, "{finished:?}");
        assert_eq!(finished.text(), "ran\n");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(
            finished.stderr.contains("nothing was traced"),
            "{finished:?}"
        );
        assert!(!traced.file().exists());
    }
    let finished = pystrobe(["trace", "--", "true"]).run().ok();
    assert!(
        finished.stderr.contains("nothing was traced"),
        "{finished:?}"
    );
}

/// Yesterday's profile stays where today's does not come to be, and a bad path fails before the program starts.
#[test]
fn outputs_are_as_those_of_run() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let traced = Traced::by(python);
    std::fs::write(traced.file(), "yesterday").unwrap();
    traced.trace(&["-S", "x"]).run().failed(2, &["-S"]);
    assert_eq!(std::fs::read(traced.file()).unwrap(), b"yesterday");
    let missing = traced.folder.path().join("missing/out.pstats");
    pystrobe(["trace", "-o"])
        .arg(&missing)
        .args(["-c", "print('started')"])
        .run()
        .failed(9, &["missing"]);

    let (svg, folded) = (
        traced.folder.path().join("a.svg"),
        traced.folder.path().join("a.folded"),
    );
    let finished = traced
        .trace(&["--threads"])
        .arg("-o")
        .arg(&svg)
        .arg("-o")
        .arg(&folded)
        .args(["-o", "-", "-c", "def f(): pass\nf()"])
        .run()
        .ok();
    assert!(finished.text().contains("  calls  "), "{finished:?}");
    assert!(std::fs::read_to_string(&svg).unwrap().contains(" calls, "));
    let stacks = std::fs::read_to_string(&folded).unwrap();
    assert!(stacks.contains("thread MainThread"), "{stacks}");
    assert!(stacks.contains(";f (<string>:1) "), "{stacks}");
    let stats = pstats::read(python, &traced.file());
    assert_eq!(stats.row("<string>", "f").nc, 1);

    // What was traced can be converted, but knows one clock and no samples.
    let convert = |options: &[&str]| pystrobe(["convert"]).arg(traced.file()).args(options).run();
    let table = convert(&["-q"]).ok().text();
    assert!(table.contains("  calls  "), "{table}");
    convert(&["--mode", "cpu"]).failed(10, &["cpu time was not measured"]);
    convert(&["--pstats-flavor", "3.15", "-o", "x.pstats"]).failed(10, &["counts calls"]);
}

#[test]
fn each_process_is_traced_if_asked_for() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        for method in ["fork", "spawn"] {
            let traced = Traced::by(python);
            let alone = traced.run(&[], "processes.py", &[method]).ok();
            assert_eq!(alone.text(), "33318335000\n");
            assert_eq!(traced.profile().processes().len(), 1);
            assert_eq!(traced.calls("processes.py", "piece"), 0, "{method}");

            let each = traced.folder.path().join("each-{pid}.pstats");
            let finished = traced
                .trace(&["--subprocesses"])
                .arg("-o")
                .arg(&each)
                .arg(target_script("processes.py"))
                .arg(method)
                .run()
                .ok();
            assert_eq!(finished.text(), "33318335000\n");
            let profile = traced.profile();
            assert_eq!(
                traced.calls("processes.py", "piece"),
                4,
                "{method}: {finished:?}"
            );
            assert_eq!(traced.calls("processes.py", "main"), 1, "{method}");
            let files = std::fs::read_dir(traced.folder.path()).unwrap();
            let names: Vec<_> = files
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| name.starts_with("each-"))
                .collect();
            assert_eq!(names.len(), profile.seen_processes().len(), "{names:?}");
            // A forked process has its parent's command line, a spawned one its own.
            for process in profile.seen_processes() {
                let process = &profile.processes()[process];
                let expected = ["processes.py", "multiprocessing"];
                let named = expected.iter().any(|word| process.command.contains(word));
                assert!(named, "{process:?}");
            }
            // The pool may be over before its second worker has called anything.
            assert!(names.len() >= 2, "{names:?}");
        }
    }
}
