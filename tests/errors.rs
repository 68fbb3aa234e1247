//! What goes wrong: one line and a hint, the documented exit status, at once, and nothing is lost by it.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::interpreters;
use crate::support::process::Running;
use crate::support::pystrobe::{Finished, PROGRAM, Pystrobe, pystrobe};
use crate::support::target::Target;
use crate::support::{is_root, machine, pstats, skip, target_script};

/// An error is told before anyone begins to wait.
fn at_once(finished: &Finished) {
    assert!(finished.took < Duration::from_secs(1), "{finished:?}");
}

/// A process id that no process has: that of a child that has ended and been waited for.
fn nobody() -> String {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id().to_string()
}

#[test]
fn there_is_no_such_process() {
    let _turn = machine::alone();
    for subcommand in ["attach", "dump"] {
        let pid = nobody();
        let finished = pystrobe([subcommand, &pid]).run();
        finished.failed(3, &[&pid]);
        at_once(&finished);
    }
}

#[test]
fn the_process_is_a_zombie() {
    let _turn = machine::alone();
    let mut child = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    // Its end of the pipe closes when it ends, and nobody has waited for it yet.
    std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    for subcommand in ["attach", "dump"] {
        let finished = pystrobe([subcommand, &child.id().to_string()]).run();
        finished.failed(6, &["zombie"]);
        at_once(&finished);
    }
    child.wait().unwrap();
}

#[test]
fn the_process_is_not_a_python() {
    let _turn = machine::alone();
    let running = Running::start(Command::new("sleep").arg("60"));
    let pid = running.pid().to_string();
    for subcommand in ["attach", "dump"] {
        let finished = pystrobe([subcommand, &pid]).run();
        finished.failed(4, &["sleep", "not Python"]);
        at_once(&finished);
    }
    // A thread of the kernel has neither a program nor memory.
    if is_root() && Path::new("/proc/2/cmdline").exists() {
        let name = std::fs::read_to_string("/proc/2/comm").unwrap();
        if name.trim() == "kthreadd" {
            pystrobe(["attach", "2"]).run().failed(4, &["not Python"]);
        }
    }
}

/// pystrobe under `setpriv` with these options, where a user who is nobody can execute it.
fn as_somebody(folder: &Path, options: &[&str]) -> Pystrobe {
    let program = folder.join("pystrobe");
    std::fs::copy(PROGRAM, &program).unwrap();
    for path in [folder, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(options).arg(program).current_dir("/");
    Pystrobe::from(command)
}

/// What makes `setpriv` the user who is nobody.
const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// A target that belongs to nobody, who can read it, and write what he likes, in this folder.
fn nobodys_target(python: &Path, folder: &Path) -> Command {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    for name in ["alternating.py", "handshake.py"] {
        std::fs::copy(target_script(name), folder.join(name)).unwrap();
    }
    let mut command = Command::new("setpriv");
    // Who has started it may be killed, and leave it to nobody; it would compute on for ten minutes.
    command
        .args(NOBODY)
        .arg("--pdeathsig=KILL")
        .arg(python)
        .arg("-B")
        .arg(folder.join("alternating.py"));
    command
}

#[test]
fn the_process_belongs_to_somebody_else() {
    let _turn = machine::alone();
    if !is_root() {
        return skip("becoming somebody else needs root");
    }
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    for subcommand in ["attach", "dump"] {
        let finished = as_somebody(folder.path(), &NOBODY)
            .args([subcommand, &pid])
            .run();
        finished.failed(5, &[&pid, "hint:", "sudo"]);
        at_once(&finished);
    }
}

/// Of a tree what can be read is dumped, and the rest is told.
#[test]
fn a_part_of_the_tree_belongs_to_somebody_else() {
    let _turn = machine::alone();
    let python = Path::new("/usr/bin/python3");
    if !is_root() || !python.exists() {
        return skip("becoming somebody else needs root, and a Python that anybody can execute");
    }
    let folder = tempfile::tempdir().unwrap();
    let starter = "import subprocess, sys\n\
                   child = subprocess.Popen(sys.argv[1:])\n\
                   try: child.wait()\n\
                   finally: child.kill()\n";
    let child = nobodys_target(python, folder.path());
    let mut command = Command::new(python);
    command
        .args(["-c", starter])
        .arg(child.get_program())
        .args(child.get_args());
    let target = Target::start(&mut command);
    let programs = tempfile::tempdir().unwrap();
    let dump = |pid: &str| {
        as_somebody(programs.path(), &NOBODY)
            .args(["dump", "--subprocesses", pid])
            .run()
    };
    let pid = target.pid().to_string();
    let finished = dump(&pid).ok();
    let text = finished.text();
    assert!(text.contains("alternating.py"), "{text}");
    assert_eq!(text.matches("Process ").count(), 1, "{text}");
    let warning = format!("warning: process {pid} may not be read");
    assert!(finished.stderr.contains(&warning), "{finished:?}");

    let alone = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = alone.pid().to_string();
    dump(&pid).failed(5, &[&pid, "hint:", "sudo"]);
}

/// Root in a container is not allowed all that root is.
#[test]
fn root_lacks_the_capability() {
    let _turn = machine::alone();
    if !is_root() {
        return skip("giving up a capability needs root");
    }
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let without = ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    for subcommand in ["attach", "dump"] {
        let finished = as_somebody(folder.path(), &without)
            .args([subcommand, &pid])
            .run();
        finished.failed(5, &[&pid, "hint:", "--cap-add=SYS_PTRACE"]);
        at_once(&finished);
    }
}

/// A user may read his own processes, where the system has no further rule (as Yama's is one).
#[test]
fn a_user_reads_his_own() {
    let _turn = machine::shared();
    if !is_root() {
        return skip("the other tests show it: they are not run as root");
    }
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if !["", "0"].contains(&scope.trim()) {
        return skip("Yama's ptrace_scope is set");
    }
    // The system's Python: another one may lie in a folder that nobody but root can read.
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return skip("there is no /usr/bin/python3");
    }
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(&mut nobodys_target(python, folder.path()));
    let programs = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    as_somebody(programs.path(), &NOBODY)
        .args(["attach", &target.pid().to_string(), "-d", "0.3", "-o"])
        .arg(&file)
        .run()
        .ok();
    pstats::read(interpreters::newest(), &file).obeys_the_laws();
}

