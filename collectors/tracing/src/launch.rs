//! A program that is recorded from its first line.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pystrobe_calls::{Options, OptionsError};
use tempfile::TempDir;

use crate::attach::agent_file;

/// What the interpreter imports as `sitecustomize`.
const BOOT: &str = include_str!("boot.py");
/// As the agent calls it.
const FIRST: &str = "first.calls";

/// Why a recording of a program cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The temporary folder cannot be made, or not be filled.
    #[error("cannot prepare a folder for the recording: {0}")]
    Io(#[from] io::Error),
    /// The options cannot be written.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A path with a colon cannot be in `PYTHONPATH`.
    #[error("the temporary folder {} has a colon in its name", .0.display())]
    Colon(PathBuf),
}

/// A folder with the agent, with what loads it, and with the recordings. It is removed when this is dropped.
#[derive(Debug)]
pub struct Launch {
    folder: TempDir,
    first: File,
}

impl Launch {
    /// Prepares a recording.
    ///
    /// # Errors
    ///
    /// [`LaunchError`]
    pub fn new(options: &Options) -> Result<Launch, LaunchError> {
        let folder = tempfile::Builder::new().prefix("pystrobe-").tempdir()?;
        // As the interpreter will compare it.
        let path = fs::canonicalize(folder.path())?;
        if path.as_os_str().as_bytes().contains(&b':') {
            return Err(LaunchError::Colon(path));
        }
        fs::write(path.join("sitecustomize.py"), BOOT)?;
        if options.subprocesses {
            fs::write(path.join("subprocesses"), "")?;
        }
        agent_file(&path.join("pystrobe_agent.so"))?;
        let first = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path.join(FIRST))?;
        options.write_to(&first)?;
        Ok(Launch { folder, first })
    }

    /// The variables that the program's environment needs, besides those that it has; `python_path` is its `PYTHONPATH` so far.
    ///
    /// # Errors
    ///
    /// That the folder is gone.
    pub fn environment(
        &self,
        python_path: Option<&OsStr>,
    ) -> io::Result<Vec<(OsString, OsString)>> {
        let mut path = fs::canonicalize(self.folder.path())?.into_os_string();
        if let Some(old) = python_path.filter(|old| !old.is_empty()) {
            path.push(":");
            path.push(old);
        }
        Ok(vec![("PYTHONPATH".into(), path)])
    }

    /// The recording of the first Python that the program is, for [`pystrobe_calls::read`].
    #[must_use]
    pub fn first(&self) -> &File {
        &self.first
    }

    /// The recordings of other processes, so far: with [`Options::subprocesses`] those of the program's children that are Pythons as well.
    ///
    /// # Errors
    ///
    /// That the folder cannot be read.
    pub fn others(&self) -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new("calls"))
                && path.file_name() != Some(OsStr::new(FIRST))
            {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Why a Python that was started does not record, if one said so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("refusal")).ok()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
