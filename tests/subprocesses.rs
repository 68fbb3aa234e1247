//! Processes that start others, recorded with them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::attempts::{ensure, holds_once};
use crate::support::interpreters::{self, Interpreter};
use crate::support::process::{PATIENCE, Running};
use crate::support::pstats::{self, Stats};
use crate::support::pystrobe::{Finished, pystrobe};
use crate::support::target::Target;
use crate::support::{folded, line_of, machine, target_script, tests_folder};

/// Frames as heap objects, on a data stack, and as interpreters that describe themselves have them.
const VERSIONS: [&str; 4] = ["3.8", "3.12", "3.14", "3.15"];

fn on_versions(test: impl Fn(&'static Interpreter)) {
    for version in VERSIONS {
        interpreters::on(version, &test);
    }
}

fn run(python: &Interpreter, folder: &Path, words: &[&str], script: &str, of: &[&str]) -> Finished {
    pystrobe(["run", "--subprocesses", "--python"])
        .arg(&python.path)
        .args(words)
        .dir(folder)
        .arg(target_script(script))
        .args(of)
        .run()
        .ok()
}

/// The files `each-PID.pstats` in a folder, by PID.
fn each(python: &Interpreter, folder: &Path) -> BTreeMap<u32, Stats> {
    let names = std::fs::read_dir(folder).unwrap();
    let pid = |name: &str| -> Option<u32> {
        let pid = name.strip_prefix("each-")?.strip_suffix(".pstats")?;
        Some(pid.parse().unwrap())
    };
    names
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let pid = pid(entry.file_name().to_str().unwrap())?;
            Some((pid, pstats::read(python, &entry.path())))
        })
        .collect()
}

fn own_time(stats: &BTreeMap<u32, Stats>) -> f64 {
    stats.values().map(Stats::own_time).sum()
}

/// Seconds on the stack, 0 where the function was not seen.
fn on_stack(stats: &Stats, script: &str, function: &str) -> f64 {
    stats.find(script, function).map(|(_, row)| row.ct).sum()
}

/// Three children each by fork, fork and exec, posix_spawn, and a child that has a child; none lives longer than 50 ms
/// and what its Python takes to start. Between them shells and others, of which nothing may be seen.
#[test]
fn catches_every_short_lived_child() {
    let _turn = machine::alone();
    on_versions(|python| holds_once(|| short_lived_children_are_caught(python)));
}

fn short_lived_children_are_caught(python: &Interpreter) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let outputs = [
        "-o",
        "all.pstats",
        "-o",
        "each-{pid}.pstats",
        "-o",
        "all.folded",
    ];
    let finished = run(python, folder.path(), &outputs, "children.py", &[]);
    let children: Vec<(String, u32, f64)> = serde_json::from_slice(&finished.stdout).unwrap();
    assert_eq!(children.len(), 15);

    let each = each(python, folder.path());
    let expected: BTreeSet<u32> = children.iter().map(|(_, pid, _)| *pid).collect();
    let unknown: Vec<_> = each.keys().filter(|pid| !expected.contains(pid)).collect();
    assert_eq!(unknown.len(), 1, "the parent alone: {finished:?}");
    for (kind, pid, seconds) in &children {
        // If pystrobe stands still, what a child does in 50 ms is over before it is met.
        let Some(stats) = each.get(pid) else {
            return Err(format!("{kind} {pid} was missed: {finished:?}"));
        };
        let seen = on_stack(stats, "children.py", kind);
        ensure!(seen > 0.025, "{kind} {pid}: {seen} of {seconds} s");
        let own = stats.own_time();
        ensure!(own < seconds + 0.005, "{kind} {pid}: {own} of {seconds} s");
    }
    assert!(
        finished.summary().line.ends_with(", in 16 processes"),
        "{finished:?}"
    );

    let all = pstats::read(python, &folder.path().join("all.pstats"));
    all.obeys_the_laws();
    assert!((all.own_time() - own_time(&each)).abs() < 1e-6 * all.own_time());

    // In stacks and flame graphs each has a frame of its own.
    let text = std::fs::read_to_string(folder.path().join("all.folded")).unwrap();
    let stacks = folded::parse(&text);
    for (kind, pid, _) in &children {
        let process = format!("process {pid}");
        let mut its = stacks
            .iter()
            .filter(|stack| folded::names(&stack.frames[0], &process));
        assert!(its.any(|stack| stack.has(kind)), "{kind} {pid}");
    }

    // The merged file still knows them apart.
    let apart = tempfile::tempdir().unwrap();
    pystrobe(["convert"])
        .dir(apart.path())
        .arg(folder.path().join("all.pstats"))
        .args(["-o", "each-{pid}.pstats"])
        .run()
        .ok();
    for pid in each.keys() {
        let read = |folder: &Path| std::fs::read(folder.join(format!("each-{pid}.pstats")));
        let (again, before) = (read(apart.path()).unwrap(), read(folder.path()).unwrap());
        assert!(again == before, "{pid}");
    }
    Ok(())
}

