//! Targets that are deep, long, many, or oddly named.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::attempts::{ensure, holds_once};
use crate::support::folded::{self, Stack};
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::pystrobe::{Summary, pystrobe};
use crate::support::target::Target;
use crate::support::{line_of, machine, pstats, target_script};

on_each_version! {
    reads_5_000_frames = |python| reads_deep_stacks(python, 5_000);
    reads_20_000_frames = |python| reads_deep_stacks(python, 20_000);
    reads_a_module_of_20_000_statements = reads_a_module_of_20_000_statements;
    reads_200_threads = reads_200_threads;
    reads_odd_names = reads_odd_names;
    reads_files_whose_names_are_not_utf_8 = reads_files_whose_names_are_not_utf_8;
    reads_sub_interpreters = reads_sub_interpreters;
}

/// Records a target into a pstats file and folded stacks, and reads both back.
fn record(
    python: &Interpreter,
    target: &Target,
    options: &[&str],
) -> (pstats::Stats, Vec<Stack>, Summary) {
    let folder = tempfile::tempdir().unwrap();
    let (table, stacks) = (
        folder.path().join("out.pstats"),
        folder.path().join("stacks.folded"),
    );
    let finished = pystrobe(["attach", &target.pid().to_string()])
        .args(options)
        .args([Path::new("-o"), &table, Path::new("-o"), &stacks])
        .run()
        .ok();
    let stats = pstats::read(python, &table);
    stats.obeys_the_laws();
    let stacks = folded::parse(&std::fs::read_to_string(&stacks).unwrap());
    (stats, stacks, finished.summary())
}

fn reads_deep_stacks(python: &'static Interpreter, depth: u64) {
    let _turn = machine::shared();
    let target = Target::launch(python, "deep.py", &[&depth.to_string()]);
    holds_once(|| {
        let (stats, stacks, summary) = record(python, &target, &["-d", "1", "-r", "100hz"]);
        assert_eq!(summary.lost, 0, "{summary:?}");
        assert_eq!(summary.truncated, 0, "{summary:?}");
        let down = stats.row("deep.py", "down");
        assert_eq!(down.nc, down.cc * depth, "{down:?}");
        let deepest = stacks
            .iter()
            .max_by_key(|stack| stack.frames.len())
            .unwrap();
        let frames = deepest
            .frames
            .iter()
            .filter(|frame| folded::names(frame, "down"))
            .count();
        assert_eq!(frames as u64, depth);
        ensure!(summary.samples >= 3, "{summary:?}");
        let bottom = folded::share(&stacks, |stack| stack.has("bottom"));
        ensure!(bottom > 0.4, "{bottom} at the bottom: {summary:?}");
        Ok(())
    });

    let dumped = pystrobe(["dump", "--json", &target.pid().to_string()])
        .run()
        .ok()
        .text();
    assert!(dumped.matches("\"down\"").count() as u64 >= depth);
}

fn reads_a_module_of_20_000_statements(python: &'static Interpreter) {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("long_module.py");
    // Each statement is long enough that a line table with a byte for each would not hold the difference.
    let mut source = String::from(
        "import handshake\nvalue = 0\nhandshake.ready()\nwhile not handshake.stopped():\n",
    );
    for number in 0..20_000 {
        writeln!(source, "    value = value + {number} - {number}").unwrap();
    }
    std::fs::write(&module, source).unwrap();
    let mut command = python.command();
    command.arg(&module).env("PYTHONPATH", target_script(""));
    let target = Target::start(&mut command);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stacks.folded");
    let finished = pystrobe([
        "attach",
        &target.pid().to_string(),
        "-d",
        "1",
        "--lines",
        "-o",
    ])
    .arg(&file)
    .run()
    .ok();

    assert_eq!(finished.summary().truncated, 0, "{finished:?}");
    let stacks = folded::parse(&std::fs::read_to_string(&file).unwrap());
    let lines: BTreeSet<u32> = stacks
        .iter()
        .filter_map(|stack| {
            stack
                .frames
                .iter()
                .find(|frame| frame.contains("long_module.py"))
        })
        .map(|frame| line_in(frame))
        .collect();
    // The statements take turns, so each part of the file is seen about as often as any other.
    for part in 0..10 {
        let range = 5 + part * 2_000..5 + (part + 1) * 2_000;
        let seen = lines.range(range.clone()).count();
        assert!(
            seen * 40 > lines.len(),
            "{seen} lines in {range:?} of {}",
            lines.len()
        );
    }
    assert!(
        lines.iter().all(|line| (1..=20_004).contains(line)),
        "{lines:?}"
    );
}