#[test]
fn a_bad_output_fails_before_anything_is_touched() {
    let _turn = machine::alone();
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.pstats");
    std::fs::create_dir(folder.path().join("directory.svg")).unwrap();
    for bad in [
        "no/such/folder/out.pstats",
        "directory.svg",
        "good.pstats/out.pstats",
    ] {
        std::fs::write(&good, "yesterday").unwrap();
        let finished = pystrobe(["attach", &target.pid().to_string(), "-d", "30", "-o"])
            .args([&good, Path::new("-o"), Path::new(bad)])
            .dir(folder.path())
            .run();
        finished.failed(9, &[bad]);
        at_once(&finished);
        assert_eq!(std::fs::read(&good).unwrap(), b"yesterday");

        // A program is not even started.
        let started = folder.path().join("started");
        let finished = pystrobe(["run", "-o", bad, "--", "touch"])
            .arg(&started)
            .dir(folder.path())
            .run();
        finished.failed(9, &[bad]);
        assert!(!started.exists());
    }
    let unknown = pystrobe(["attach", &target.pid().to_string(), "-o", "out.xyz"])
        .dir(folder.path())
        .run();
    unknown.failed(2, &["out.xyz"]);
    at_once(&unknown);
    assert_eq!(leftovers(folder.path()), Vec::<String>::new());
}

/// The names in a folder that no output has.
fn leftovers(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !["good.pstats", "directory.svg", "started"].contains(&name.as_str()))
        .collect()
}

#[test]
fn an_aborted_run_leaves_yesterdays_file() {
    let _turn = machine::shared();
    let target = Target::launch(interpreters::newest(), "alternating.py", &[]);
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.pstats");
    let attach = || pystrobe(["attach", &target.pid().to_string()]);

    // Killed without a chance to say goodbye.
    std::fs::write(&good, "yesterday").unwrap();
    let mut session = attach().arg("-o").arg(&good).start();
    session.is_sampling();
    session.running.signal(Signal::SIGKILL);
    session.finish();
    assert_eq!(std::fs::read(&good).unwrap(), b"yesterday");
    for name in leftovers(folder.path()) {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }

    // Nothing that could be saved.
    let finished = attach()
        .args(["-d", "0.2", "--thread", "no such thread", "-o"])
        .arg(&good)
        .run();
    finished.failed(8, &["no such thread", "MainThread"]);
    assert_eq!(std::fs::read(&good).unwrap(), b"yesterday");
    assert_eq!(leftovers(folder.path()), Vec::<String>::new());
}

