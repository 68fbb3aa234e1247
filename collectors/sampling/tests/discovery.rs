//! Interpreters are found in live processes of every kind, and what is none is told apart.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pystrobe_sampling::AttachError;
use pystrobe_sampling::discovery::{Interpreter, Roots, attach, discover, wait_for};
use pystrobe_sampling::layout::Minor;
use pystrobe_sampling::process;

use super::support::interpreters::{self, all, target_file};
use super::support::target::Target;

/// How long an interpreter that starts is waited for.
const STARTING: Duration = Duration::from_secs(20);

/// What a target says of itself is what was found.
fn check(found: &Interpreter, target: &Target) {
    let facts = target.facts();
    let (major, minor, patch) = found.version;
    assert_eq!(format!("{major} {minor} {patch}"), facts["version"]);
    assert_eq!(found.python, facts["python"]);
    assert_eq!(found.pid, target.pid());
    if let Some(code_type) = found.code_type {
        assert_eq!(code_type.to_string(), facts["code_type"]);
    }
}

#[test]
fn every_interpreter_is_found() {
    for python in all() {
        let target = Target::start(python, "idle.py");
        let began = Instant::now();
        let found = discover(target.pid()).unwrap_or_else(|error| panic!("{python}: {error}"));
        println!("{python}: found in {:?}", began.elapsed());
        check(&found, &target);
        assert!(!found.legacy);
        assert!(found.code_type.is_some(), "{python}");
        assert!(matches!(found.roots, Roots::Runtime(_)), "{python}");
        assert_eq!(found.layout.version, python.version);
    }
}

/// Pythons that are read another way.
fn legacy() -> Vec<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let versions = ["2.7", "3.3", "3.4", "3.5", "3.6", "3.7"];
    let installed = fs::read_dir(home.join(".pyenv/versions"))
        .into_iter()
        .flatten();
    let folders = installed
        .map(|entry| entry.unwrap().path())
        .filter(|folder| {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            versions
                .iter()
                .any(|version| name.starts_with(&format!("{version}.")))
        });
    folders.map(|folder| folder.join("bin/python")).collect()
}

#[test]
fn old_interpreters_are_known_as_such() {
    for path in legacy() {
        let mut command = Command::new(&path);
        command.arg(target_file("idle.py"));
        let target = Target::run(&mut command);
        let began = Instant::now();
        let found =
            attach(target.pid(), STARTING).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        println!("{}: found in {:?}", path.display(), began.elapsed());
        check(&found, &target);
        assert!(found.legacy);
    }
}