/// The line number in the label of a frame, which is the last number in it.
fn line_in(frame: &str) -> u32 {
    let digits = |c: char| c.is_ascii_digit();
    let end = frame
        .rfind(digits)
        .unwrap_or_else(|| panic!("no line in `{frame}`"))
        + 1;
    let start = frame[..end].rfind(|c| !digits(c)).map_or(0, |at| at + 1);
    frame[start..end].parse().unwrap()
}

fn reads_200_threads(python: &'static Interpreter) {
    let _turn = machine::shared();
    let target = Target::launch(python, "threads.py", &["200"]);
    holds_once(|| {
        let (stats, stacks, summary) =
            record(python, &target, &["-d", "1", "-r", "100hz", "--threads"]);
        for number in 0..200 {
            let name = format!("waiter-{number:03}");
            let of_thread: Vec<_> = stacks
                .iter()
                .filter(|stack| stack.frames[0].contains(&name))
                .collect();
            assert!(!of_thread.is_empty(), "{name}");
            assert!(
                of_thread.iter().all(|stack| stack.has("wait")),
                "{of_thread:?}"
            );
        }
        let main: Vec<_> = stacks
            .iter()
            .filter(|stack| stack.frames[0].contains("MainThread"))
            .collect();
        assert!(main.iter().any(|stack| stack.has("work")), "{main:?}");
        ensure!(summary.samples > 10, "{summary:?}");
        let own = stats.own_time();
        let all = summary.seconds * 201.0;
        ensure!(
            (own / all - 1.0).abs() < 0.05,
            "{own} s in all threads, of {all} s"
        );
        Ok(())
    });

    let dumped = pystrobe(["dump", "--json", &target.pid().to_string()])
        .run()
        .ok()
        .text();
    let dumped: serde_json::Value = serde_json::from_str(&dumped).unwrap();
    assert_eq!(dumped["threads"].as_array().unwrap().len(), 201);
}

