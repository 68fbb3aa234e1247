//! Asyncio tasks, shown below those that await them.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::support::attempts::{ensure, holds_once};
use crate::support::folded::{self, Stack};
use crate::support::interpreters::{self, Interpreter};
use crate::support::process::PATIENCE;
use crate::support::pystrobe::{Finished, pystrobe};
use crate::support::target::Target;
use crate::support::{machine, pstats, target_script};

/// Those that tell their tasks: `_asyncio` is a library in the one here, and built in in the other.
fn on_versions(test: impl Fn(&'static Interpreter)) {
    for version in ["3.14", "3.15"] {
        interpreters::on(version, &test);
    }
}

/// Records a target for so many seconds.
fn attach(target: &Target, folder: &Path, seconds: &str, words: &[&str]) -> Finished {
    pystrobe(["attach", &target.pid().to_string(), "-d", seconds])
        .args(words)
        .dir(folder)
        .run()
        .ok()
}

fn stacks(path: &Path) -> Vec<Stack> {
    folded::parse(&std::fs::read_to_string(path).unwrap())
}

fn weight(stacks: &[Stack], counts: impl Fn(&Stack) -> bool) -> f64 {
    let counted = stacks.iter().filter(|stack| counts(stack));
    counted.map(|stack| stack.weight as f64 / 1e6).sum()
}

/// Where on a stack these functions are, each above the one before it.
fn in_order(stack: &Stack, functions: &[&str]) -> bool {
    let mut frames = stack.frames.iter();
    functions
        .iter()
        .all(|function| frames.any(|frame| folded::names(frame, function)))
}

fn seconds(answer: &Value, what: &str) -> f64 {
    answer[what].as_f64().unwrap()
}

/// Each task's coroutines stand on its name, below that are the coroutines that await it, and nothing of the event loop.
#[test]
fn tasks_stand_on_those_that_await_them() {
    let _turn = machine::alone();
    on_versions(|python| {
        for (how, awaiting) in [
            ("gather", &["<task>", "main"][..]),
            ("group", &["<task>", "main", "TaskGroup.__aexit__"]),
            ("wait", &["<task>", "main", "wait", "<task relay>", "relay"]),
        ] {
            holds_once(|| {
                let folder = tempfile::tempdir().unwrap();
                let out = folder.path().join("out.folded");
                // From the first frame to the last, so that both have seen the same.
                let finished = pystrobe(["run", "--async", "-o", "out.folded", "--python"])
                    .arg(&python.path)
                    .arg(target_script("tasks.py"))
                    .args([how, "0", "2"])
                    .dir(folder.path())
                    .run()
                    .ok();
                let text = finished.text();
                let truth: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();

                let stacks = stacks(&out);
                let of_task =
                    |stack: &Stack| stack.frames.iter().any(|frame| frame.starts_with("<task"));
                let of_loop = |stack: &Stack| stack.has("BaseEventLoop._run_once");
                let total = weight(&stacks, |_| true);
                let passed = finished.summary().seconds;
                for stack in &stacks {
                    assert!(!(of_task(stack) && of_loop(stack)), "{how}: {stack:?}");
                    assert!(
                        !of_task(stack) || stack.frames[0].starts_with("<task"),
                        "{stack:?}"
                    );
                }
                ensure!(
                    total < passed + 0.02 && total > 0.9 * seconds(&truth, "elapsed"),
                    "{how}: {total} s: {finished:?}"
                );
                let computing = weight(&stacks, |stack| stack.has("compute"));
                let joined = |task: &str, coroutines: &[&str]| {
                    let whole = [awaiting, &[task], coroutines, &["unit", "compute"]].concat();
                    weight(&stacks, |stack| in_order(stack, &whole))
                };
                let slow = joined("<task Bäcker Ω>", &["slow", "numbers"]);
                let quick = joined("<task quick>", &["quick"]);
                // What lacks was before asyncio was found, before the root came to await them, or read while they ended.
                ensure!(
                    slow + quick > 0.95 * computing && computing > 0.5,
                    "{how} on {}: {slow} and {quick} of {computing} s\n{stacks:#?}",
                    python.full_version()
                );
                let truly = seconds(&truth, "slow");
                let truly = truly / (truly + seconds(&truth, "quick"));
                let share = slow / (slow + quick);
                ensure!(
                    (share - truly).abs() < 0.05,
                    "{how} on {}: {share} instead of {truly}",
                    python.full_version()
                );
                // What the loop does for itself stays where it is.
                ensure!(stacks.iter().any(of_loop), "{how}");
                Ok(())
            });
        }
    });
}

/// A task that waits has all of the time, and of no other clock any.
#[test]
fn waiting_tasks_have_wall_time() {
    let _turn = machine::alone();
    on_versions(|python| {
        holds_once(|| {
            let folder = tempfile::tempdir().unwrap();
            let target = Target::launch(python, "tasks.py", &["gather"]);
            let words = ["--async", "all", "-o", "out.folded", "-o", "out.pstats"];
            attach(&target, folder.path(), "2", &words);
            target.stop();
            let stacks = stacks(&folder.path().join("out.folded"));
            let sleeping = weight(&stacks, |stack| in_order(stack, &["<task sleeper>", "nap"]));
            ensure!((sleeping - 2.0).abs() < 0.1, "{sleeping} s\n{stacks:#?}");
            // At each moment two of the three tasks that nobody else waits for wait, or all of them, and the thread does something.
            let total = weight(&stacks, |_| true);
            ensure!(total > 5.5 && total < 8.3, "{total} s\n{stacks:#?}");
            // The root waits for others, and is below them, but for the moments in which they come or go.
            let alone = weight(&stacks, |stack| {
                stack.frames.len() == 2 && in_order(stack, &["<task>", "main"])
            });
            ensure!(alone < 0.1, "{alone} s\n{stacks:#?}");

            let stats = pstats::read(python, &folder.path().join("out.pstats"));
            stats.obeys_the_laws();
            pystrobe(["convert", "out.pstats", "--mode", "gil", "-o", "gil.folded"])
                .dir(folder.path())
                .run()
                .ok();
            let stacks = self::stacks(&folder.path().join("gil.folded"));
            let held = weight(&stacks, |_| true);
            ensure!(held < 2.1, "{held} s");
            let sleeping = weight(&stacks, |stack| in_order(stack, &["<task sleeper>"]));
            ensure!(sleeping < 0.2, "{sleeping} s");
            Ok(())
        });
    });
}

/// A program that comes to asyncio after the recording began.
#[test]
fn asyncio_may_be_imported_later() {
    let _turn = machine::alone();
    on_versions(|python| {
        holds_once(|| {
            let folder = tempfile::tempdir().unwrap();
            let target = Target::launch(python, "tasks.py", &["gather", "1"]);
            attach(
                &target,
                folder.path(),
                "4",
                &["--async", "-o", "out.folded"],
            );
            target.stop();
            let stacks = stacks(&folder.path().join("out.folded"));
            let computing = weight(&stacks, |stack| stack.has("compute"));
            let joined = weight(&stacks, |stack| {
                in_order(stack, &["<task>", "main", "compute"])
            });
            ensure!(
                joined > 0.9 * computing && computing > 0.5,
                "{joined} of {computing} s\n{stacks:#?}"
            );
            let before = weight(&stacks, |stack| stack.frames.len() == 1);
            ensure!(before > 0.3, "{before} s\n{stacks:#?}");
            Ok(())
        });
    });
}

#[test]
fn without_asyncio_nothing_is_another() {
    let _turn = machine::alone();
    on_versions(|python| {
        holds_once(|| {
            let folder = tempfile::tempdir().unwrap();
            let target = Target::launch(python, "alternating.py", &[]);
            let words = ["--async", "all", "-o", "out.folded"];
            attach(&target, folder.path(), "1", &words);
            let truth = target.stop();
            let stacks = stacks(&folder.path().join("out.folded"));
            assert!(
                stacks.iter().all(|stack| !stack.has("<task>")),
                "{stacks:#?}"
            );
            assert!(
                stacks
                    .iter()
                    .all(|stack| folded::names(&stack.frames[0], "<module>"))
            );
            let truly = seconds(&truth, "recursion");
            let truly = truly / (truly + seconds(&truth, "loop"));
            let share = folded::share(&stacks, |stack| stack.has("recursion"));
            ensure!((share - truly).abs() < 0.05, "{share} instead of {truly}");
            Ok(())
        });
    });
}

#[test]
fn a_program_is_run_with_its_tasks() {
    let _turn = machine::shared();
    on_versions(|python| {
        holds_once(|| {
            let folder = tempfile::tempdir().unwrap();
            let code = "
import asyncio
async def busy():
    return sum(i * i for i in range(4_000_000))
async def main():
    print(await asyncio.create_task(busy(), name='a;b'))
asyncio.run(main())";
            let finished = pystrobe(["run", "--async", "all", "-o", "out.folded", "--python"])
                .arg(&python.path)
                .args(["-c", code])
                .dir(folder.path())
                .run()
                .ok();
            assert_eq!(finished.text(), "21333325333334000000\n");
            let stacks = stacks(&folder.path().join("out.folded"));
            let busy = ["<task>", "main", "<task a", "busy"];
            let is_busy = |stack: &Stack| {
                let mut frames = stack.frames.iter();
                busy.iter()
                    .all(|start| frames.any(|frame| frame.starts_with(start)))
            };
            ensure!(stacks.iter().any(is_busy), "{stacks:#?}");
            Ok(())
        });
    });
}

#[test]
fn older_versions_do_not_tell_their_tasks() {
    let _turn = machine::alone();
    for version in ["3.8", "3.13"] {
        interpreters::on(version, |python| {
            let folder = tempfile::tempdir().unwrap();
            let mut target = Target::launch(python, "alternating.py", &[]);
            let pid = target.pid().to_string();
            let words = ["-d", "60", "--async", "-o", "out.folded"];
            let attach = || pystrobe(["attach", &pid]).args(words).dir(folder.path());
            let finished = attach().run();
            finished.failed(4, &["asyncio tasks", &python.full_version(), "3.14"]);
            assert!(!folder.path().join("out.folded").exists());
            let dump = |words: &[&str]| pystrobe(["dump", "--async", &pid]).args(words).run();
            dump(&[]).failed(4, &["asyncio tasks", &python.full_version(), "3.14"]);
            let dumped = dump(&["--subprocesses"]).ok();
            assert!(dumped.text().contains("alternate"), "{dumped:?}");
            assert!(
                dumped
                    .stderr
                    .contains("without --async: processes of Python before 3.14, 1 in all"),
                "{dumped:?}"
            );

            // One of several is shown without, and that is said.
            let session = attach().args(["--subprocesses"]).start();
            session.is_sampling();
            target.signal(nix::sys::signal::Signal::SIGTERM);
            let finished = session.finish().ok();
            assert!(
                finished
                    .stderr
                    .contains("without --async: processes of Python before 3.14, 1 in all"),
                "{finished:?}"
            );
            let stacks = stacks(&folder.path().join("out.folded"));
            assert!(stacks.iter().any(|stack| stack.has("alternate")));

            // What was started is not harmed.
            let finished = pystrobe(["run", "--async", "--python"])
                .arg(&python.path)
                .arg(target_script("short.py"))
                .dir(folder.path())
                .run();
            assert!(finished.text().contains("2666466670000"), "{finished:?}");
            // It may have ended before it was looked at.
            assert!(
                finished.code() == 0 || finished.stderr.contains("asyncio tasks"),
                "{finished:?}"
            );
        });
    }
}

/// The names of the functions of a stack, innermost first.
fn functions(stack: &Value) -> Vec<&str> {
    let frames = stack["frames"].as_array().unwrap();
    frames
        .iter()
        .map(|frame| frame["function"].as_str().unwrap())
        .collect()
}

/// Dumps a target until its main thread is as it is wanted.
fn dump_until(target: &Target, words: &[&str], is_wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let dumped = pystrobe(["dump", "--json", &target.pid().to_string()])
            .args(words)
            .run()
            .ok()
            .text();
        let dumped: Value = serde_json::from_str(&dumped).unwrap();
        let main = dumped["threads"][0].clone();
        if is_wanted(&main) {
            return main;
        }
        assert!(began.elapsed() < PATIENCE, "{main:#}");
    }
}

