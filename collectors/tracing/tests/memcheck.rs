//! The agent under valgrind's memcheck, which sees what it does to an interpreter's memory: what Miri cannot run.
//!
//! Slow, and it needs valgrind, so it is run on purpose:
//! `PYSTROBE_AGENT_SYMBOLS=1 tests/run -p pystrobe-tracing --test main -- --ignored memcheck`. The variable leaves the agent its symbols, for the reports and for
//! `memcheck.supp`. Interpreters that valgrind cannot start are named: those of `tests/interpreters install` bring a dynamic linker without symbols.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use pystrobe_calls::{Options, Pattern};

use crate::attaching::attached;
use crate::support::interpreters::{self, Interpreter, target_file};
use crate::support::trace_command;

/// How often the agent comes and goes in one process: what is lost each time is lost so often.
const ATTACHMENTS: usize = 5;

/// Something that memcheck reported.
struct Report {
    kind: String,
    /// Functions and libraries, the innermost first.
    stack: Vec<(String, String)>,
    blocks: usize,
}

impl Report {
    fn is_leak(&self) -> bool {
        self.kind.starts_with("Leak_")
    }

    fn is_ours(&self) -> bool {
        self.stack
            .iter()
            .any(|(_, library)| library.ends_with("agent.so"))
    }

    /// What makes it the same in two runs.
    fn place(&self) -> (String, Vec<String>) {
        let functions = self.stack.iter().take(3);
        (
            self.kind.clone(),
            functions.map(|(function, _)| function.clone()).collect(),
        )
    }
}

fn all<'a>(text: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    text.split(&open as &str)
        .skip(1)
        .map(move |rest| rest.split(&close as &str).next().unwrap())
        .collect::<Vec<_>>()
        .into_iter()
}

fn one(text: &str, tag: &str) -> String {
    all(text, tag).next().unwrap_or("?").to_owned()
}

/// The reports in the text of a file of memcheck's.
fn reports(text: &str) -> Vec<Report> {
    let errors = all(text, "error");
    errors
        .map(|error| Report {
            kind: one(error, "kind"),
            stack: all(error, "frame")
                .map(|frame| (one(frame, "fn"), one(frame, "obj")))
                .collect(),
            blocks: one(error, "leakedblocks").parse().unwrap_or(0),
        })
        .collect()
}

/// The command that runs an interpreter under memcheck, and writes one file for each process into the folder.
fn memcheck(python: &Interpreter, folder: &Path) -> Command {
    let suppressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/memcheck.supp");
    let mut command = Command::new("valgrind");
    command
        .args(["-q", "--xml=yes", "--num-callers=60", "--leak-check=full"])
        .args(["--show-leak-kinds=definite", "--fair-sched=yes"])
        .arg(format!("--xml-file={}/%p.xml", folder.display()))
        .arg(format!("--suppressions={suppressions}"))
        .arg(&python.path)
        .env("PYTHONMALLOC", "malloc")
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The reports of a run: those of the first process with leaks, those of its forks without, because a fork neither uses nor frees what was its parent's.
fn found(folder: &Path) -> Vec<Report> {
    let texts: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!texts.is_empty());
    let pids: BTreeSet<String> = texts.iter().map(|text| one(text, "pid")).collect();
    let mut found = Vec::new();
    for text in &texts {
        assert!(text.contains("</valgrindoutput>"), "{text}");
        let is_fork = pids.contains(&one(text, "ppid"));
        found.extend(
            reports(text)
                .into_iter()
                .filter(|report| !(is_fork && report.is_leak())),
        );
    }
    found
}

/// Nothing but what the same program does without us; no lost block for each call or attachment. An object or two that CPython keeps for ever,
/// as an interned name, is lost at its end whoever asked for it.
fn hold(
    what: &str,
    python: &Interpreter,
    reports: &[Report],
    plain: &BTreeSet<(String, Vec<String>)>,
) {
    for report in reports {
        let fine = match report.is_leak() {
            true => !report.is_ours() || report.blocks < ATTACHMENTS,
            false => !report.is_ours() && plain.contains(&report.place()),
        };
        assert!(
            fine,
            "{what} in {}: {}, {} blocks\n{}",
            python,
            report.kind,
            report.blocks,
            report
                .stack
                .iter()
                .map(|(function, library)| format!("    {function} ({library})\n"))
                .collect::<String>()
        );
    }
}

#[test]
#[ignore = "takes minutes, and needs valgrind and PYSTROBE_AGENT_SYMBOLS=1: see above"]
fn memcheck_finds_nothing() {
    let program = target_file("everything.py");
    let mut checked = 0;
    for python in interpreters::all() {
        let folder = tempfile::tempdir().unwrap();
        let output = memcheck(python, folder.path())
            .arg(&program)
            .output()
            .unwrap();
        if String::from_utf8_lossy(&output.stderr).contains("cannot be set up") {
            println!("{python}: valgrind cannot start it");
            continue;
        }
        assert!(output.status.success(), "{output:?}");
        let plain = found(folder.path()).iter().map(Report::place).collect();

        let followed = Options {
            subprocesses: true,
            ..Options::default()
        };
        let only = Options {
            only: vec![Pattern::parse("__main__:leaf").unwrap()],
            ..followed.clone()
        };
        for (what, options) in [("all", followed), ("some", only)] {
            let folder = tempfile::tempdir().unwrap();
            let traced = trace_command(memcheck(python, folder.path()).arg(&program), &options);
            assert!(traced.status.success(), "{traced:?}");
            let leaves = crate::support::main_totals(traced.calls());
            assert!(crate::support::count(&leaves, "leaf") > 0, "{leaves:?}");
            hold(what, python, &found(folder.path()), &plain);
        }

        let folder = tempfile::tempdir().unwrap();
        let options = vec![Options::default(); ATTACHMENTS];
        let (recordings, _) = attached(
            python,
            memcheck(python, folder.path()),
            "attached.py",
            &options,
        );
        assert_eq!(recordings.len(), ATTACHMENTS);
        hold("attached", python, &found(folder.path()), &plain);
        println!("{python}: nothing found");
        checked += 1;
    }
    assert!(checked > 0, "valgrind could start no interpreter");
}
