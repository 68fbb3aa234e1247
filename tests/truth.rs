//! What the profile says, against what the target itself knows.
//!
//! Each of these tests has the machine to itself, and compares with what was measured at the same time in the same
//! process, so that a slow or busy machine changes both sides. Where it changes them by different amounts, the comparison is made
//! again: see `attempts`.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::attempts::{ensure, holds_once};
use crate::support::folded::{self, Stack};
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::pystrobe::{Finished, pystrobe};
use crate::support::target::Target;
use crate::support::{machine, pstats};

on_each_version! {
    shares_are_those_of_the_clock = shares_are_those_of_the_clock;
    no_stack_is_impossible = no_stack_is_impossible;
    no_function_is_misnamed = no_function_is_misnamed;
    an_outermost_function_keeps_its_caller = an_outermost_function_keeps_its_caller;
}

fn attach(target: &Target, options: &[&str], output: &Path) -> Finished {
    pystrobe(["attach", &target.pid().to_string()])
        .args(options)
        .arg("-o")
        .arg(output)
        .run()
        .ok()
}

/// How far a share may be off.
const ALLOWED: f64 = 0.03;

/// The share of the recursion in `alternating.py`, as the profile says it, and as the program knows it.
fn shares(python: &Interpreter, options: &[&str]) -> (f64, f64) {
    let target = Target::launch(python, "alternating.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    let finished = attach(&target, options, &file);
    let truth = target.stop();
    let stats = pstats::read(python, &file);
    let recursion = stats.row("alternating.py", "recursion").ct;
    let flat = stats.row("alternating.py", "loop").ct;
    let said = recursion / (recursion + flat);
    let truth = |key: &str| truth[key].as_f64().unwrap();
    let known = truth("recursion") / (truth("recursion") + truth("loop"));
    println!(
        "{} {options:?}: said {said:.4}, known {known:.4}; {}",
        python.full_version(),
        finished.summary().line
    );
    (said, known)
}

fn shares_are_those_of_the_clock(python: &'static Interpreter) {
    let _turn = machine::alone();
    // Often enough that chance is a tenth of what is allowed.
    share_is_that_of_the_clock(python, &["-d", "3", "-r", "5khz"]);
}

fn share_is_that_of_the_clock(python: &Interpreter, options: &[&str]) {
    holds_once(|| {
        let (said, known) = shares(python, options);
        ensure!((said - known).abs() < ALLOWED, "said {said}, known {known}");
        Ok(())
    });
}

/// The reference, with the target paused at each sample, says the same.
#[test]
fn shares_are_those_of_blocking_samples() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let (running, known_running) = shares(python, &["-d", "4", "-r", "5khz"]);
            let (paused, known_paused) = shares(python, &["-d", "4", "-r", "2khz", "--blocking"]);
            ensure!(
                (paused - known_paused).abs() < 0.03,
                "said {paused}, known {known_paused}"
            );
            let (running, paused) = (running - known_running, paused - known_paused);
            ensure!(
                (running - paused).abs() < ALLOWED,
                "off by {running}, and by {paused} with pauses"
            );
            Ok(())
        });
    }
}

/// At full speed too, where deep stacks take longer to read than flat ones.
#[test]
fn shares_are_those_of_the_clock_at_full_speed() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        share_is_that_of_the_clock(python, &["-d", "3", "-r", "1MHz"]);
    }
}

/// What was said of `generators.py`.
struct Alternation {
    stacks: Vec<Stack>,
    /// The share of stacks that it cannot have.
    impossible: f64,
    /// The share of `alternate` itself, without the generators.
    driver: f64,
}