/// A dump shows the task that runs on those that await it, and with `all` those that wait.
#[test]
fn a_dump_shows_tasks() {
    let _turn = machine::shared();
    on_versions(|python| {
        let target = Target::launch(python, "tasks.py", &["gather"]);
        let computes = |stack: &Value| functions(stack).first() == Some(&"compute");
        let slow = ["numbers", "slow", "<task Bäcker Ω>", "main", "<task>"];
        let slow = [&["compute", "unit"], &slow[..]].concat();
        let quick = ["compute", "unit", "quick", "<task quick>", "main", "<task>"];
        for _ in 0..10 {
            let main = dump_until(&target, &["--async"], computes);
            let functions = functions(&main);
            assert!(functions == slow || functions == quick, "{functions:?}");
            assert_eq!(main["truncated"], false);
            assert_eq!(main.get("waiting"), None, "{main:#}");
            let task = &main["frames"].as_array().unwrap().last().unwrap();
            assert_eq!((&task["line"], &task["source"]), (&0.into(), &Value::Null));
        }
        // The thread and the tasks are read one after the other, and it may go on in between.
        holds_once(|| {
            let main = dump_until(&target, &["--async=all"], computes);
            let waiting = main["waiting"].as_array().unwrap();
            ensure!(waiting.len() == 2, "{main:#}");
            assert!(waiting.iter().all(|one| one["tasks"] == 1), "{main:#}");
            let stacks: Vec<Vec<&str>> = waiting.iter().map(functions).collect();
            let sleeper = ["sleep", "nap", "<task sleeper>"];
            ensure!(stacks.iter().any(|stack| *stack == sleeper), "{main:#}");
            let other = if functions(&main) == slow {
                &quick
            } else {
                &slow[..]
            };
            ensure!(
                stacks.iter().any(|stack| stack.ends_with(&other[1..])),
                "{main:#}"
            );
            Ok(())
        });

        // Without it everything is as ever.
        let main = dump_until(&target, &[], computes);
        assert!(functions(&main).contains(&"BaseEventLoop._run_once"));
        assert_eq!(main.get("waiting"), None);
        target.stop();
    });
}

