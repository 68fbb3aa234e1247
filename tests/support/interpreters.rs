//! The Pythons that the tests run on, as `tests/interpreters list` finds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{in_ci, skip, tests_folder};

/// The versions that pystrobe reads itself; in CI each has to be there.
pub(crate) const SUPPORTED: [&str; 8] =
    ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15"];

/// A Python on this machine.
#[derive(Debug)]
pub(crate) struct Interpreter {
    /// Its program; never a shim or a link.
    pub(crate) path: PathBuf,
    /// As `sys.version_info` has it: major, minor, micro.
    pub(crate) version: (u32, u32, u32),
}

impl Interpreter {
    /// As in `3.12.1`.
    pub(crate) fn full_version(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("{major}.{minor}.{micro}")
    }

    /// A command that runs it; its compiled files stay out of the tree.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Runs a program in it and gives what that printed; it has to succeed.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{} {arguments:?}: {}",
            self.path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

/// All of them, oldest version first.
pub(crate) fn all() -> &'static [Interpreter] {
    static ALL: OnceLock<Vec<Interpreter>> = OnceLock::new();
    ALL.get_or_init(|| {
        let listed = Command::new(tests_folder().join("interpreters"))
            .arg("list")
            .output()
            .unwrap();
        assert!(listed.status.success(), "tests/interpreters list failed");
        String::from_utf8(listed.stdout)
            .unwrap()
            .lines()
            .map(describe)
            .collect()
    })
}

fn describe(path: &str) -> Interpreter {
    let output = Command::new(path)
        .args([
            "-c",
            "import sys; print('%d %d %d' % tuple(sys.version_info[:3]))",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text
        .split_whitespace()
        .map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    Interpreter {
        path: PathBuf::from(path),
        version: (next(), next(), next()),
    }
}

/// Every build of a version such as `3.12`: there may be pyenv's and the system's.
pub(crate) fn builds(version: &str) -> Vec<&'static Interpreter> {
    all()
        .iter()
        .filter(|python| {
            let (major, minor, _) = python.version;
            format!("{major}.{minor}") == version
        })
        .collect()
}

/// Runs a test on every build of a version, and names them. Where there is none, a supported version is a failure in
/// CI, and skipped elsewhere.
pub(crate) fn on(version: &str, test: impl Fn(&'static Interpreter)) {
    let builds = builds(version);
    if builds.is_empty() {
        if SUPPORTED.contains(&version) {
            skip(&format!("there is no CPython {version} on this machine"));
        } else {
            println!("skipped: there is no CPython {version} on this machine");
        }
        return;
    }
    for python in builds {
        println!(
            "on CPython {} ({})",
            python.full_version(),
            python.path.display()
        );
        test(python);
    }
}

/// Runs a test on one build of a version, where there is one: for what another version would show too.
pub(crate) fn on_any(version: &str, test: impl Fn(&'static Interpreter)) {
    if let Some(python) = builds(version).into_iter().next() {
        println!(
            "on CPython {} ({})",
            python.full_version(),
            python.path.display()
        );
        test(python);
    }
}

/// The newest one that pystrobe supports.
pub(crate) fn newest() -> &'static Interpreter {
    SUPPORTED
        .iter()
        .rev()
        .find_map(|version| builds(version).into_iter().next())
        .expect("no supported CPython on this machine")
}

/// One per layout family: frames as heap objects, as chunks of a data stack, and as interpreters that describe
/// themselves have them.
pub(crate) fn one_per_family() -> Vec<&'static Interpreter> {
    let families: [&[&str]; 3] = [
        &["3.9", "3.10", "3.8"],
        &["3.12", "3.11"],
        &["3.14", "3.13", "3.15"],
    ];
    let found: Vec<_> = families
        .iter()
        .filter_map(|family| {
            family
                .iter()
                .find_map(|version| builds(version).into_iter().next())
        })
        .collect();
    assert!(
        !in_ci() || found.len() == families.len(),
        "a family of layouts has no interpreter"
    );
    found
}

/// The virtual environment with the readers, where `tests/run` has made it.
pub(crate) fn readers() -> Option<&'static Path> {
    static READERS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let readers = READERS.get_or_init(|| std::env::var_os("PYSTROBE_READERS").map(PathBuf::from));
    if readers.is_none() {
        skip("PYSTROBE_READERS is not set; tests/run installs the readers and sets it");
    }
    readers.as_deref()
}

/// The folder with the programs that nobody here wrote, to import them from, where `tests/run` has made it.
pub(crate) fn programs() -> Option<&'static Path> {
    static PROGRAMS: OnceLock<Option<PathBuf>> = OnceLock::new();
    let programs =
        PROGRAMS.get_or_init(|| std::env::var_os("PYSTROBE_PROGRAMS").map(PathBuf::from));
    if programs.is_none() {
        skip("PYSTROBE_PROGRAMS is not set; tests/run installs the programs and sets it");
    }
    programs.as_deref()
}

/// Writes one `#[test]` for each version, named after it, which runs a check on every build of that version.
macro_rules! on_each_version {
    ($($name:ident = $check:expr;)*) => {
        $(
            mod $name {
                use super::*;
                $crate::support::interpreters::on_each_version! {
                    @tests $check;
                    cpython_3_8 "3.8", cpython_3_9 "3.9", cpython_3_10 "3.10", cpython_3_11 "3.11",
                    cpython_3_12 "3.12", cpython_3_13 "3.13", cpython_3_14 "3.14", cpython_3_15 "3.15"
                }
            }
        )*
    };
    (@tests $check:expr; $($test:ident $version:literal),*) => {
        $(
            #[test]
            fn $test() {
                $crate::support::interpreters::on($version, $check);
            }
        )*
    };
}
pub(crate) use on_each_version;
