//! Which time counts is chosen when recording, and again when converting.

use std::path::Path;

use pystrobe_exporters::{Format, Style, write};
use pystrobe_profile::{Clocks, Measured, Profile, Seen};

use crate::recorder::{Sample, function, record, record_clocks, thread};
use crate::support::attempts::{ensure, holds_once};
use crate::support::interpreters;
use crate::support::pystrobe::{Pystrobe, pystrobe};
use crate::support::target::Target;
use crate::support::{folded, machine, pstats};

const SECOND: u64 = 1_000_000_000;

/// Three functions below one: `compute` for 4 s on a CPU, `contend` for 3 s of which it waits 2 for the GIL, `sleep`
/// for 5 s.
fn samples() -> Vec<(Sample, Seen)> {
    let on = |wall, cpu, gil, waiting| Clocks {
        wall,
        cpu,
        gil,
        gil_wait: waiting / 5,
        exception: 0,
        waiting,
    };
    [
        (1, on(4, 4, 4, 0)),
        (2, on(3, 1, 1, 2)),
        (3, on(5, 0, 0, 5)),
    ]
    .map(|(function, seconds)| {
        let sample = Sample {
            thread: 0,
            stack: vec![(0, 2), (function, 10)],
            nanoseconds: seconds.wall * SECOND,
            samples: seconds.wall,
        };
        let nanoseconds = on(
            seconds.wall * SECOND,
            seconds.cpu * SECOND,
            seconds.gil * SECOND,
            seconds.waiting * SECOND,
        );
        let seen = Seen {
            nanoseconds,
            samples: seconds,
        };
        (sample, seen)
    })
    .to_vec()
}

/// A file as a recording leaves it, with all clocks or with that of the wall only.
fn save(path: &Path, all: bool) {
    let functions =
        ["main", "compute", "contend", "sleep"].map(|name| function("a.py", 1, name, ""));
    let threads = [thread("MainThread", 1)];
    let profile: Profile = if all {
        let measured = Measured {
            cpu: true,
            gil: true,
            gil_wait: true,
            exception: true,
            waiting: true,
        };
        record_clocks(&functions, &threads, &samples(), measured)
    } else {
        let samples: Vec<Sample> = samples().into_iter().map(|(sample, _)| sample).collect();
        record(&functions, &threads, &samples)
    };
    let mut file = std::fs::File::create(path).unwrap();
    write(&profile, Format::Pstats, &Style::default(), &mut file).unwrap();
}

fn convert(folder: &Path, words: &str) -> Pystrobe {
    pystrobe(["convert"]).args(words.split(' ')).dir(folder)
}

/// Each function with its seconds.
fn seconds(folder: &Path, words: &str) -> Vec<(String, u64)> {
    let text = convert(folder, &format!("{words} -q -f folded"))
        .run()
        .ok()
        .text();
    let name = |stack: &folded::Stack| stack.frames[1].split(' ').next().unwrap().to_owned();
    folded::parse(&text)
        .iter()
        .map(|stack| (name(stack), stack.weight / 1_000_000))
        .collect()
}

#[test]
fn a_clock_is_chosen_again() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    save(&here.join("all.pstats"), true);
    let named = |seconds: &[(&str, u64)]| -> Vec<(String, u64)> {
        let named = seconds
            .iter()
            .map(|&(name, seconds)| (name.to_owned(), seconds));
        named.collect()
    };
    let wall = named(&[("compute", 4), ("contend", 3), ("sleep", 5)]);
    let running = named(&[("compute", 4), ("contend", 1)]);
    for (options, expected) in [
        ("", &wall),
        (" --mode wall", &wall),
        (" --idle", &wall),
        (" --no-idle", &running),
        (" --mode wall --no-idle", &running),
        (" --mode cpu", &running),
        (" --mode gil", &running),
    ] {
        assert_eq!(
            &seconds(here, &format!("all.pstats{options}")),
            expected,
            "{options}"
        );
    }

    // Every reader sees the clock that was chosen, and none is lost by it.
    convert(here, "all.pstats -o cpu.pstats --mode cpu")
        .run()
        .ok();
    let stats = pstats::read(interpreters::newest(), &here.join("cpu.pstats"));
    stats.obeys_the_laws();
    assert!((stats.total_tt - 5.0).abs() < 1e-9, "{}", stats.total_tt);
    assert_eq!(stats.row("a.py", "contend").cc, 1);
    assert!(stats.find("a.py", "sleep").next().is_none());
    assert_eq!(
        seconds(here, "cpu.pstats"),
        running,
        "it stays what it shows"
    );
    let table = convert(here, "cpu.pstats").run().ok().text();
    assert!(
        table.starts_with("own %  own cpu s  cum %  cum cpu s"),
        "{table}"
    );
    convert(here, "cpu.pstats -o wall.pstats --mode wall")
        .run()
        .ok();
    let read = |name: &str| std::fs::read(here.join(name)).unwrap();
    assert!(read("wall.pstats") == read("all.pstats"));
}