/// While all wait, the thread is in the event loop, and tasks that look alike are one stack.
#[test]
fn a_dump_counts_tasks_that_look_alike() {
    let _turn = machine::shared();
    on_versions(|python| {
        let code = "
import asyncio
async def listen(event):
    await event.wait()
async def main():
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(print, 'ready')
    await asyncio.gather(*[asyncio.create_task(listen(event), name='ear') for _ in range(3)])
asyncio.run(main())";
        let mut command = python.command();
        command.args(["-u", "-c", code]);
        let target = Target::start(&mut command);
        let stands = |main: &Value| main["waiting"][0]["tasks"] == 3;
        let main = dump_until(&target, &["--async=all"], stands);
        assert!(
            functions(&main).contains(&"BaseEventLoop._run_once"),
            "{main:#}"
        );
        let waiting = main["waiting"].as_array().unwrap();
        assert_eq!(waiting.len(), 1, "{main:#}");
        assert_eq!(
            functions(&waiting[0]),
            ["Event.wait", "listen", "<task ear>", "main", "<task>"]
        );

        let text = pystrobe(["dump", "--async", "all", &target.pid().to_string()])
            .run()
            .ok()
            .text();
        let (_, waiting) = text.split_once("\n  3 tasks wait:\n").unwrap();
        let lines: Vec<&str> = waiting.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(
            (lines[2], lines[4]),
            ("    <task ear>", "    <task>"),
            "{text}"
        );
        assert!(lines[0].contains("locks.py:") && lines[0].contains(" Event.wait  await "));
    });
}
