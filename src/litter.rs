//! The temporary files that must not outlive us, however we end.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::low_level::emulate_default_handler;
use tempfile::NamedTempFile;

/// Remembers the temporary files that exist.
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
            let _ = fs::remove_file(path);
        }
        end();
    }
}
