//! Targets in other namespaces, as containers have them: what they call a path or a process id means something else here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::attempts::{ensure, holds_once};
use crate::support::interpreters::{self, Interpreter};
use crate::support::pystrobe::pystrobe;
use crate::support::target::Target;
use crate::support::{folded, is_root, machine, pstats, skip, target_script, tests_folder};

/// The interpreters to try: a build with a shared library, and one without, of different layouts.
fn some() -> Vec<&'static Interpreter> {
    let mut some = interpreters::one_per_family();
    some.extend(interpreters::builds("3.11"));
    some
}

/// Whether this machine lets these tests make namespaces.
fn may_unshare() -> bool {
    let tried = Command::new("unshare")
        .args([
            "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt",
        ])
        .output();
    let may = is_root() && tried.is_ok_and(|output| output.status.success());
    if !may {
        skip("making namespaces needs root, and unshare");
    }
    may
}

/// A shell script that runs in namespaces of its own; what it starts is found by what it prints.
fn in_namespaces(options: &[&str], script: &str, arguments: &[&Path]) -> Target {
    let mut command = Command::new("unshare");
    command
        .args(options)
        .args(["sh", "-euc", script, "sh"])
        .args(arguments);
    Target::start(&mut command)
}

/// The process that works: the last of the chain of only children.
fn working(target: &Target) -> u32 {
    let mut pid = target.pid();
    loop {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        match children.split_whitespace().next() {
            Some(child) => pid = child.parse().unwrap(),
            None => return pid,
        }
    }
}

fn reads(pid: u32, python: &Interpreter) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    holds_once(|| {
        let finished = pystrobe(["attach", &pid.to_string(), "-d", "0.5", "-o"])
            .arg(&file)
            .run()
            .ok();
        ensure!(finished.summary().samples > 10, "{finished:?}");
        Ok(())
    });
    let stats = pstats::read(interpreters::newest(), &file);
    stats.obeys_the_laws();
    assert!(stats.row("alternating.py", "fibonacci").nc > 0);
    let text = pystrobe(["dump", &pid.to_string()]).run().ok().text();
    assert!(
        text.contains("MainThread") && text.contains("alternate"),
        "{text}"
    );
    println!("{} in namespaces", python.full_version());
}

/// The folder of an interpreter's installation: its `sys.base_prefix`.
fn prefix(python: &Interpreter) -> PathBuf {
    PathBuf::from(python.output(&["-c", "import sys; sys.stdout.write(sys.base_prefix)"]))
}

/// Runs `hidden/…` from a folder that only the target's mount namespace has; outside, that path holds `outside`, if
/// anything.
fn reads_what_is_mounted_elsewhere(python: &Interpreter, outside: Option<&Interpreter>) {
    let folder = tempfile::tempdir().unwrap();
    let hidden = folder.path().join("hidden");
    let prefix = prefix(python);
    let program = python.path.strip_prefix(&prefix).unwrap();
    std::fs::create_dir_all(hidden.join(program).parent().unwrap()).unwrap();
    if let Some(outside) = outside {
        std::fs::copy(&outside.path, hidden.join(program)).unwrap();
    }
    let script = "mount --bind \"$1\" \"$2\"; export LD_LIBRARY_PATH=\"$2/lib\" PYTHONHOME=\"$2\"; exec \"$2/$3\" -B \"$4\"";
    let arguments = [&prefix, &hidden, program, &target_script("alternating.py")];
    let target = in_namespaces(&["--mount", "--propagation", "private"], script, &arguments);
    reads(working(&target), python);
}

#[test]
fn reads_a_target_in_another_mount_namespace() {
    let _turn = machine::shared();
    if may_unshare() {
        for python in some() {
            reads_what_is_mounted_elsewhere(python, None);
        }
    }
}

/// The path of the target's program exists on this side too, and is another Python.
#[test]
fn is_not_misled_by_another_file_at_the_same_path() {
    let _turn = machine::shared();
    if may_unshare() {
        let pythons = some();
        for (index, python) in pythons.iter().enumerate() {
            reads_what_is_mounted_elsewhere(python, Some(pythons[(index + 1) % pythons.len()]));
        }
    }
}

/// The ids of its threads are those that it has for itself, and the kernel's account of them is found by ours.
fn knows_threads(pid: u32) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.pstats");
    holds_once(|| {
        pystrobe(["attach", &pid.to_string(), "-d", "0.5", "-q", "-o"])
            .arg(&file)
            .run()
            .ok();
        let weight = |options: &[&str]| -> u64 {
            let text = pystrobe(["convert", file.to_str().unwrap(), "-q", "-f", "folded"])
                .args(options)
                .run()
                .ok()
                .text();
            folded::parse(&text).iter().map(|stack| stack.weight).sum()
        };
        // It is the first process of its namespace.
        let (all, first) = (weight(&[]), weight(&["--thread", "1"]));
        assert!(all > 300_000 && first == all, "{first} of {all}");
        let cpu = weight(&["--mode", "cpu"]);
        ensure!(cpu * 10 > all, "{cpu} of {all}");
        Ok(())
    });
}

#[test]
fn reads_a_target_in_another_pid_namespace() {
    let _turn = machine::shared();
    if may_unshare() {
        for python in some() {
            let options = ["--pid", "--fork", "--kill-child", "--mount-proc"];
            let script = "exec \"$1\" -B \"$2\"";
            let target = in_namespaces(
                &options,
                script,
                &[&python.path, &target_script("alternating.py")],
            );
            reads(working(&target), python);
            knows_threads(working(&target));
        }
    }
}

#[test]
fn reads_a_target_in_a_chroot() {
    let _turn = machine::shared();
    if may_unshare() {
        for python in some() {
            let folder = tempfile::tempdir().unwrap();
            // The system's libraries, the interpreter under a path of its own, and the targets; nothing else is there.
            let script = "
                root=$1; mkdir -p \"$root/py\" \"$root/targets\" \"$root/proc\"
                for dir in usr lib lib64; do [ -d /$dir ] || continue; mkdir -p \"$root/$dir\"; mount --bind /$dir \"$root/$dir\"; done
                mount --bind \"$2\" \"$root/py\"
                # A program that names its loader by an absolute path has to find that.
                [ -e \"$root$2\" ] || { mkdir -p \"$root$2\"; mount --bind \"$2\" \"$root$2\"; }
                mount --bind \"$4\" \"$root/targets\"; mount -t proc none \"$root/proc\"
                export LD_LIBRARY_PATH=/py/lib PYTHONHOME=/py
                exec chroot \"$root\" \"/py/$3\" -B /targets/alternating.py";
            let prefix = prefix(python);
            let program = python.path.strip_prefix(&prefix).unwrap();
            let targets = tests_folder().join("targets");
            let arguments = [folder.path(), &prefix, program, &targets];
            let target =
                in_namespaces(&["--mount", "--propagation", "private"], script, &arguments);
            reads(working(&target), python);
        }
    }
}