/// What a pool's workers say they worked is what is seen of them, by however they are started.
fn pool(method: &str) {
    let _turn = machine::alone();
    on_versions(|python| holds_once(|| workers_are_seen_at_work(python, method)));
}

/// How many moments were skipped says nothing here: two workers have both processors of a small machine to themselves, and each sample
/// weighs what passed since the one before it.
fn workers_are_seen_at_work(python: &Interpreter, method: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let outputs = ["-o", "all.pstats", "-o", "each-{pid}.pstats"];
    let finished = run(python, folder.path(), &outputs, "pool.py", &[method]);
    let worked: BTreeMap<u32, f64> = serde_json::from_slice(&finished.stdout).unwrap();
    let each = each(python, folder.path());
    let all = pstats::read(python, &folder.path().join("all.pstats"));
    all.obeys_the_laws();
    assert!((all.own_time() - own_time(&each)).abs() < 1e-6 * all.own_time());
    for pid in worked.keys() {
        assert!(each.contains_key(pid), "{pid} is missing: {finished:?}");
    }
    for (pid, seconds) in &worked {
        let seen = on_stack(&each[pid], "pool.py", "piece");
        // A worker may be at work a moment before it is met.
        let off = (seen - seconds).abs();
        ensure!(
            off < 0.02 * seconds + 0.01,
            "{pid}: {seen} of {seconds} s: {finished:?}"
        );
    }
    let (seen, worked) = (
        on_stack(&all, "pool.py", "piece"),
        worked.values().sum::<f64>(),
    );
    ensure!(
        (seen - worked).abs() < 0.02 * worked,
        "{seen} of {worked} s: {finished:?}"
    );
    Ok(())
}

#[test]
fn pool_of_spawned_processes() {
    pool("spawn");
}

#[test]
fn pool_of_a_fork_server() {
    pool("forkserver");
}

#[test]
fn pool_of_forked_processes() {
    pool("fork");
}

#[test]
fn process_pool_executor() {
    pool("executor");
}

/// A shell is no Python, and what it starts is.
#[test]
fn follows_a_shell() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let folder = tempfile::tempdir().unwrap();
    let script = "\"$0\" \"$1\" executed_work; sleep 0.01; \"$0\" \"$1\" spawned_work; exit 3";
    holds_once(|| {
        let finished = pystrobe([
            "run",
            "--subprocesses",
            "-o",
            "all.pstats",
            "--",
            "sh",
            "-c",
            script,
        ])
        .arg(&python.path)
        .arg(target_script("children.py"))
        .dir(folder.path())
        .run();
        assert_eq!(finished.code(), 3, "{finished:?}");
        // Both are over soon, and one that ends before it is met is not counted.
        ensure!(
            finished.summary().line.ends_with(", in 2 processes"),
            "{finished:?}"
        );
        let all = pstats::read(python, &folder.path().join("all.pstats"));
        for function in ["executed_work", "spawned_work"] {
            let seen = on_stack(&all, "children.py", function);
            ensure!(seen > 0.025, "{function}: {seen} s: {finished:?}");
        }
        Ok(())
    });

    // Where nothing is a Python there is nothing to sample.
    let none = pystrobe([
        "run",
        "--subprocesses",
        "-o",
        "none.pstats",
        "--",
        "sh",
        "-c",
        "true; exit 4",
    ])
    .dir(folder.path())
    .run();
    assert_eq!(none.code(), 4);
    assert!(none.stderr.contains("never became a Python"), "{none:?}");
    assert!(!folder.path().join("none.pstats").exists());
}

/// The workers are there before pystrobe is, one is replaced meanwhile, and all are known by what they answer.
#[test]
fn gunicorn_with_four_workers() {
    let _turn = machine::alone();
    let Some(readers) = interpreters::readers() else {
        return;
    };
    holds_once(|| gunicorn_is_seen_at_work(readers));
}

