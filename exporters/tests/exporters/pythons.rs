//! Finds real interpreters.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An interpreter.
pub(crate) struct Python {
    pub(crate) path: PathBuf,
    /// As `(3, 12)`.
    pub(crate) version: (u32, u32),
}

impl Python {
    /// Runs a script of these tests with an input, and returns what it prints.
    pub(crate) fn run(&self, script: &str, args: &[&Path], input: &str) -> String {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exporters");
        let mut child = Command::new(&self.path)
            .arg("-B")
            .arg(scripts.join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let writer = std::thread::spawn(move || {
            // A script that fails stops reading; its own message says more.
            let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(
            output.status.success(),
            "{} {script}: {}",
            self.path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Every interpreter to test with: those named in `PYSTROBE_PYTHONS` (paths, separated by colons),
/// else those of pyenv and of `~/.local/share/cpython`, else `python3`.
pub(crate) fn pythons() -> Vec<Python> {
    let mut paths: Vec<PathBuf> = match std::env::var_os("PYSTROBE_PYTHONS") {
        Some(named) => std::env::split_paths(&named).collect(),
        None => installed(),
    };
    if paths.is_empty() {
        paths.push("python3".into());
    }
    let pythons: Vec<Python> = paths.into_iter().map(python).collect();
    let names: Vec<String> = pythons
        .iter()
        .map(|python| format!("{}.{}", python.version.0, python.version.1))
        .collect();
    println!("interpreters: {}", names.join(", "));
    assert!(!pythons.is_empty());
    pythons
}

fn python(path: PathBuf) -> Python {
    let print = "import sys; sys.stdout.write('%d %d' % sys.version_info[:2])";
    let output = Command::new(&path).args(["-c", print]).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8(output.stdout).unwrap();
    let (major, minor) = text.split_once(' ').unwrap();
    Python {
        path,
        version: (major.parse().unwrap(), minor.parse().unwrap()),
    }
}

fn installed() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        return Vec::new();
    };
    let versions = std::fs::read_dir(home.join(".pyenv/versions"));
    let mut paths: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/python")))
        .collect();
    for name in ["python3.14", "python3.15"] {
        paths.push(home.join(".local/share/cpython/bin").join(name));
    }
    paths.retain(|path| path.exists());
    paths.sort();
    paths
}
