//! The Pythons of this machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pystrobe_sampling::layout::Minor;

/// The versions that are sampled; in CI each has to be there.
const SUPPORTED: [u8; 8] = [8, 9, 10, 11, 12, 13, 14, 15];

/// A Python on this machine.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) path: PathBuf,
    pub(crate) version: Minor,
}

impl fmt::Display for Interpreter {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Minor(major, minor) = self.version;
        write!(
            formatter,
            "Python {major}.{minor} ({})",
            self.path.display()
        )
    }
}

impl Interpreter {
    /// A command that runs it without leaving compiled files behind.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// What it prints when it runs a file of `tests/targets`, or `-c` and a program.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Every supported Python of this machine, of which there may be several of one version.
pub(crate) fn all() -> &'static [Interpreter] {
    static ALL: OnceLock<Vec<Interpreter>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut paths: Vec<PathBuf> = candidates()
            .iter()
            .map(|path| {
                path.canonicalize()
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            })
            .collect();
        paths.sort();
        paths.dedup();
        let found: Vec<Interpreter> = paths
            .into_iter()
            .map(|path| Interpreter {
                version: version_of(&path),
                path,
            })
            .filter(|python| python.version.0 == 3 && SUPPORTED.contains(&python.version.1))
            .collect();
        for minor in SUPPORTED {
            if !found.iter().any(|python| python.version == Minor(3, minor)) {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "there is no Python 3.{minor}"
                );
                eprintln!("skipped: there is no Python 3.{minor} on this machine");
            }
        }
        assert!(
            !found.is_empty(),
            "there is no Python on this machine; set PYSTROBE_PYTHONS"
        );
        found
    })
}

/// `PYSTROBE_PYTHONS`, paths with colons between them; else each `python3.x` where Pythons are usually kept.
fn candidates() -> Vec<PathBuf> {
    if let Ok(paths) = std::env::var("PYSTROBE_PYTHONS") {
        return paths.split(':').map(PathBuf::from).collect();
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let mut folders = vec![
        home.join(".local/share/cpython/bin"),
        "/usr/local/bin".into(),
        "/usr/bin".into(),
    ];
    for version in entries(&home.join(".pyenv/versions")) {
        folders.push(version.join("bin"));
    }
    let is_python = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix("python3."))
            .is_some_and(|minor| minor.parse::<u8>().is_ok())
    };
    folders
        .iter()
        .flat_map(|folder| entries(folder))
        .filter(is_python)
        .collect()
}

/// The paths in a folder; none where there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = std::fs::read_dir(folder).into_iter().flatten();
    listing.map(|entry| entry.unwrap().path()).collect()
}

fn version_of(path: &Path) -> Minor {
    let output = Command::new(path)
        .args(["-c", "import sys; print('%d %d' % sys.version_info[:2])"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (major, minor) = text.trim().split_once(' ').unwrap();
    Minor(major.parse().unwrap(), minor.parse().unwrap())
}

/// The path of a file in `tests/targets`.
pub(crate) fn target_file(name: &str) -> String {
    format!("{}/tests/targets/{name}", env!("CARGO_MANIFEST_DIR"))
}
