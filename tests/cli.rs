//! What is typed, and what comes out.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::attempts::{ensure, holds_once};
use crate::support::folded;
use crate::support::interpreters;
use crate::support::pystrobe::{PROGRAM, Pystrobe, pystrobe};
use crate::support::target::Target;
use crate::support::terminal::Terminal;
use crate::support::{line_of, machine, pstats};

fn launch() -> (Target, String) {
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    (target, pid)
}

#[test]
fn without_an_output_there_is_a_table() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    let finished = pystrobe(["attach", &pid, "-d", "0.5"]).run().ok();
    let table = finished.text();
    for name in ["fibonacci", "loop", "alternating.py"] {
        assert!(table.contains(name), "{name} in {table}");
    }
    // Not a terminal: no colours, and nothing that moves a cursor.
    assert!(
        !table.contains('\x1b') && !finished.stderr.contains('\x1b'),
        "{finished:?}"
    );
    assert_eq!(
        finished.stderr.lines().count(),
        1,
        "only the summary: {finished:?}"
    );
    assert!(finished.summary().samples > 10);
}

#[test]
fn several_outputs_in_one_run() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "a.pstats",
        "b.prof",
        "c.svg",
        "d.folded",
        "e.collapsed",
        "f.txt",
    ];
    let mut run = pystrobe(["attach", &pid, "-d", "0.5", "-o", "-"]).dir(folder.path());
    for name in names {
        run = run.args(["-o", name]);
    }
    let finished = run.run().ok();
    assert!(finished.text().contains("fibonacci"));
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(read("a.pstats"), read("b.prof"));
    assert_eq!(read("d.folded"), read("e.collapsed"));
    assert_eq!(read("d.folded"), read("f.txt"));
    let svg = String::from_utf8(read("c.svg")).unwrap();
    assert!(svg.starts_with("<?xml") && svg.contains("</svg>"));
    pstats::read(interpreters::newest(), &folder.path().join("a.pstats")).obeys_the_laws();
    assert!(!folded::parse(&String::from_utf8(read("d.folded")).unwrap()).is_empty());
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        names.len()
    );
}

#[test]
fn the_format_may_be_said() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    let stdout = |format: &str| {
        pystrobe(["attach", &pid, "-d", "0.5", "-f", format, "-o", "-"])
            .run()
            .ok()
            .stdout
    };
    assert!(stdout("pstats").starts_with(b"\xfb\xa9"));
    assert!(
        String::from_utf8(stdout("flamegraph"))
            .unwrap()
            .contains("<svg")
    );
    assert!(!folded::parse(&String::from_utf8(stdout("folded")).unwrap()).is_empty());
    assert!(
        String::from_utf8(stdout("table"))
            .unwrap()
            .contains("fibonacci")
    );
}

#[test]
fn quiet_is_quiet() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    for quiet in ["-q", "--quiet"] {
        let finished = pystrobe(["attach", &pid, "-d", "0.5", quiet]).run().ok();
        assert_eq!(finished.stderr, "");
        assert!(finished.text().contains("fibonacci"));
    }
}

#[test]
fn lengths_of_time_and_rates() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    for (duration, seconds) in [("1", 1.0), ("0.5", 0.5), ("1s", 1.0), ("0.01m", 0.6)] {
        holds_once(|| {
            let summary = pystrobe(["attach", &pid, "-d", duration])
                .run()
                .ok()
                .summary();
            ensure!(
                (summary.seconds - seconds).abs() < 0.2,
                "{duration}: {summary:?}"
            );
            Ok(())
        });
    }
    // At rates that any machine reaches, the number of samples tells the rate.
    for rate in ["50", "50hz", "0.05khz", "20ms", "20000us"] {
        holds_once(|| {
            let summary = pystrobe(["attach", &pid, "-d", "1", "-r", rate])
                .run()
                .ok()
                .summary();
            ensure!((30..=70).contains(&summary.samples), "{rate}: {summary:?}");
            Ok(())
        });
    }
}

#[test]
fn threads_are_kept_apart_or_picked() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "threads.py", &["3"]);
    let pid = target.pid().to_string();
    let stacks = |options: &[&str]| {
        let run = pystrobe(["attach", &pid, "-d", "0.5", "-f", "folded", "-o", "-"]).args(options);
        folded::parse(&run.run().ok().text())
    };
    let feet = |options: &[&str]| -> std::collections::BTreeSet<String> {
        stacks(options)
            .into_iter()
            .map(|stack| stack.frames[0].clone())
            .collect()
    };

    // By default, threads with the same frames are one.
    assert!(feet(&[]).iter().all(|foot| !foot.contains("waiter")));
    let apart = feet(&["--threads"]);
    assert_eq!(apart.len(), 4, "{apart:?}");
    assert!(
        apart.iter().any(|foot| foot.contains("waiter-002")),
        "{apart:?}"
    );
    let picked = feet(&["--threads", "--thread", "waiter-001"]);
    assert_eq!(picked.len(), 1, "{picked:?}");
    assert!(
        picked.iter().all(|foot| foot.contains("waiter-001")),
        "{picked:?}"
    );
    let two = feet(&[
        "--threads",
        "--thread",
        "waiter-001",
        "--thread",
        "MainThread",
    ]);
    assert_eq!(two.len(), 2, "{two:?}");
    // The main thread's id is the process's.
    let main = stacks(&["--thread", &pid]);
    assert!(
        !main.is_empty() && main.iter().all(|stack| !stack.has("wait")),
        "{main:?}"
    );
}

