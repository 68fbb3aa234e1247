//! Greenlets: several stacks that take turns on one thread, each with a data stack and a part of the C stack of its own.

use std::path::{Path, PathBuf};

use crate::support::attempts::{ensure, holds_once};
use crate::support::folded::{self, Stack};
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::pystrobe::pystrobe;
use crate::support::target::Target;
use crate::support::{machine, skip, target_script};

on_each_version! {
    shares_are_those_of_the_clock = shares_are_those_of_the_clock;
    stacks_with_generators_are_whole = stacks_with_generators_are_whole;
    gevent_tells_its_tasks_apart = gevent_tells_its_tasks_apart;
}

/// How far a share may be off.
const ALLOWED: f64 = 0.05;

/// From where a Python imports greenlet and gevent, where `tests/run` has put them.
fn packages(python: &Interpreter) -> Option<PathBuf> {
    let Some(all) = std::env::var_os("PYSTROBE_GREENLETS") else {
        skip("PYSTROBE_GREENLETS is not set; tests/run installs greenlet and sets it");
        return None;
    };
    let (major, minor, _) = python.version;
    Some(PathBuf::from(all).join(format!("{major}.{minor}")))
}

fn launch(python: &Interpreter, packages: &Path, script: &str, arguments: &[&str]) -> Target {
    let mut command = python.command();
    command
        .env("PYTHONPATH", packages)
        .arg(target_script(script))
        .args(arguments);
    Target::start(&mut command)
}

/// What was seen of `greenlets.py`.
struct Turns {
    /// The share of `heavy`, as the profile says it, and as the program knows it.
    said: f64,
    known: f64,
    /// The share of stacks that it cannot have.
    impossible: f64,
    stacks: Vec<Stack>,
}

fn turns(
    python: &Interpreter,
    packages: &Path,
    arguments: &[&str],
    options: &[&str],
) -> Result<Turns, String> {
    let target = launch(python, packages, "greenlets.py", arguments);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stacks.folded");
    let finished = pystrobe(["attach", &target.pid().to_string(), "-o"])
        .arg(&file)
        .args(options)
        .run()
        .ok();
    let truth = target.stop();
    let truth = |key: &str| truth[key].as_f64().unwrap();

    let stacks = folded::parse(&std::fs::read_to_string(&file).unwrap());
    let is_of = |stack: &Stack, whose: &str| is_possible(stack, whose, arguments);
    let impossible = folded::share(&stacks, |stack| {
        !is_of(stack, "heavy") && !is_of(stack, "light") && !is_cut(stack)
    });
    let turns = Turns {
        said: folded::share(&stacks, |stack| stack.has("heavy_1")),
        known: truth("heavy") / (truth("heavy") + truth("light")),
        impossible,
        stacks,
    };
    println!(
        "{} {arguments:?} {options:?}: said {:.4}, known {:.4}, impossible {impossible:.5}; {}",
        python.full_version(),
        turns.said,
        turns.known,
        finished.summary().line
    );
    let summary = finished.summary();
    // Nothing of this is excused by noise; whether it is allowed at all depends on the arguments.
    assert!(
        impossible == 0.0 || arguments.contains(&"tight"),
        "{:?}",
        turns.stacks
    );
    ensure!(summary.truncated * 100 <= summary.samples, "{summary:?}");
    Ok(turns)
}

/// What had to be cut short says so in its first frame; the summary counts it, and it is bounded there.
fn is_cut(stack: &Stack) -> bool {
    let mut frames = stack.frames.iter();
    frames.any(|frame| folded::names(frame, "<truncated>"))
}

/// Whether a greenlet of `greenlets.py` can have this stack. The one that runs may not be on yet, or not any more.
fn is_possible(stack: &Stack, whose: &str, arguments: &[&str]) -> bool {
    let mut names = vec![format!("{whose}_1"), format!("{whose}_2")];
    if arguments.contains(&"generators") {
        names.push(format!("{whose}_generator"));
    }
    names.push(format!("{whose}_3"));
    let above = [
        format!("{whose}_work"),
        "stopped".into(),
        "turn_ends".into(),
    ];
    let shown = |at: usize, name: &str| {
        let frame = stack.frames.get(at);
        frame.is_some_and(|frame| folded::names(frame, name))
    };
    let own = names.iter().enumerate().all(|(at, name)| shown(at, name));
    let rest = stack.frames.len().saturating_sub(names.len());
    own && (rest == 0 || rest == 1 && above.iter().any(|name| shown(names.len(), name)))
}

fn shares_are_those_of_the_clock(python: &'static Interpreter) {
    let _turn = machine::alone();
    share_is_that_of_the_clock(python, &[]);
}

fn share_is_that_of_the_clock(python: &Interpreter, arguments: &[&str]) {
    let Some(packages) = packages(python) else {
        return;
    };
    holds_once(|| {
        let turns = turns(python, &packages, arguments, &["-d", "2", "-r", "5khz"])?;
        let (said, known) = (turns.said, turns.known);
        ensure!((said - known).abs() < ALLOWED, "said {said}, known {known}");
        Ok(())
    });
}

fn stacks_with_generators_are_whole(python: &'static Interpreter) {
    let _turn = machine::alone();
    share_is_that_of_the_clock(python, &["generators"]);
}

/// A turn takes as long as a sample does, and a good part of it is the switch.
#[test]
fn impossible_stacks_are_rare_where_turns_are_as_short_as_a_sample() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        for arguments in [&["tight"][..], &["tight", "generators"]] {
            let Some(packages) = packages(python) else {
                return;
            };
            holds_once(|| {
                let tight = turns(python, &packages, arguments, &["-d", "2", "-r", "10khz"])?;
                ensure!(tight.impossible <= 0.001, "{:?}", tight.stacks);
                Ok(())
            });
        }
    }
}

/// Tasks of gevent, on the hub's own stack and off it, each with its work below its own functions only.
fn gevent_tells_its_tasks_apart(python: &'static Interpreter) {
    let _turn = machine::alone();
    let Some(packages) = packages(python) else {
        return;
    };
    holds_once(|| gevent_tasks_have_their_shares(python, &packages));
}

fn gevent_tasks_have_their_shares(python: &Interpreter, packages: &Path) -> Result<(), String> {
    let target = launch(python, packages, "gevents.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stacks.folded");
    let finished = pystrobe(["attach", &target.pid().to_string(), "-d", "2", "-o"])
        .arg(&file)
        .run()
        .ok();
    let truth = target.stop();
    let stacks = folded::parse(&std::fs::read_to_string(&file).unwrap());
    let summary = finished.summary();
    println!("{}: {}", python.full_version(), summary.line);
    let mixed = folded::share(&stacks, |stack| {
        stack.has("slow_task") && stack.has("quick_task")
    });
    assert!(mixed == 0.0, "{stacks:?}");
    ensure!(summary.truncated * 100 <= summary.samples, "{summary:?}");
    let spent = |task: &str| truth[task].as_f64().unwrap();
    let share = |task: &str| folded::share(&stacks, |stack| stack.has(task));
    let all = (
        share("slow_task") + share("quick_task"),
        spent("slow_task") + spent("quick_task"),
    );
    let (said, known) = (share("slow_task") / all.0, spent("slow_task") / all.1);
    ensure!((said - known).abs() < ALLOWED, "said {said}, known {known}");
    Ok(())
}
