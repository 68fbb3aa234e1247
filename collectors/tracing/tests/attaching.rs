//! A recording that begins and ends in the midst of a program: here by the program itself, which executes what it would be told.

use std::process::Command;

use pystrobe_calls::{Calls, Options, Pattern, read};
use pystrobe_tracing::{agent_file, attach_source, detach_source};

use crate::support::interpreters::{self, Interpreter, target_file};
use crate::support::{count, totals};

/// Runs a target by a command that starts the interpreter, with the sources for each of `options`, and reads what it recorded.
pub(crate) fn attached(
    python: &Interpreter,
    mut command: Command,
    script: &str,
    options: &[Options],
) -> (Vec<Calls>, String) {
    let folder = tempfile::tempdir().unwrap();
    let agent = folder.path().join("agent.so");
    agent_file(&agent).unwrap();
    command.arg(target_file(script)).arg(detach_source(&agent));
    let mut files = Vec::new();
    for (n, options) in options.iter().enumerate() {
        let path = folder.path().join(format!("{n}.calls"));
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        options.write_to(&file).unwrap();
        // It executes them in a function of its own, and that by `exec`: neither is part of what is recorded.
        command.arg(attach_source(&agent, &path, 2));
        files.push(file);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{python}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    (
        files.iter().map(|file| read(file).unwrap()).collect(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn what_runs_is_the_root_of_what_follows() {
    for python in interpreters::all() {
        let (recordings, stdout) = attached(
            python,
            python.command(),
            "attached.py",
            &[
                Options::default(),
                Options {
                    builtins: false,
                    ..Options::default()
                },
            ],
        );
        assert_eq!(stdout, "None None 0\n".repeat(2), "in {python}");
        for calls in &recordings {
            assert!(calls.about.ended);
            assert_eq!(calls.threads.len(), 2, "{:?}", calls.threads);
            for thread in &calls.threads {
                let totals = totals(calls, thread.root);
                if thread.name == "MainThread" {
                    assert_eq!(
                        (count(&totals, "leaf"), count(&totals, "main")),
                        (100, 0),
                        "{totals:?} in {python}"
                    );
                    // Where it is: below what was running, not beside it.
                    let leaf = calls
                        .functions
                        .iter()
                        .position(|function| function.name == "leaf")
                        .unwrap() as u32;
                    let nodes: Vec<_> = calls
                        .nodes
                        .iter()
                        .filter(|node| node.function == Some(leaf))
                        .collect();
                    let parent = nodes[0]
                        .parent
                        .and_then(|parent| calls.nodes[parent as usize].function)
                        .unwrap();
                    assert_eq!(calls.functions[parent as usize].name, "main");
                    assert!(!totals.contains_key("execute"), "{totals:?} in {python}");
                } else {
                    assert_eq!(thread.name, "beside");
                    assert_eq!(thread.native_id >> 32, 0);
                    assert!(thread.native_id > 0);
                    assert!(
                        totals.contains_key("beside") && count(&totals, "_bootstrap") == 0,
                        "{totals:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn again_and_again() {
    for python in interpreters::all() {
        let small = Options {
            node_limit: 2000,
            ..Options::default()
        };
        let only = Options {
            only: vec![Pattern::parse("__main__:leaf").unwrap()],
            ..small.clone()
        };
        let options: Vec<Options> = (0..40)
            .map(|n| {
                if n % 3 == 2 {
                    only.clone()
                } else {
                    small.clone()
                }
            })
            .collect();
        let (recordings, stdout) = attached(python, python.command(), "attached.py", &options);
        assert_eq!(stdout, "None None 0\n".repeat(40), "in {python}");
        for calls in &recordings {
            let main = calls
                .threads
                .iter()
                .find(|thread| thread.name == "MainThread")
                .unwrap();
            assert_eq!(count(&totals(calls, main.root), "leaf"), 100, "in {python}");
        }
    }
}

#[test]
fn what_runs_can_be_asked_for_by_its_module() {
    for python in interpreters::all() {
        let only = Options {
            only: vec![Pattern::parse("__main__:main").unwrap()],
            ..Options::default()
        };
        let (recordings, _) = attached(python, python.command(), "attached.py", &[only]);
        let calls = &recordings[0];
        let named: Vec<_> = calls
            .functions
            .iter()
            .map(|function| &function.name)
            .collect();
        assert_eq!(named, ["main"], "in {python}");
    }
}

/// A profiler that was there before us hears all that it would without us, and is still there after us.
#[test]
fn the_programs_own_profiler_goes_on() {
    for python in interpreters::all() {
        for profiler in ["function", "lsprof"] {
            let mut command = python.command();
            command.env("PROFILER", profiler);
            let (recordings, stdout) =
                attached(python, command, "profiled.py", &[Options::default()]);
            let threads = if profiler == "lsprof" && python.version.1 >= 12 {
                1
            } else {
                2
            };
            let told = vec!["(101, True)"; threads].join(", ");
            assert_eq!(stdout, format!("[{told}] None\n"), "{profiler} in {python}");
            let calls = &recordings[0];
            let counted: Vec<_> = calls
                .threads
                .iter()
                .map(|thread| count(&totals(calls, thread.root), "leaf"))
                .filter(|&leaves| leaves > 0)
                .collect();
            assert_eq!(counted, vec![100; threads], "{profiler} in {python}");
        }
    }
}

/// A thread that the recording for the cost has met is met anew by the one that counts, and takes nobody else's tree for its old one.
#[test]
fn each_thread_has_its_own_tree() {
    for python in interpreters::all() {
        let options = Options {
            node_limit: 2000,
            ..Options::default()
        };
        let (recordings, _) = attached(python, python.command(), "turns.py", &vec![options; 10]);
        for calls in &recordings {
            assert_eq!(calls.threads.len(), 4, "{:?}", calls.threads);
            for thread in &calls.threads {
                let totals = totals(calls, thread.root);
                let expected = if thread.name == "MainThread" {
                    (2, 0)
                } else {
                    (0, 1)
                };
                assert_eq!(
                    (count(&totals, "leaf"), count(&totals, "aside")),
                    expected,
                    "{totals:?} of {thread:?} in {python}"
                );
                assert!(!totals.contains_key("execute"), "{totals:?} in {python}");
            }
        }
    }
}
