//! `run` leaves the program as it was, and ends as the program ends. So does `trace`, by the same code; what differs is looked at here too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::attempts::{ensure, holds_once};
use crate::support::interpreters::{self, Interpreter, on_each_version};
use crate::support::process::Gathered;
use crate::support::pystrobe::{PROGRAM, Pystrobe, Session, pystrobe};
use crate::support::terminal::Terminal;
use crate::support::{line_of, machine, pstats, target_script};

on_each_version! {
    looks_the_same_from_inside = looks_the_same_from_inside;
    samples_from_the_first_frame_on = samples_from_the_first_frame_on;
    runs_programs_of_a_few_milliseconds = runs_programs_of_a_few_milliseconds;
    leaves_multiprocessing_alone = leaves_multiprocessing_alone;
}

/// A folder for outputs, and the options that make `run` write there and use this Python.
struct Recorded {
    folder: tempfile::TempDir,
    options: Vec<PathBuf>,
}

impl Recorded {
    fn by(python: &Interpreter) -> Recorded {
        let folder = tempfile::tempdir().unwrap();
        let options = vec![
            PathBuf::from("run"),
            PathBuf::from("-o"),
            folder.path().join("out.pstats"),
            PathBuf::from("--python"),
            python.path.clone(),
        ];
        Recorded { folder, options }
    }

    fn run(&self) -> Pystrobe {
        pystrobe(&self.options)
    }

    fn stats(&self, python: &Interpreter) -> pstats::Stats {
        let stats = pstats::read(python, &self.folder.path().join("out.pstats"));
        stats.obeys_the_laws();
        stats
    }

    /// Whether the 50 ms that `ending.py` works are in the profile: they may pass while pystrobe stands still.
    fn saw_work(&self, python: &Interpreter) -> Result<(), String> {
        let is_there = self.folder.path().join("out.pstats").exists();
        ensure!(is_there, "it was over before the first sample");
        let seen = self.stats(python).find("ending.py", "work").count();
        ensure!(seen == 1, "`work` was not seen");
        Ok(())
    }
}

fn script(name: &str) -> PathBuf {
    target_script(name)
}

/// Starts a command as pystrobe is started by these tests: with a pipe for stdin, from a folder.
fn with_input(mut command: Command, folder: &Path, input: &str) -> Output {
    let mut child = command
        .current_dir(folder)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("NO_COLOR")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn looks_the_same_from_inside(python: &'static Interpreter) {
    let _turn = machine::shared();
    let elsewhere = tempfile::tempdir().unwrap();
    let mirror = script("mirror.py");
    std::fs::copy(&mirror, elsewhere.path().join("mirror.py")).unwrap();
    let code = std::fs::read_to_string(&mirror).unwrap();
    let programs: [&[&str]; 4] = [
        &[mirror.to_str().unwrap(), "--its", "-o", "own args", ""],
        &["mirror.py", "relative", "-d", "1"],
        &["-m", "mirror", "-q", "--"],
        &["-c", &code, "-m", "x"],
    ];
    for program in programs {
        let mut plain = Command::new(&python.path);
        plain.args(program);
        let plain = with_input(plain, elsewhere.path(), "from stdin\n");
        for subcommand in ["run", "trace"] {
            let mut recorded = Command::new(PROGRAM);
            recorded
                .args([subcommand, "-q", "-o", "out.pstats", "--python"])
                .arg(&python.path)
                .args(program);
            let recorded = with_input(recorded, elsewhere.path(), "from stdin\n");

            let seen = |output: &Output| -> Value {
                let text = String::from_utf8_lossy(&output.stderr);
                serde_json::from_slice(&output.stdout)
                    .unwrap_or_else(|error| panic!("{error}: {text}"))
            };
            let (plain_sees, recorded_sees) = (seen(&plain), seen(&recorded));
            for (what, value) in plain_sees.as_object().unwrap() {
                assert_eq!(
                    &recorded_sees[what], value,
                    "{what} of {subcommand} {program:?}"
                );
            }
            assert_eq!(
                plain.stderr,
                recorded.stderr,
                "{}",
                String::from_utf8_lossy(&recorded.stderr)
            );
            assert_eq!(plain.status, recorded.status);
        }
    }
}

#[test]
fn finds_what_stands_beside_the_script() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let elsewhere = tempfile::tempdir().unwrap();
    let finished = Recorded::by(python)
        .run()
        .arg(script("sibling.py"))
        .dir(elsewhere.path())
        .run()
        .ok();
    assert_eq!(finished.text(), "found\n");
}