#[test]
fn lines_label_frames() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    let text = pystrobe([
        "attach", &pid, "-d", "0.5", "--lines", "-f", "folded", "-o", "-",
    ])
    .run()
    .ok()
    .text();
    let calls = [
        ("alternate", line_of("alternating.py", "recursion()")),
        ("recursion", line_of("alternating.py", "fibonacci(12)")),
        ("loop", line_of("alternating.py", "total += i * i")),
    ];
    for (name, line) in calls {
        let label = format!("{name} (");
        let line = format!(":{line})");
        let is_there = text
            .split([';', '\n'])
            .any(|frame| frame.starts_with(&label) && frame.contains(&line));
        assert!(is_there, "{name} {line} in {text}");
    }
}

/// The trailer holds the whole recording, so what is converted is what would have been written at once.
#[test]
fn converting_loses_nothing() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "threads.py", &["2"]);
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    for (round, options) in [
        &[][..],
        &["--threads"],
        &["--lines"],
        &["--threads", "--lines"],
    ]
    .iter()
    .enumerate()
    {
        let names = |what: &str| -> Vec<String> {
            ["pstats", "svg", "folded"]
                .map(|format| format!("{what}{round}.{format}"))
                .to_vec()
        };
        let (direct, converted) = (names("direct"), names("converted"));
        let with_outputs = |mut run: Pystrobe, outputs: &[String]| {
            for output in outputs {
                run = run.args(["-o", output]);
            }
            run.args(*options).dir(folder.path()).run().ok()
        };
        with_outputs(
            pystrobe(["attach", &target.pid().to_string(), "-d", "0.5"]),
            &direct,
        );
        with_outputs(pystrobe(["convert", &direct[0]]), &converted);
        for (direct, converted) in direct.iter().zip(&converted) {
            assert!(
                read(direct) == read(converted),
                "{direct} and {converted} differ"
            );
        }
    }
    let from_stdin = pystrobe(["convert", "-", "-f", "folded"])
        .stdin(std::fs::File::open(folder.path().join("direct0.pstats")).unwrap())
        .run()
        .ok();
    assert_eq!(from_stdin.stdout, read("direct0.folded"));
}

#[test]
fn converts_what_other_tools_write() {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    for version in ["2.7", "3.6", "3.8", "3.12", "3.15"] {
        interpreters::on_any(version, |python| {
            let table = folder.path().join("table.pstats");
            let script = crate::support::target_script("short.py");
            python.output(&[
                "-m",
                "cProfile",
                "-o",
                table.to_str().unwrap(),
                script.to_str().unwrap(),
            ]);
            let text = pystrobe([Path::new("convert"), &table]).run().ok().text();
            assert!(text.contains("brief"), "{text}");
            let copy = folder.path().join("copy.pstats");
            pystrobe([Path::new("convert"), &table, Path::new("-o"), &copy])
                .run()
                .ok();
            let stats = pstats::read(interpreters::newest(), &copy);
            let brief = stats.row("short.py", "brief");
            assert_eq!((brief.cc, brief.nc), (1, 1));
        });
    }
}

#[test]
fn the_flavor_of_3_15() {
    let _turn = machine::shared();
    interpreters::on("3.15", |python| {
        let (_target, pid) = launch();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.pstats");
        pystrobe(["attach", &pid, "-d", "0.5", "--pstats-flavor", "3.15", "-o"])
            .arg(&file)
            .run()
            .ok();
        let check = "import pstats, sys; s = pstats.SampledStats(sys.argv[1]); s.sort_stats('cumulative').print_stats()";
        let report = python.output(&["-c", check, file.to_str().unwrap()]);
        assert!(report.contains("fibonacci"), "{report}");
        let marker =
            "import marshal, sys; print(marshal.load(open(sys.argv[1], 'rb'))[('__sampled__',)])";
        assert_eq!(
            python.output(&["-c", marker, file.to_str().unwrap()]),
            "True\n"
        );
    });
}