#[test]
fn a_clock_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    save(&here.join("all.pstats"), true);
    save(&here.join("wall.pstats"), false);
    let refused = |words: &str, code: i32, said: &[&str]| {
        let finished = convert(here, &format!("{words} -o out.pstats")).run();
        finished.failed(code, said);
        assert!(finished.stderr.contains("hint: "), "{finished:?}");
        assert!(!here.join("out.pstats").exists());
    };
    refused(
        "wall.pstats --mode cpu",
        10,
        &["cpu time was not measured", "--mode cpu"],
    );
    refused(
        "wall.pstats --no-idle",
        10,
        &["active time was not measured", "--no-idle"],
    );
    refused(
        "all.pstats --mode exception",
        8,
        &["no exception time", "--mode exception"],
    );
    refused("all.pstats --mode cpu --no-idle", 2, &["wall time"]);
    assert_eq!(seconds(here, "wall.pstats --mode wall").len(), 3);
}

/// The crate that reads old interpreters knows no clock, and that is said before any time is lost.
#[test]
fn old_interpreters_have_wall_time_only() {
    let _turn = machine::shared();
    interpreters::on_any("3.7", |python| {
        let target = Target::launch(python, "alternating.py", &[]);
        let pid = target.pid().to_string();
        for (options, said) in [
            (&["--mode", "gil"][..], "gil time"),
            (&["--no-idle"], "active time"),
        ] {
            let finished = pystrobe(["attach", &pid]).args(options).run();
            finished.failed(4, &[said, "cannot be measured", options[0]]);
        }
        let options = [
            "attach", &pid, "-d", "0.3", "--mode", "wall", "--idle", "-q",
        ];
        assert!(pystrobe(options).run().ok().text().contains("alternat"));
    });
}

/// The share of the time that stacks have in which a predicate holds.
fn share(text: &str, holds: impl Fn(&folded::Stack) -> bool) -> f64 {
    folded::share(&folded::parse(text), holds)
}

/// One thread computes and collects garbage in turn, with the GIL; the other sleeps without it.
#[test]
fn the_gil_and_garbage_collection_are_told() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let target = Target::launch(python, "collecting.py", &[]);
            let pid = target.pid().to_string();
            let folder = tempfile::tempdir().unwrap();
            let here = folder.path();
            pystrobe(["attach", &pid, "-d", "2", "-q", "-o", "all.pstats"])
                .dir(here)
                .run()
                .ok();
            let without = pystrobe(["attach", &pid, "-d", "0.5", "-q", "-f", "folded"])
                .args(["--no-gc", "--mode", "gil"])
                .run()
                .ok()
                .text();
            let truth = target.stop();
            assert!(
                share(&without, |stack| stack.has("<GC>")) == 0.0,
                "{without}"
            );
            let [computed, collected] =
                ["computed", "collected"].map(|key| truth[key].as_f64().unwrap());
            let wall = convert(here, "all.pstats -q -f folded").run().ok().text();
            let gil = convert(here, "all.pstats -q -f folded --mode gil")
                .run()
                .ok()
                .text();

            ensure!(share(&wall, |stack| stack.has("nap")) > 0.3, "{wall}");
            ensure!(share(&gil, |stack| stack.has("nap")) < 0.05, "{gil}");
            let total = |text: &str| {
                folded::parse(text)
                    .iter()
                    .map(|stack| stack.weight)
                    .sum::<u64>()
            };
            let held = total(&gil) as f64 / total(&wall) as f64;
            ensure!((0.4..0.6).contains(&held), "{held} of two threads' time");

            let said = share(&gil, |stack| stack.has("collect"));
            let known = collected / (computed + collected);
            ensure!(
                (said - known).abs() < 0.05,
                "{:?}: {said}, {known}",
                python.version
            );
            let in_gc = share(&gil, |stack| stack.has("<GC>"));
            // 3.8 has it for all interpreters together, elsewhere.
            let expected = if python.version < (3, 9, 0) {
                0.0
            } else {
                said
            };
            ensure!(
                (in_gc - expected).abs() < 0.05,
                "{:?}: {in_gc}, {said}",
                python.version
            );
            ensure!(
                share(&without, |stack| stack.has("collect")) > 0.1,
                "{without}"
            );
            Ok(())
        });
    }
}