/// The first things that the program does are in the profile with the time that they took: nothing is lost while
/// pystrobe is still looking for the interpreter.
fn samples_from_the_first_frame_on(python: &'static Interpreter) {
    let _turn = machine::alone();
    holds_once(|| {
        let recorded = Recorded::by(python);
        let finished = recorded
            .run()
            .arg(script("ending.py"))
            .arg("return")
            .run()
            .ok();
        assert_eq!(finished.text(), "worked\n");
        let stats = recorded.stats(python);
        assert_eq!(
            stats.key("ending.py", "work").1,
            line_of("ending.py", "def work")
        );
        let work = stats.row("ending.py", "work");
        ensure!(
            (0.04..0.1).contains(&work.ct),
            "0.05 s of work: {work:?}, {finished:?}"
        );
        Ok(())
    });
}

fn runs_programs_of_a_few_milliseconds(python: &'static Interpreter) {
    let _turn = machine::shared();
    let mut saved = 0;
    for _ in 0..5 {
        let recorded = Recorded::by(python);
        let finished = recorded.run().arg(script("short.py")).run().ok();
        assert_eq!(finished.text(), "2666466670000\n");
        // It may be over before the first sample; then that is said.
        if finished.stderr.contains("no output was written") {
            assert!(!recorded.folder.path().join("out.pstats").exists());
        } else {
            assert!(finished.summary().samples > 0, "{finished:?}");
            recorded.stats(python);
            saved += 1;
        }
    }
    assert!(saved > 0, "never a sample of five programs");
}

#[test]
fn ends_as_the_program_ends() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        let endings: [(&[&str], i32); 7] = [
            (&["return"], 0),
            (&["exit", "0"], 0),
            (&["exit", "7"], 7),
            (&["exit", "255"], 255),
            (&["raise"], 1),
            (&["signal", "9"], 128 + 9),
            (&["signal", "15"], 128 + 15),
        ];
        for (ending, code) in endings {
            holds_once(|| {
                let recorded = Recorded::by(python);
                let finished = recorded.run().arg(script("ending.py")).args(ending).run();
                assert_eq!(finished.code(), code, "{ending:?}: {finished:?}");
                assert_eq!(finished.text(), "worked\n");
                assert_eq!(
                    finished.stderr.contains("RuntimeError: as told"),
                    ending[0] == "raise"
                );
                recorded.saw_work(python)
            });
        }
    }
}

/// `-d` ends the sampling, and the program goes on.
#[test]
fn the_duration_is_not_the_programs() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        holds_once(|| {
            let recorded = Recorded::by(python);
            let code = "import sys, time; time.sleep(1.5); print('lived on'); sys.exit(5)";
            let finished = recorded.run().args(["-d", "0.3", "-c", code]).run();
            assert_eq!(finished.code(), 5, "{finished:?}");
            assert_eq!(finished.text(), "lived on\n");
            let own = recorded.stats(python).own_time();
            ensure!(
                finished.summary().seconds < 1.0 && own < 1.0,
                "{own} s: {finished:?}"
            );
            Ok(())
        });
    }
}

/// Starts `run signals.py HOW` in a process group of its own, as a shell does, and waits until it waits for a signal.
fn waiting_for_signals(recorded: &Recorded, how: &str) -> Session {
    let mut command = Command::new(PROGRAM);
    command
        .args(&recorded.options)
        .arg(script("signals.py"))
        .arg(how)
        .process_group(0);
    let session = Pystrobe::from(command).start();
    said(&session.stdout, "ready {}\n");
    session.is_sampling();
    session
}

fn said(stream: &Gathered, word: &str) {
    stream.wait_until(word, |bytes| {
        String::from_utf8_lossy(bytes).contains(word).then_some(())
    });
}

/// The programs of `signals.py`, what they say when a SIGINT comes, and how they end then.
const AT_SIGINT: [(&str, &str, i32); 2] = [
    ("default", "KeyboardInterrupt", 42),
    ("polite", "got 2", 10 + 2),
];