fn reads_odd_names(python: &'static Interpreter) {
    let _turn = machine::shared();
    let target = Target::launch(python, "names.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let outputs = ["out.pstats", "flame.svg", "stacks.folded"].map(|name| folder.path().join(name));
    let mut run = pystrobe(["attach", &target.pid().to_string(), "-d", "1"]);
    for output in &outputs {
        run = run.arg("-o").arg(output);
    }
    run.run().ok();

    let mut names: BTreeSet<String> = BTreeSet::new();
    for reader in [python, interpreters::newest()] {
        let stats = pstats::read(reader, &outputs[0]);
        stats.obeys_the_laws();
        names = stats
            .keys()
            .into_iter()
            .map(|(file, _, name)| format!("{file} {name}"))
            .collect();
    }
    for whole in [
        "plain.py plain",
        "größe.py größe",
        "日本語.py 処理",
        "rocket 🚀.py fly_🚀",
    ] {
        assert!(names.contains(whole), "{whole} in {names:?}");
    }
    // Escaped, each in the way that the documentation of the format tells; what stays of them is enough to know them.
    for part in [
        "two",
        "tab",
        "semi;colon 123",
        "<b>",
        "caf",
        "nameless.py",
        "long.py nnn",
    ] {
        assert!(
            names.iter().any(|name| name.contains(part)),
            "{part} in {names:?}"
        );
    }

    let svg = std::fs::read_to_string(&outputs[1]).unwrap();
    let check = "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])";
    interpreters::newest().output(&["-c", check, outputs[1].to_str().unwrap()]);
    assert!(svg.contains("größe") && !svg.contains("<b>"));

    let stacks = folded::parse(&std::fs::read_to_string(&outputs[2]).unwrap());
    for stack in &stacks {
        assert!(
            stack.frames.len() <= 4,
            "a name was taken for two frames: {stack:?}"
        );
    }
    let text = pystrobe(["dump", &target.pid().to_string()])
        .run()
        .ok()
        .text();
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
}

fn reads_files_whose_names_are_not_utf_8(python: &'static Interpreter) {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    let script = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"caf\xe9 \xff.py"));
    std::fs::copy(target_script("alternating.py"), &script).unwrap();
    let mut command = python.command();
    command.arg(&script).env("PYTHONPATH", target_script(""));
    let target = Target::start(&mut command);
    let (stats, stacks, _) = record(python, &target, &["-d", "0.5"]);

    let (key, _) = stats
        .rows
        .iter()
        .find(|(key, _)| key.2 == "fibonacci")
        .unwrap();
    assert!(key.0.contains("caf") && key.0.ends_with(".py"), "{key:?}");
    assert_eq!(key.1, line_of("alternating.py", "def fibonacci"));
    assert!(stacks.iter().any(|stack| stack.has("fibonacci")));
}

fn reads_sub_interpreters(python: &'static Interpreter) {
    let _turn = machine::shared();
    let target = Target::launch(python, "subinterpreters.py", &[]);
    holds_once(|| {
        let (stats, stacks, summary) = record(python, &target, &["-d", "2"]);

        let time_of = |name: &str| -> f64 {
            stats
                .rows
                .iter()
                .filter(|(key, _)| key.2 == name)
                .map(|(_, row)| row.ct)
                .sum()
        };
        // Two threads: neither one's functions are below the other's.
        for stack in &stacks {
            assert!(
                !(stack.has("outer_work") && stack.has("inner_work")),
                "{stack:?}"
            );
        }
        for (function, share) in [("outer_work", 0.8), ("inner_work", 0.5)] {
            let seen = time_of(function);
            ensure!(
                seen > share * summary.seconds,
                "{function}: {seen} s of {summary:?}"
            );
        }
        Ok(())
    });
}

/// Each is met while it lasts, and its end disturbs nobody.
#[test]
fn sub_interpreters_come_and_go() {
    let _turn = machine::alone();
    for version in ["3.12", "3.13", "3.14", "3.15"] {
        interpreters::on(version, |python| {
            holds_once(|| {
                let mut target = Target::launch(python, "late_subinterpreters.py", &[]);
                let folder = tempfile::tempdir().unwrap();
                let session = pystrobe(["attach", &target.pid().to_string(), "-o", "out.pstats"])
                    .dir(folder.path())
                    .start();
                session.is_sampling();
                target.signal(Signal::SIGUSR1);
                assert_eq!(target.line(), "done");
                session.is_sampling();
                let truth = target.stop();
                let finished = session.finish().ok();

                let summary = finished.summary();
                assert_eq!(summary.lost, 0, "{finished:?}");
                let stats = pstats::read(python, &folder.path().join("out.pstats"));
                stats.obeys_the_laws();
                let time_of = |name: &str| -> f64 {
                    let rows = stats.rows.iter().filter(|(key, _)| key.2 == name);
                    rows.map(|(_, row)| row.ct).sum()
                };
                for (function, known) in
                    [("inner_work", "inner"), ("work_afterwards", "afterwards")]
                {
                    let (seen, known) = (time_of(function), truth[known].as_f64().unwrap());
                    // That a second interpreter is there is noticed within a hundredth of a second.
                    ensure!(
                        seen < 1.05 * known && seen > 0.8 * known,
                        "{function}: {seen} of {known} s: {finished:?}"
                    );
                }
                Ok(())
            });
        });
    }
}