fn alternation(
    python: &Interpreter,
    arguments: &[&str],
    options: &[&str],
) -> Result<Alternation, String> {
    let target = Target::launch(python, "generators.py", arguments);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stacks.folded");
    let finished = attach(&target, options, &file);
    target.stop();

    let stacks = folded::parse(&std::fs::read_to_string(&file).unwrap());
    let possible: [&[&str]; 6] = [
        &[],
        &["stopped"],
        &["ping"],
        &["ping", "ping_helper"],
        &["pong"],
        &["pong", "pong_helper"],
    ];
    let below_alternate = |stack: &Stack| -> Option<Vec<String>> {
        let at = stack
            .frames
            .iter()
            .position(|frame| folded::names(frame, "alternate"))?;
        Some(stack.frames[at + 1..].to_vec())
    };
    let is_possible = |stack: &Stack| {
        below_alternate(stack).is_some_and(|frames| {
            possible.iter().any(|names| {
                names.len() == frames.len()
                    && names
                        .iter()
                        .zip(&frames)
                        .all(|(name, frame)| folded::names(frame, name))
            })
        })
    };
    // It may not have gone on yet after it said that it was ready.
    let is_ready = |stack: &Stack| {
        let last = stack.frames.last();
        last.is_some_and(|frame| folded::names(frame, "ready"))
    };
    // What had to be cut short says so in its first frame; the summary counts it, and here it is bounded.
    let is_cut = |stack: &Stack| {
        let mut frames = stack.frames.iter();
        frames.any(|frame| folded::names(frame, "<truncated>"))
    };
    let impossible = folded::share(&stacks, |stack| {
        !is_cut(stack) && !is_ready(stack) && !is_possible(stack)
    });
    let driver = folded::share(&stacks, |stack| {
        below_alternate(stack).is_some_and(|frames| frames.is_empty())
    });
    println!(
        "{} {arguments:?} {options:?}: impossible {impossible:.5}, driver {driver:.4}; {}",
        python.full_version(),
        finished.summary().line
    );
    let summary = finished.summary();
    // Nothing of this is excused by noise; whether it is allowed at all depends on the arguments.
    assert!(
        impossible == 0.0 || arguments.contains(&"tight"),
        "{stacks:?}"
    );
    ensure!(summary.truncated * 50 <= summary.samples, "{summary:?}");
    for name in ["ping_helper", "pong_helper"] {
        ensure!(
            folded::share(&stacks, |stack| stack.has(name)) > 0.1,
            "{name} in {stacks:?}"
        );
    }
    Ok(Alternation {
        stacks,
        impossible,
        driver,
    })
}

fn no_stack_is_impossible(python: &'static Interpreter) {
    let _turn = machine::alone();
    holds_once(|| {
        let running = alternation(python, &[], &["-d", "2"])?;
        alternation(python, &[], &["-d", "1", "-r", "1MHz"])?;
        let paused = alternation(python, &[], &["-d", "2", "--blocking"])?;
        // Of a few hundredths; a sampler that is felt by what it looks at says a tenth.
        ensure!(
            (running.driver - paused.driver).abs() < 0.05,
            "{} running, {} paused",
            running.driver,
            paused.driver
        );
        Ok(())
    });
}

/// Several times as often, in half a microsecond, and sampled as fast as the machine can: there a frame is now and then
/// read while it is made.
#[test]
fn impossible_stacks_are_rare_where_turns_are_shorter_than_a_sample() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let tight = alternation(python, &["tight"], &["-d", "2", "-r", "10khz"])?;
            ensure!(tight.impossible <= 0.001, "{:?}", tight.stacks);
            Ok(())
        });
    }
}

/// Two threads, each with a generator that is made anew at the addresses of the other one's, and each waiting for the GIL
/// most of the time: what is taken for one thread's once must not mislead all that follow.
#[test]
fn stacks_are_whole_where_two_threads_share_addresses() {
    let _turn = machine::alone();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/orders.py");
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let folder = tempfile::tempdir().unwrap();
            let finished = pystrobe(["run", "--python"])
                .arg(&python.path)
                .arg("-o")
                .arg(folder.path().join("out.pstats"))
                .args([script, "2"])
                .run()
                .ok();
            let summary = finished.summary();
            println!("{}: {}", python.full_version(), summary.line);
            ensure!(summary.truncated * 30 <= summary.samples, "{summary:?}");
            Ok(())
        });
    }
}

fn no_function_is_misnamed(python: &'static Interpreter) {
    let _turn = machine::shared();
    for rate in ["1khz", "1MHz"] {
        // How many are seen in three seconds depends on the machine.
        let mut seen = 0;
        holds_once(|| {
            seen += functions_seen_and_not_misnamed(python, rate);
            ensure!(seen > 500, "{seen} functions seen so far, at {rate}");
            Ok(())
        });
    }
}