#[test]
fn a_program_is_waited_for_through_shells() {
    for python in all() {
        let script = "exec sh -c 'exec \"$0\" \"$@\"' \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&python.path);
        command
            .args(["-c", "import sys; sys.stdin.read()"])
            .stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let found = wait_for(child.id(), || false);
        let found = found.unwrap_or_else(|error| panic!("{python}: {error}"));
        assert_eq!(Minor(found.version.0, found.version.1), python.version);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// From the moment it is started. How soon it is found is printed: what a test can demand of that depends on
/// the machine.
#[test]
fn a_program_is_found_while_it_starts() {
    for python in all() {
        let mut command = python.command();
        command.args(["-c", "input()"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        let found =
            wait_for(child.id(), || false).unwrap_or_else(|error| panic!("{python}: {error}"));
        println!("{python}: {:?} after its start", began.elapsed());
        assert_eq!(Minor(found.version.0, found.version.1), python.version);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_process_that_is_not_there() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    assert_eq!(attach(pid, STARTING), Err(AttachError::NotFound { pid }));
    for pid in [0, u32::MAX] {
        assert_eq!(attach(pid, STARTING), Err(AttachError::NotFound { pid }));
    }
}

#[test]
fn a_zombie() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    while process::is_alive(pid) {
        std::thread::yield_now();
    }
    assert_eq!(attach(pid, STARTING), Err(AttachError::Zombie { pid }));
    assert_eq!(wait_for(pid, || false), Err(AttachError::Ended { pid }));
    child.wait().unwrap();
}

#[test]
fn a_process_that_is_not_python_is_told_apart_soon() {
    let mut child = Command::new("cat")
        .arg0("py\nthon")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let began = Instant::now();
    // The answer may come while the process still executes our own program.
    let error = attach(pid, STARTING).unwrap_err();
    println!("not Python after {:?}", began.elapsed());
    assert!(matches!(error, AttachError::NotPython { .. }), "{error}");
    assert!(began.elapsed() < STARTING / 4);
    assert!(!error.to_string().contains('\n'));

    let mut asked = 0;
    let patience = || {
        asked += 1;
        asked > 3
    };
    assert_eq!(wait_for(pid, patience), Err(AttachError::GaveUp { pid }));
    drop(child.stdin.take());
    assert_eq!(wait_for(pid, || false), Err(AttachError::Ended { pid }));
    child.wait().unwrap();
}

/// The library that a Python's program loads, where there is one.
fn library_of(python: &interpreters::Interpreter) -> Option<PathBuf> {
    let target = Target::start(python, "idle.py");
    let maps = fs::read_to_string(format!("/proc/{}/maps", target.pid())).unwrap();
    let paths = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    paths.map(PathBuf::from).find(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("libpython"))
    })
}

#[test]
fn a_python_that_never_starts() {
    let Some(library) = all().iter().find_map(library_of) else {
        println!("skipped: no Python of this machine has a shared library");
        return;
    };
    let mut child = Command::new("cat")
        .env("LD_PRELOAD", &library)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    // Until its libraries are mapped it is not Python.
    let began = Instant::now();
    while discover(pid) != Err(AttachError::Starting { pid }) {
        assert!(process::is_alive(pid) && began.elapsed() < STARTING);
    }
    let began = Instant::now();
    let starting = Duration::from_millis(100);
    assert_eq!(attach(pid, starting), Err(AttachError::Starting { pid }));
    assert!(began.elapsed() >= starting);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A program with an interpreter in it that also loads the library of another one.
#[test]
fn of_two_interpreters_the_one_that_runs_is_found() {
    let libraries: Vec<PathBuf> = all().iter().filter_map(library_of).collect();
    for python in all().iter().filter(|python| library_of(python).is_none()) {
        for library in &libraries {
            let mut command = python.command();
            let target = Target::run(command.arg(target_file("idle.py")).arg(library));
            check(&discover(target.pid()).unwrap(), &target);
        }
    }
}

/// A copy of a file in which names of symbols are other ones.
fn without_symbols(file: &Path, folder: &Path) -> PathBuf {
    let mut bytes = fs::read(file).unwrap();
    for name in ["_PyRuntime", "PyCode_Type", "Py_Version"] {
        let pattern = [b"\0", name.as_bytes(), b"\0"].concat();
        let mut from = 0;
        let find = |bytes: &[u8], from: usize| {
            bytes[from..]
                .windows(pattern.len())
                .position(|part| part == pattern)
        };
        while let Some(place) = find(&bytes, from) {
            from += place + 1;
            bytes[from] = b'X';
        }
    }
    let copy = folder.join(file.file_name().unwrap());
    fs::write(&copy, bytes).unwrap();
    fs::set_permissions(&copy, fs::metadata(file).unwrap().permissions()).unwrap();
    copy
}

/// Builds whose symbols were all removed. Their symbols get other names here, which comes to the same; not so
/// in a library, which looks itself up for them.
#[test]
fn interpreters_without_symbols_are_found() {
    for python in all().iter().filter(|python| library_of(python).is_none()) {
        let folder = tempfile::tempdir().unwrap();
        let prefix = python.output(&["-c", "import sys; print(sys.base_prefix)"]);
        let mut command = Command::new(without_symbols(&python.path, folder.path()));
        command.env("PYTHONHOME", prefix.trim());
        let target = Target::run(command.arg(target_file("idle.py")));
        let began = Instant::now();
        let found =
            attach(target.pid(), STARTING).unwrap_or_else(|error| panic!("{python}: {error}"));
        println!(
            "{python}: found in {:?}, {:?}",
            began.elapsed(),
            found.roots
        );
        check(&found, &target);
        assert!(
            found.code_type.is_none(),
            "{python}: the symbols are still there"
        );
    }
}

/// What an upgrade does to a program that runs: its file is removed.
#[test]
fn a_program_that_was_removed_is_found() {
    for python in all() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("worker");
        fs::copy(&python.path, &program).unwrap();
        let prefix = python.output(&["-c", "import sys; print(sys.base_prefix)"]);
        let mut command = Command::new(&program);
        command
            .env("PYTHONHOME", prefix.trim())
            .arg(target_file("idle.py"));
        if let Some(library) = library_of(python) {
            command.env("LD_LIBRARY_PATH", library.parent().unwrap());
        }
        let target = Target::run(&mut command);
        drop(folder);
        check(
            &discover(target.pid()).unwrap_or_else(|error| panic!("{python}: {error}")),
            &target,
        );
    }
}

/// Where nothing of the target's files is where its paths say, and its ids are others.
#[test]
fn other_namespaces_do_not_matter() {
    for python in all() {
        let mut command = Command::new("unshare");
        // `/usr/share` stands for any place that is another one inside. The shell stays, so that the
        // target is not the first process of its namespace.
        let script = "mount -t tmpfs none /usr/share && \"$@\"; exit $?";
        command.args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            script,
            "sh",
        ]);
        let allowed = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "true"])
            .output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            println!("skipped: this user may not make namespaces");
            return;
        }
        let target = Target::run(command.arg(&python.path).arg(target_file("idle.py")));
        let inner: u64 = target.facts()["pid"].parse().unwrap();
        let pid = descendant(target.pid());
        assert_ne!(inner, u64::from(pid));
        let found = discover(pid).unwrap_or_else(|error| panic!("{python}: {error}"));
        assert_eq!(found.python, target.facts()["python"]);
        assert_eq!(process::native_ids(pid), [inner]);
        // It has said that it is ready, and goes on to wait.
        let began = Instant::now();
        while process::thread_runs(pid, inner) {
            assert!(began.elapsed() < STARTING);
        }
    }
}

/// The only process without children below this one.
fn descendant(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    match children.split_whitespace().next() {
        Some(child) => descendant(child.parse().unwrap()),
        None => pid,
    }
}