#[test]
fn opens_the_first_output() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    let folder = tempfile::tempdir().unwrap();
    let viewer = folder.path().join("viewer");
    std::fs::write(
        &viewer,
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > opened\ntest -s out.pstats && exit ${CODE:-0}\n",
    )
    .unwrap();
    std::fs::set_permissions(&viewer, std::fs::Permissions::from_mode(0o755)).unwrap();
    let open_with = |command: &str, code: &str| {
        pystrobe([
            "attach",
            &pid,
            "-d",
            "0.3",
            "-o",
            "out.pstats",
            "-o",
            "flame.svg",
            "--open-with",
            command,
        ])
        .env("CODE", code)
        .dir(folder.path())
        .run()
    };
    open_with("./viewer --port '80 81'", "0").ok();
    assert_eq!(
        std::fs::read_to_string(folder.path().join("opened")).unwrap(),
        "--port\n80 81\nout.pstats\n"
    );
    assert_eq!(open_with("./viewer", "3").code(), 11);
    let missing = open_with("no-such-viewer", "0");
    assert_eq!(missing.code(), 11, "{missing:?}");
    assert!(missing.stderr.contains("no-such-viewer"));
}

#[test]
fn completions_and_man_pages() {
    let _turn = machine::shared();
    for shell in ["bash", "zsh", "fish"] {
        let script = pystrobe(["completions", shell]).run().ok().text();
        for word in ["attach", "convert", "open-with"] {
            assert!(
                script.contains(word),
                "{word} in the completions for {shell}"
            );
        }
    }
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        script.path(),
        pystrobe(["completions", "bash"]).run().ok().stdout,
    )
    .unwrap();
    assert!(
        Command::new("bash")
            .arg("-n")
            .arg(script.path())
            .status()
            .unwrap()
            .success()
    );
    let page = pystrobe(["man"]).run().ok().text();
    assert!(
        page.contains(".TH pystrobe") && page.contains("attach"),
        "{page}"
    );
    let page = pystrobe(["man", "attach"]).run().ok().text();
    assert!(
        page.contains("duration") && page.contains("blocking"),
        "{page}"
    );
}

#[test]
fn help_names_every_subcommand() {
    let _turn = machine::shared();
    let help = pystrobe(["--help"]).run().ok().text();
    for subcommand in ["attach", "run", "dump", "convert", "completions", "man"] {
        assert!(help.contains(subcommand), "{help}");
        let help = pystrobe([subcommand, "--help"]).run().ok().text();
        assert!(help.contains("Usage: pystrobe"), "{help}");
    }
    assert!(
        pystrobe(["--version"])
            .run()
            .ok()
            .text()
            .starts_with("pystrobe ")
    );
}

/// As in `pystrobe dump 1234 | head -0`: whoever reads has seen enough, and that is no error.
#[test]
fn a_closed_pipe_ends_quietly() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "deep.py", &["2000"]);
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    pystrobe(["attach", &pid, "-d", "0.2", "-o"])
        .arg(&file)
        .run()
        .ok();
    let file = file.to_str().unwrap();
    let lines: [&[&str]; 7] = [
        &["attach", &pid, "-d", "0.2", "-q"],
        &["attach", &pid, "-d", "0.2", "-q", "-f", "folded", "-o", "-"],
        &["dump", &pid],
        &["dump", "--json", &pid],
        &["convert", file, "-q", "-f", "flamegraph"],
        &["completions", "bash"],
        &["man"],
    ];
    for arguments in lines {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stderr.is_empty(),
            "{arguments:?}: {} {stderr}",
            output.status
        );
    }
}

/// On a terminal there is progress while it lasts, and the summary stays.
#[test]
fn a_terminal_shows_progress() {
    let _turn = machine::shared();
    let (_target, pid) = launch();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    let shown = |options: &[&str]| {
        let words = ["attach", &pid, "-d", "1", "-o", file.to_str().unwrap()];
        Terminal::start(words.iter().chain(options)).finish().ok()
    };
    let progress = shown(&[]);
    let terminal = progress.text();
    // Drawn again and again, each time over the last.
    assert!(terminal.matches(" samples (").count() > 3, "{terminal:?}");
    let summary = terminal
        .lines()
        .find(|line| line.contains(" samples in "))
        .unwrap();
    assert!(
        summary.contains(" repaired, ") && summary.contains(" lost"),
        "{terminal:?}"
    );
    assert_eq!(shown(&["-q"]).text(), "");
}

/// Ctrl-C ends an open-ended recording, and it is saved.
#[test]
fn ctrl_c_saves() {
    let _turn = machine::shared();
    let (target, pid) = launch();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    let mut terminal = Terminal::start(["attach", &pid, "-o", file.to_str().unwrap()]);
    terminal.session.is_sampling_in(terminal.pid());
    terminal.press_ctrl_c();
    let text = terminal.finish().ok().text();
    assert!(text.contains(" samples in "), "{text}");
    pstats::read(interpreters::newest(), &file).obeys_the_laws();
    target.stop();
}
