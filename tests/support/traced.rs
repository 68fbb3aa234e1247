//! A program that is counted by `pystrobe trace`.

use std::path::PathBuf;

use pystrobe_profile::{Counted, Profile, StatsTable};

use super::interpreters::Interpreter;
use super::pystrobe::{Finished, Pystrobe, pystrobe};
use super::{calls, target_script};

/// A program, and what it was counted to do.
pub(crate) struct Traced {
    pub(crate) folder: tempfile::TempDir,
    python: &'static Interpreter,
}

impl Traced {
    pub(crate) fn by(python: &'static Interpreter) -> Traced {
        Traced {
            folder: tempfile::tempdir().unwrap(),
            python,
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("out.pstats")
    }

    /// `pystrobe trace` with options; the program is still to be named.
    pub(crate) fn trace(&self, options: &[&str]) -> Pystrobe {
        pystrobe(["trace"])
            .args(options)
            .arg("-o")
            .arg(self.file())
            .arg("--python")
            .arg(&self.python.path)
    }

    pub(crate) fn run(&self, options: &[&str], script: &str, arguments: &[&str]) -> Finished {
        let finished = self
            .trace(options)
            .arg(target_script(script))
            .args(arguments)
            .run();
        assert!(finished.stderr.contains(" calls of "), "{finished:?}");
        finished
    }

    pub(crate) fn profile(&self) -> Profile {
        let profile = calls::profile(&self.file());
        assert_eq!(profile.recording().counted, Counted::Calls);
        profile
    }

    pub(crate) fn table(&self) -> StatsTable {
        StatsTable::of(&self.profile())
    }

    /// All calls of a function, by its name and the end of its file's name.
    pub(crate) fn calls(&self, file: &str, name: &str) -> u64 {
        let table = self.table();
        let rows = table.rows().iter();
        rows.filter(|row| row.key.file.ends_with(file) && *row.key.name == *name)
            .map(|row| row.nc)
            .sum()
    }
}