#[test]
fn ctrl_c_reaches_the_program_as_always() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        for (how, word, code) in AT_SIGINT {
            let recorded = Recorded::by(python);
            let words = recorded
                .options
                .iter()
                .cloned()
                .chain([script("signals.py"), how.into()]);
            let mut terminal = Terminal::start(words);
            said(&terminal.session.stdout, "ready {}");
            terminal.session.is_sampling_in(terminal.pid());
            terminal.press_ctrl_c();
            let finished = terminal.finish();
            assert_eq!(finished.code(), code, "{finished:?}");
            assert_eq!(finished.text().matches(word).count(), 1, "{finished:?}");
            assert!(
                recorded
                    .stats(python)
                    .row("signals.py", "wait_for_signal")
                    .ct
                    > 0.0
            );
        }
    }
}

/// As `timeout` and shells do it: a SIGINT for the whole group reaches the program once, too.
#[test]
fn an_interrupt_of_the_group_reaches_the_program_once() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    for (how, word, code) in AT_SIGINT {
        let recorded = Recorded::by(python);
        let session = waiting_for_signals(&recorded, how);
        killpg(
            Pid::from_raw(session.running.pid().cast_signed()),
            Signal::SIGINT,
        )
        .unwrap();
        let finished = session.finish();
        assert_eq!(finished.code(), code, "{finished:?}");
        assert_eq!(finished.text().matches(word).count(), 1, "{finished:?}");
        assert!(
            recorded
                .stats(python)
                .row("signals.py", "wait_for_signal")
                .ct
                > 0.0
        );
    }
}

#[test]
fn the_second_ctrl_c_gives_up_on_the_program() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let recorded = Recorded::by(python);
    let words = recorded
        .options
        .iter()
        .cloned()
        .chain([script("signals.py"), "stubborn".into()]);
    let mut terminal = Terminal::start(words);
    said(&terminal.session.stdout, "ready {}");
    terminal.session.is_sampling_in(terminal.pid());
    terminal.press_ctrl_c();
    said(&terminal.session.stdout, "got 2");
    terminal.press_ctrl_c();
    let finished = terminal.finish();
    assert_eq!(finished.code(), 128 + 9, "{finished:?}");
    assert!(
        recorded
            .stats(python)
            .row("signals.py", "wait_for_signal")
            .ct
            > 0.0
    );
}

#[test]
fn sigterm_is_passed_on() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        let recorded = Recorded::by(python);
        let mut session = waiting_for_signals(&recorded, "polite");
        session.running.signal(Signal::SIGTERM);
        let finished = session.finish();
        assert_eq!(finished.code(), 10 + 15, "{finished:?}");
        assert_eq!(finished.text(), "ready {}\ngot 15\n");
        assert!(
            recorded
                .stats(python)
                .row("signals.py", "wait_for_signal")
                .ct
                > 0.0
        );

        // A program that does not catch it dies of it, and so says pystrobe.
        let recorded = Recorded::by(python);
        let mut session = waiting_for_signals(&recorded, "default");
        session.running.signal(Signal::SIGTERM);
        assert_eq!(session.finish().code(), 128 + 15);
        assert!(
            recorded
                .stats(python)
                .row("signals.py", "wait_for_signal")
                .ct
                > 0.0
        );
    }
}

fn leaves_multiprocessing_alone(python: &'static Interpreter) {
    let _turn = machine::shared();
    for method in ["spawn", "forkserver", "fork", "executor"] {
        holds_once(|| {
            let recorded = Recorded::by(python);
            let finished = recorded
                .run()
                .arg(script("processes.py"))
                .arg(method)
                .run()
                .ok();
            assert_eq!(finished.text(), "33318335000\n", "{method}");
            let stats = recorded.stats(python);
            let seen = stats.find("processes.py", "main").count();
            ensure!(seen == 1, "{method}: {:?}", stats.keys());
            Ok(())
        });
    }
}

