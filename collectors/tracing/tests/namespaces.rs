//! Programs in other namespaces, as containers have them: what they call a path or a process id means something else here.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pystrobe_tracing::injection;

use super::injection::note;
use super::support::interpreters::{self, target_file};
use super::support::program::Program;

/// Whether this machine lets these tests make namespaces.
fn may_unshare() -> bool {
    let tried = Command::new("unshare")
        .args([
            "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt",
        ])
        .output();
    let may = tried.is_ok_and(|output| output.status.success());
    if !may {
        println!("skipped: making namespaces needs root, and unshare");
    }
    may
}

/// The process that works: the last of the chain of only children.
fn working(program: &Program) -> u32 {
    let mut pid = program.pid();
    loop {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        match children.split_whitespace().next() {
            Some(child) => pid = child.parse().unwrap(),
            None => return pid,
        }
    }
}

/// Runs a shell script in namespaces of its own, which becomes `counting.py` there, and injects into that. The program is open as
/// file 3, because what is mounted may hide it. Nothing is left where the two sides met, which is `meeting` in the target's root.
fn is_reached(options: &[&str], script: &str, meeting: &str) {
    for python in interpreters::all() {
        let mut command = Command::new("unshare");
        command
            .args(options)
            .args(["sh", "-euc", &format!("exec 3<\"$2\"; {script}"), "sh"])
            .arg(&python.path)
            .arg(target_file("counting.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let mut program = Program::run(&mut command);
        let pid = working(&program);
        for number in 0..3 {
            injection::run(pid, &note(number), Duration::from_secs(60))
                .unwrap_or_else(|error| panic!("{python}: {error}"));
        }
        let meeting = format!("/proc/{pid}/root{meeting}");
        let left = std::fs::read_dir(Path::new(&meeting)).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{python}: {left:?}");
        let stop = "import sys; sys.modules['__main__'].stop = True";
        injection::run(pid, stop, Duration::from_secs(60)).unwrap();
        let told = program.finish();
        assert!(told.contains("\"seen\": [0, 1, 2]"), "{python}: {told}");
    }
}

#[test]
fn a_program_with_other_mounts_is_reached() {
    if may_unshare() {
        let script = "mount -t tmpfs none /tmp; exec \"$1\" /dev/fd/3";
        is_reached(&["--mount", "--propagation", "private"], script, "/tmp");
    }
}

/// It is the first process of its namespace, and belongs to a user of its own.
#[test]
fn a_program_with_other_process_ids_is_reached() {
    if may_unshare() {
        let script = "mount -t tmpfs -o mode=1777 none /tmp; exec \"$1\" /dev/fd/3";
        let options = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        is_reached(&options, script, "/tmp");
    }
}

/// Where `/tmp` may not be written to there is another place.
#[test]
fn a_program_without_a_tmp_is_reached() {
    if may_unshare() {
        let script =
            "mount -t tmpfs -o ro none /tmp; mount -t tmpfs none /dev/shm; exec \"$1\" /dev/fd/3";
        is_reached(&["--mount", "--propagation", "private"], script, "/dev/shm");
    }
}

/// A program of another user, which could not read a file that is only ours.
#[test]
fn a_program_of_another_user_is_reached() {
    if may_unshare() {
        let script = "
            mount -t tmpfs -o mode=1777 none /tmp
            exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$1\" /dev/fd/3";
        let readable = interpreters::all()
            .iter()
            .all(|python| !python.path.starts_with("/root"));
        if readable {
            is_reached(&["--mount", "--propagation", "private"], script, "/tmp");
        } else {
            // Its files belong to us and are in a folder that is only ours: it may pass through folders, and read.
            let script = script.replace(
                "--clear-groups",
                "--clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search",
            );
            is_reached(&["--mount", "--propagation", "private"], &script, "/tmp");
        }
    }
}
