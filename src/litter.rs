//! The temporary files and folders that must not outlive us, however we end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::low_level::emulate_default_handler;
use tempfile::NamedTempFile;

/// Remembers the temporary files and folders that exist.
///
/// Each removes itself when it is dropped; this is for the end that drops nothing: a signal that is obeyed at
/// once, in whatever the main thread is stuck.
#[derive(Debug, Clone, Default)]
pub(crate) struct Litter {
    paths: Arc<Mutex<Vec<PathBuf>>>,
}

impl Litter {
    /// Creates a temporary file and remembers it, with no moment between the two at which [`abort`](Self::abort)
    /// could miss it.
    ///
    /// # Errors
    ///
    /// Those of `create`.
    pub(crate) fn create(
        &self,
        create: impl FnOnce() -> io::Result<NamedTempFile>,
    ) -> io::Result<NamedTempFile> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let file = create()?;
        paths.push(file.path().to_path_buf());
        Ok(file)
    }

    /// Makes a temporary folder and remembers it, likewise; `path` is where it is. It removes itself when it is dropped.
    ///
    /// # Errors
    ///
    /// Those of `make`.
    pub(crate) fn folder<T, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
        path: impl FnOnce(&T) -> &Path,
    ) -> Result<T, E> {
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = make()?;
        paths.push(path(&folder).to_path_buf());
        Ok(folder)
    }

    /// Ends the process the way that `signal` does by default, without leaving a temporary file. Those that
    /// took their places meanwhile are no longer under these names.
    pub(crate) fn abort(&self, signal: i32) {
        self.abort_by(|| {
            // It fails only for signals that do not exist.
            let _ = emulate_default_handler(signal);
        });
    }

    /// The same in another way: `end` does it.
    pub(crate) fn abort_by(&self, end: impl FnOnce()) {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        for path in &*paths {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        }
        end();
    }
}