#[test]
fn a_recording_that_is_asked_to_end_is_saved() {
    let _turn = machine::shared();
    let python = interpreters::newest();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let target = Target::launch(python, "alternating.py", &[]);
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good.pstats");
        std::fs::write(&good, "yesterday").unwrap();
        let mut session = pystrobe(["attach", &target.pid().to_string(), "-o"])
            .arg(&good)
            .start();
        session.is_sampling();
        session.running.signal(signal);
        let finished = session.finish().ok();
        assert!(finished.summary().samples > 10, "{signal}: {finished:?}");
        let stats = pstats::read(python, &good);
        stats.obeys_the_laws();
        assert!(stats.row("alternating.py", "alternate").ct > 0.0);
        assert_eq!(leftovers(folder.path()), Vec::<String>::new());
        target.stop();
    }
}

#[test]
fn what_cannot_be_converted_says_where_it_is_broken() {
    let _turn = machine::shared();
    let folder = tempfile::tempdir().unwrap();
    let convert = |input: &str| {
        pystrobe(["convert", input, "-o", "good.pstats"])
            .dir(folder.path())
            .run()
    };
    std::fs::write(folder.path().join("good.pstats"), "yesterday").unwrap();

    convert("missing.pstats").failed(10, &["missing.pstats"]);
    let files: [(&str, &[u8]); 4] = [
        ("empty.pstats", b""),
        ("text.pstats", b"This is not a profile.\n"),
        ("number.pstats", b"i\x01\x00\x00\x00"),
        ("truncated.pstats", b"\xfb\xa9\x03\xfa\x04a.py"),
    ];
    for (name, bytes) in files {
        std::fs::File::create(folder.path().join(name))
            .unwrap()
            .write_all(bytes)
            .unwrap();
        convert(name).failed(10, &[name]);
    }
    assert_eq!(
        std::fs::read(folder.path().join("good.pstats")).unwrap(),
        b"yesterday"
    );

    // A table has no call paths, and says so.
    let python = interpreters::newest();
    let table = folder.path().join("table.pstats");
    python.output(&[
        "-m",
        "cProfile",
        "-o",
        table.to_str().unwrap(),
        target_script("short.py").to_str().unwrap(),
    ]);
    let finished = pystrobe(["convert", "table.pstats", "-o", "flame.svg"])
        .dir(folder.path())
        .run();
    finished.failed(10, &["table.pstats"]);
    assert!(!folder.path().join("flame.svg").exists());
}

#[test]
fn mistakes_on_the_command_line() {
    let _turn = machine::alone();
    let mistakes: [(&[&str], &[&str]); 15] = [
        (&["attach"], &["<PID", "--help"]),
        (&["attach", "0"], &["'0'", "pgrep"]),
        (&["attach", "-1"], &["'-1'"]),
        (&["attach", "python"], &["'python'", "pgrep"]),
        (&["attach", "--pid", "python"], &["'python'", "pgrep"]),
        (&["dump", "python"], &["'python'", "pgrep"]),
        (&["attach", "1", "-d", "never"], &["never", "--help"]),
        (&["attach", "1", "-r", "0"], &["0", "--help"]),
        (&["attach", "1", "-f", "pdf"], &["pdf", "possible values"]),
        (&["attach", "1", "--rat", "5"], &["'--rat'", "'--rate'"]),
        (&["attach", "1", "--no-such-option"], &["--no-such-option"]),
        (&["atach", "1"], &["'atach'", "'attach'"]),
        (&["attach", "1", "--quiet=\x1b[2J"], &["--quiet"]),
        (&["run"], &[]),
        (&["convert"], &["<INPUT>", "--help"]),
    ];
    for (mistake, words) in mistakes {
        let finished = pystrobe(mistake).run();
        finished.failed(2, words);
        finished.failed(2, &["pystrobe: error: ", "hint: "]);
        assert!(!finished.stderr.contains('\x1b'), "{finished:?}");
        at_once(&finished);
    }
}