fn gunicorn_is_seen_at_work(readers: &Path) -> Result<(), String> {
    let python = interpreters::newest();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut gunicorn = Command::new(readers.join("bin/gunicorn"));
    gunicorn
        .args(["--workers", "4", "--log-level", "error", "--pythonpath"])
        .arg(tests_folder().join("targets"))
        .arg("--bind")
        .arg(format!("unix:{}", socket.display()))
        .arg("web:app")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut gunicorn = Running::start(&mut gunicorn);
    let began = Instant::now();
    let mut first = None;
    while first.is_none() {
        assert!(began.elapsed() < PATIENCE && gunicorn.ended().is_none());
        first = ask(&socket);
    }

    let pid = gunicorn.pid().to_string();
    let mut session = pystrobe(["attach", "--subprocesses", &pid, "-o", "all.pstats"])
        .args(["-o", "each-{pid}.pstats"])
        .dir(folder.path())
        .start();
    session.is_sampling();
    let mut worked: BTreeMap<u32, f64> = BTreeMap::new();
    let mut ask_often = || {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let client = || (0..25).filter_map(|_| ask(&socket)).collect::<Vec<_>>();
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
            clients
                .into_iter()
                .flat_map(|client| client.join().unwrap())
                .collect()
        });
        assert!(answers.len() > 90, "{}", answers.len());
        for (pid, seconds) in answers {
            *worked.entry(pid).or_default() += seconds;
        }
        worked.keys().copied().collect::<BTreeSet<u32>>()
    };
    // The arbiter starts another worker for the one that ends.
    let before = ask_often();
    let victim = first.unwrap().0;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(victim.cast_signed()),
        Signal::SIGKILL,
    )
    .unwrap();
    while ask_often().is_subset(&before) {
        assert!(began.elapsed() < PATIENCE);
    }
    session.running.signal(Signal::SIGINT);
    let finished = session.finish().ok();
    gunicorn.signal(Signal::SIGTERM);

    assert!(
        finished.summary().line.ends_with(", in 6 processes"),
        "{finished:?}"
    );
    let each = each(python, folder.path());
    assert_eq!(
        each.len(),
        6,
        "the arbiter, and five workers: {:?}",
        each.keys()
    );
    assert_eq!(
        each[&gunicorn.pid()]
            .find("web.py", "answer_slowly")
            .count(),
        0
    );
    let all = pstats::read(python, &folder.path().join("all.pstats"));
    all.obeys_the_laws();
    assert!((all.own_time() - own_time(&each)).abs() < 1e-6 * all.own_time());
    let line = line_of("web.py", "def answer_slowly");
    for stats in each.values() {
        for (key, _) in stats.find("web.py", "answer_slowly") {
            assert_eq!(key.1, line);
        }
    }
    for (pid, seconds) in &worked {
        let seen = on_stack(&each[pid], "web.py", "answer_slowly");
        ensure!(
            (seen - seconds).abs() < 0.02 * seconds + 0.03,
            "{pid}: {seen} of {seconds} s"
        );
    }
    Ok(())
}

/// Asks the application once: who answers, and how long that took him.
fn ask(socket: &Path) -> Option<(u32, f64)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}

/// A daemon's parent ends before anybody sees either; where it lies in memory tells whose it is.
#[test]
fn finds_daemons() {
    let _turn = machine::alone();
    on_versions(|python| {
        holds_once(|| {
            let folder = tempfile::tempdir().unwrap();
            let outputs = ["-o", "each-{pid}.pstats"];
            let finished = run(python, folder.path(), &outputs, "daemons.py", &[]);
            let daemons: Vec<u32> = serde_json::from_slice(&finished.stdout).unwrap();
            assert_eq!(daemons.len(), 6);
            let each = each(python, folder.path());
            for pid in daemons {
                // Its 60 ms are over before it is met, if pystrobe stands still for them.
                let Some(stats) = each.get(&pid) else {
                    return Err(format!("{pid} was missed: {finished:?}"));
                };
                let seen = on_stack(stats, "daemons.py", "daemon_work");
                ensure!(seen > 0.03, "{pid}: {seen} s");
            }
            Ok(())
        });
    });
}

/// What stands still until it executes something else was only on its way there.
#[test]
fn a_copy_that_is_late_is_no_process() {
    let _turn = machine::shared();
    on_versions(|python| {
        // What stands still for long is taken for a process, and on a machine that does so itself that comes sooner.
        holds_once(|| {
            let folder = tempfile::tempdir().unwrap();
            let finished = run(python, folder.path(), &["-o", "all.pstats"], "late.py", &[]);
            let line = finished.summary().line;
            ensure!(!line.ends_with(" processes"), "{line}");
            Ok(())
        });
    });
}

/// How many samplers a pystrobe has: each is a thread.
fn samplers(pystrobe: u32) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pystrobe}/task")).unwrap();
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default()
    };
    threads.map(name).filter(|name| name == "sampler\n").count()
}