fn functions_seen_and_not_misnamed(python: &Interpreter, rate: &str) -> u32 {
    let target = Target::launch(python, "redefined.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    attach(&target, &["-d", "3", "-r", rate], &file);
    let defined = target.stop()["defined"].as_u64().unwrap();

    let stats = pstats::read(python, &file);
    let mut seen = 0;
    for (name, row) in &stats.rows {
        let Some(number) = name
            .0
            .strip_prefix("<gen ")
            .and_then(|rest| rest.strip_suffix('>'))
        else {
            continue;
        };
        if name.2 == "<module>" {
            continue;
        }
        seen += 1;
        let first_line = number.parse::<u32>().unwrap() % 100 + 1;
        assert_eq!(
            (name.1, &name.2),
            (first_line, &format!("f_{number}")),
            "{name:?}"
        );
        let callers: Vec<_> = row.callers.iter().map(|edge| edge.key.2.as_str()).collect();
        assert_eq!(callers, ["redefine"], "{name:?}");
    }
    println!(
        "{} {rate}: {seen} functions seen of {defined}",
        python.full_version()
    );
    seen
}

#[test]
fn own_times_add_up_to_the_time_that_passed() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        for rate in ["100hz", "1khz", "10khz", "1MHz"] {
            holds_once(|| {
                let target = Target::launch(python, "alternating.py", &[]);
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("out.pstats");
                let finished = attach(&target, &["-d", "3", "-r", rate], &file);
                let (own, summary) = (pstats::read(python, &file).own_time(), finished.summary());
                println!(
                    "{} {rate}: {own:.3} s; {}",
                    python.full_version(),
                    summary.line
                );
                for observed in [3.0, summary.seconds] {
                    ensure!(
                        (own / observed - 1.0).abs() < 0.01,
                        "{own} s of {observed} s, at {rate}"
                    );
                }
                Ok(())
            });
        }
    }
}

/// A profiler that was itself stopped does not take the samples that it missed all at once.
#[test]
fn a_stopped_profiler_does_not_burst() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let target = Target::launch(python, "alternating.py", &[]);
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("out.pstats");
            let mut session = pystrobe(["attach", &target.pid().to_string(), "-d", "3", "-o"])
                .arg(&file)
                .start();
            session.is_sampling();
            session.running.signal(Signal::SIGSTOP);
            // The length of the stop is what this is about.
            std::thread::sleep(Duration::from_millis(500));
            session.running.signal(Signal::SIGCONT);
            let summary = session.finish().ok().summary();
            println!("{}: {}", python.full_version(), summary.line);
            assert!(
                summary.samples < 2600,
                "as if nothing had been missed: {summary:?}"
            );
            assert!(summary.seconds > 2.9, "{summary:?}");
            assert!(summary.skipped >= 400, "{summary:?}");
            let own = pstats::read(python, &file).own_time();
            ensure!(
                (own / summary.seconds - 1.0).abs() < 0.01,
                "{own} s of {summary:?}"
            );
            Ok(())
        });
    }
}

/// What is below the outermost function of a data stack is not read with every sample; it must not be taken from another call.
/// Up to 3.11 a generator that has no caller looks as if it were suspended: its stacks are cut, and counted as that.
fn an_outermost_function_keeps_its_caller(python: &'static Interpreter) {
    if python.version < (3, 12, 0) {
        return;
    }
    let _turn = machine::alone();
    holds_once(|| outermost_function_has_its_share(python));
}

fn outermost_function_has_its_share(python: &'static Interpreter) -> Result<(), String> {
    let target = Target::launch(python, "outermost.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stacks.folded");
    let finished = attach(&target, &["-d", "2", "-r", "10khz"], &file);
    let truth = target.stop();
    let truth = |key: &str| truth[key].as_f64().unwrap();
    let stacks = folded::parse(&std::fs::read_to_string(&file).unwrap());

    let of_work = |below: bool| {
        folded::share(&stacks, |stack| {
            stack.has("work") && stack.has("source") == below
        })
    };
    let said = of_work(true) / (of_work(true) + of_work(false));
    let known = truth("below_source") / (truth("below_source") + truth("alone"));
    println!(
        "{}: said {said:.4}, known {known:.4}; {}",
        python.full_version(),
        finished.summary().line
    );
    ensure!((said - known).abs() < ALLOWED, "said {said}, known {known}");
    Ok(())
}