/// Every function's share of the processor time, by what the threads say of themselves; and who waits, and who handles an exception.
#[test]
fn processor_time_and_exceptions_are_told() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let target = Target::launch(python, "clocks.py", &[]);
            let pid = target.pid().to_string();
            let folder = tempfile::tempdir().unwrap();
            let here = folder.path();
            pystrobe(["attach", &pid, "-d", "3", "-q", "-o", "all.pstats"])
                .dir(here)
                .run()
                .ok();
            let spent = target.stop();
            let on = |words: &str| {
                let words = format!("all.pstats -q -f folded --mode {words}");
                folded::parse(&convert(here, &words).run().ok().text())
            };
            let [wall, cpu, active] = [on("wall"), on("cpu"), on("wall --no-idle")];
            let [gil, gil_wait, exception] = [on("gil"), on("gil-wait"), on("exception")];
            let time = |stacks: &[folded::Stack], function: &str| -> f64 {
                let within = stacks.iter().filter(|stack| stack.has(function));
                within.map(|stack| stack.weight as f64).sum()
            };
            let truth = |function: &str| spent[function].as_f64().unwrap();

            let computing = ["compute", "crunch", "mend", "plain"];
            let known: f64 = computing.into_iter().map(truth).sum();
            for function in computing {
                let said = folded::share(&cpu, |stack| stack.has(function));
                let known = truth(function) / known;
                ensure!(
                    (said - known).abs() < 0.05,
                    "{:?} {function}: {said}, {known}",
                    python.version
                );
            }
            for function in ["nap", "pause"] {
                let [wall, cpu, active] =
                    [&wall, &cpu, &active].map(|stacks| time(stacks, function));
                ensure!(
                    cpu < 0.1 * wall && active < 0.5 * wall,
                    "{:?} {function}: {wall}, {cpu}, {active}",
                    python.version
                );
            }
            // Whoever runs Python and has not the GIL wants it; or was woken with it and waits for a processor. How long that takes, and the
            // time in which the machine itself does not run, is the machine's affair, and in none of the accounts: a third, where it is shared.
            for function in ["compute", "mend", "plain"] {
                let [wall, held, wanted] =
                    [&wall, &gil, &gil_wait].map(|stacks| time(stacks, function));
                ensure!(
                    wanted > 0.1 * wall && (0.6..1.01).contains(&((held + wanted) / wall)),
                    "{:?} {function}: {wall}, {held}, {wanted}",
                    python.version
                );
            }
            // It waits for the GIL at its end, and else it is on a CPU or wants one.
            let [all, on_cpu, busy, wanted] =
                [&wall, &cpu, &active, &gil_wait].map(|stacks| time(stacks, "crunch"));
            ensure!(
                (0.98 * on_cpu..all).contains(&busy)
                    && (0.6..1.05).contains(&((busy + wanted) / all)),
                "{:?}: {all}, {on_cpu}, {busy}, {wanted}",
                python.version
            );

            ensure!(
                time(&exception, "mend") > 0.9 * time(&wall, "mend"),
                "{:?}",
                python.version
            );
            for function in ["plain", "crunch", "compute"] {
                let share = time(&exception, function) / time(&wall, function);
                ensure!(share < 0.02, "{:?} {function}: {share}", python.version);
            }
            Ok(())
        });
    }
}

/// The kernel's accounts are found for processes that come and go too, whose threads may still bear the ids of those they were copied from.
#[test]
fn forked_children_have_clocks_of_their_own() {
    let _turn = machine::alone();
    for python in interpreters::one_per_family() {
        let target = Target::launch(python, "forking.py", &[]);
        let pid = target.pid().to_string();
        for mode in ["cpu", "gil"] {
            holds_once(|| {
                let text = pystrobe(["attach", &pid, "-d", "1.5", "-q", "-f", "folded"])
                    .args(["--subprocesses", "--mode", mode])
                    .run()
                    .ok()
                    .text();
                // It spends 20 ms, while its parent spends 50.
                let share = share(&text, |stack| stack.has("child_work"));
                ensure!(
                    (0.1..0.5).contains(&share),
                    "{:?} {mode}: {share}",
                    python.version
                );
                Ok(())
            });
        }
        target.stop();
    }
}

/// What a fork copies says who the parent's thread was: nobody corrects that where the interpreter is not told, and 3.8 to 3.10 never
/// knew.
#[test]
fn a_forked_child_has_threads_of_its_own() {
    let _turn = machine::alone();
    for version in interpreters::SUPPORTED {
        interpreters::on(version, |python| {
            for how in ["os", "libc"] {
                holds_once(|| {
                    let target = Target::launch(python, "forked.py", &[how]);
                    let child = target.news["child"].to_string();
                    let dumped = pystrobe(["dump", "--json", &child]).run().ok().text();
                    let dumped: serde_json::Value = serde_json::from_str(&dumped).unwrap();
                    assert_eq!(dumped["threads"][0]["tid"].to_string(), child, "{how}");

                    let folder = tempfile::tempdir().unwrap();
                    let here = folder.path();
                    pystrobe(["attach", &child, "-d", "2", "-q", "-o", "all.pstats"])
                        .args(["--thread", &child])
                        .dir(here)
                        .run()
                        .ok();
                    target.stop();
                    let time = |mode: &str| -> u64 {
                        let words = format!("all.pstats -q -f folded --mode {mode}");
                        let stacks = folded::parse(&convert(here, &words).run().ok().text());
                        let crunches = stacks.iter().filter(|stack| stack.has("crunch"));
                        crunches.map(|stack| stack.weight).sum()
                    };
                    let (cpu, wall) = (time("cpu"), time("wall"));
                    // Whose account is not found is taken to run with the GIL only.
                    ensure!(
                        cpu * 20 > wall,
                        "{how} on {}: {cpu} of {wall} us",
                        python.full_version()
                    );
                    Ok(())
                });
            }
        });
    }
}