/// There is room for 256 at once; the others get theirs when some of those end.
#[test]
fn more_than_there_is_room_for_take_turns() {
    let _turn = machine::alone();
    let python = interpreters::newest();
    let mut target = Target::launch(python, "many.py", &["300"]);
    let folder = tempfile::tempdir().unwrap();
    let pid = target.pid().to_string();
    let mut session = pystrobe(["attach", "--subprocesses", &pid, "-r", "10hz"])
        .args(["-o", "all.pstats"])
        .dir(folder.path())
        .start();
    let pystrobe = session.running.pid();
    let until = |count: usize| {
        let began = Instant::now();
        while samplers(pystrobe) != count {
            assert!(
                began.elapsed() < PATIENCE,
                "{} samplers",
                samplers(pystrobe)
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(256);
    target.signal(Signal::SIGUSR1);
    until(201);
    // That the last of them are found and seen takes an interval or two, and on a busy machine a while.
    std::thread::sleep(Duration::from_secs(2));
    session.running.signal(Signal::SIGINT);
    let finished = session.finish().ok();
    target.stop();
    let line = finished.summary().line;
    assert!(line.ends_with(", in 301 processes"), "{finished:?}");
    assert!(!finished.stderr.contains("too many"), "{finished:?}");
}

/// All Pythons of a tree, each under its own heading, and nothing else.
#[test]
fn dumps_a_tree() {
    let _turn = machine::shared();
    on_versions(|python| {
        let target = Target::launch(python, "family.py", &[]);
        let root = target.pid();
        let number = |value: &serde_json::Value| u32::try_from(value.as_u64().unwrap()).unwrap();
        let children = target.news["pids"].as_array().unwrap().iter().map(number);
        let expected: BTreeSet<u32> = children.chain([root]).collect();
        assert_eq!(expected.len(), 4);
        let sleep = number(&target.news["sleep"]).to_string();
        let dump = |words: &[&str]| pystrobe(["dump", "--subprocesses"]).args(words).run();

        let text = dump(&[&root.to_string()]).ok().text();
        for pid in &expected {
            assert!(text.contains(&format!("Process {pid}: ")), "{text}");
        }
        assert!(text.starts_with(&format!("Process {root}: ")), "{text}");
        assert_eq!(text.matches("\nPython ").count(), 4, "{text}");
        assert_eq!(text.matches("Process ").count(), 4, "{text}");

        let json = dump(&["--json", &root.to_string()]).ok().text();
        let dumped: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        let found: BTreeSet<u32> = dumped.iter().map(|one| number(&one["pid"])).collect();
        assert_eq!(found, expected);
        for one in &dumped {
            let frames = one["threads"][0]["frames"].as_array().unwrap();
            let works = frames.iter().any(|frame| frame["function"] == "child_work");
            assert_eq!(works, number(&one["pid"]) != root, "{one}");
        }

        dump(&[&sleep]).failed(4, &["sleep", "not Python"]);
        target.stop();
    });
}

/// The duration ends all samplers, and none of the processes.
#[test]
fn ends_after_the_duration() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let target = Target::launch(python, "forking.py", &[]);
            let folder = tempfile::tempdir().unwrap();
            let pid = target.pid().to_string();
            let finished = pystrobe([
                "attach",
                "--subprocesses",
                &pid,
                "-d",
                "1",
                "-o",
                "all.pstats",
            ])
            .dir(folder.path())
            .run()
            .ok();
            let all = pstats::read(python, &folder.path().join("all.pstats"));
            all.obeys_the_laws();
            target.stop();
            ensure!(
                (finished.summary().seconds - 1.0).abs() < 0.2,
                "{finished:?}"
            );
            let seen = |function| on_stack(&all, "forking.py", function);
            ensure!(seen("parent_work") > 0.5, "{finished:?}");
            ensure!(seen("child_work") > 0.1, "{finished:?}");
            Ok(())
        });
    }
}

/// One process is one file, named after it; and folders are tried before anything else happens.
#[test]
fn names_files_after_the_process() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let target = Target::launch(python, "forking.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let pid = target.pid().to_string();
    let attach = |output: &str| {
        pystrobe(["attach", &pid, "-d", "0.2", "-o", output])
            .dir(folder.path())
            .run()
    };
    attach("each-{pid}.pstats").ok();
    let each = each(python, folder.path());
    assert_eq!(each.keys().copied().collect::<Vec<_>>(), [target.pid()]);
    attach("missing/each-{pid}.pstats").failed(9, &["missing"]);
    attach("{pid}/all.pstats").failed(2, &["{pid}", "folder"]);
    let names = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(names.count(), 1, "no litter");
    target.stop();
}