#[test]
fn runs_pytest() {
    let _turn = machine::shared();
    let Some(readers) = interpreters::readers() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let test = "import time\n\n\ndef spin(until):\n    while time.time() < until:\n        pass\n\n\n\
                def test_good():\n    spin(time.time() + 0.2)\n";
    std::fs::write(folder.path().join("test_good.py"), test).unwrap();
    std::fs::write(
        folder.path().join("test_bad.py"),
        "def test_bad():\n    assert 1 == 2\n",
    )
    .unwrap();
    for (file, code, words) in [
        ("test_good.py", 0, "1 passed"),
        ("test_bad.py", 1, "1 failed"),
    ] {
        holds_once(|| {
            let finished = pystrobe(["run", "-o", "out.pstats", "--python"])
                .arg(readers.join("bin/python"))
                .args(["-m", "pytest", "-q", file])
                .dir(folder.path())
                .run();
            assert_eq!(finished.code(), code, "{finished:?}");
            assert!(finished.text().contains(words), "{finished:?}");
            let stats = pstats::read(interpreters::newest(), &folder.path().join("out.pstats"));
            stats.obeys_the_laws();
            let seen = stats.find("test_good.py", "spin").count();
            assert!(seen == 0 || code == 0, "{:?}", stats.keys());
            ensure!(seen == usize::from(code == 0), "{:?}", stats.keys());
            Ok(())
        });
    }
}

#[test]
fn runs_a_command_that_becomes_python() {
    let _turn = machine::shared();
    let Some(readers) = interpreters::readers() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let app = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'served']\n";
    std::fs::write(folder.path().join("app.py"), app).unwrap();
    let path = format!(
        "{}:{}",
        readers.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let mut session = pystrobe([
        "run",
        "-o",
        "out.pstats",
        "--",
        "gunicorn",
        "-b",
        "127.0.0.1:0",
        "app:app",
    ])
    .env("PATH", path)
    .dir(folder.path())
    .start();
    let address = session.stderr.wait_until("gunicorn's address", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (_, rest) = text.split_once("Listening at: http://")?;
        rest.split_once(' ').map(|(address, _)| address.to_owned())
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("served"), "{answer}");
    session.running.signal(Signal::SIGTERM);
    session.finish().ok();
    let stats = pstats::read(interpreters::newest(), &folder.path().join("out.pstats"));
    stats.obeys_the_laws();
    assert!(
        stats
            .rows
            .keys()
            .any(|key| key.0.ends_with("gunicorn/arbiter.py")),
        "{:?}",
        stats.keys()
    );
}

#[test]
fn runs_a_shell_that_becomes_python() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    let shell = "test -n shell; exec \"$0\" \"$1\" exit 7";
    holds_once(|| {
        let recorded = Recorded::by(python);
        let finished = pystrobe(["run", "-o", "out.pstats", "--", "sh", "-c", shell])
            .args([&python.path, &script("ending.py")])
            .dir(recorded.folder.path())
            .run();
        assert_eq!(finished.code(), 7, "{finished:?}");
        recorded.saw_work(python)
    });
}

/// Without `--python`, the one that a shell would find.
#[test]
fn runs_the_python_of_the_path() {
    let _turn = machine::shared();
    for python in interpreters::one_per_family() {
        for name in ["python3", "python"] {
            let folder = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(&python.path, folder.path().join(name)).unwrap();
            let code = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
            // No other folder: where only `python` exists, that has to be found.
            let finished = pystrobe(["run", "-o", "out.pstats", "-c", code])
                .env("PATH", folder.path())
                .dir(folder.path())
                .run()
                .ok();
            assert_eq!(finished.text(), format!("{}\n", python.full_version()));
        }
    }
}

#[test]
fn says_what_cannot_be_started() {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    let missing = pystrobe(["run", "-o", "out.pstats", "--", "no-such-program"])
        .dir(folder.path())
        .run();
    missing.failed(127, &["no-such-program"]);
    std::fs::write(folder.path().join("text"), "not a program").unwrap();
    let not_executable = pystrobe(["run", "-o", "out.pstats", "--", "./text"])
        .dir(folder.path())
        .run();
    not_executable.failed(126, &["./text"]);
    assert!(!folder.path().join("out.pstats").exists());
}

/// A program that never becomes a Python runs all the same, and pystrobe says that there is nothing to save.
#[test]
fn runs_what_is_not_a_python() {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    for (command, code) in [("echo hello; exit 3", 3), ("echo hello", 0)] {
        let finished = pystrobe(["run", "-o", "out.pstats", "--", "sh", "-c", command])
            .dir(folder.path())
            .run();
        assert_eq!(finished.text(), "hello\n");
        assert_eq!(finished.code(), code, "{finished:?}");
        assert!(
            finished.stderr.contains("never became a Python")
                && !folder.path().join("out.pstats").exists()
        );
    }
}
