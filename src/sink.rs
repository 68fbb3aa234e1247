//! Where one output's bytes go until the profile is complete.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::litter::Litter;

/// Symbolic links are followed this far, as the kernel does.
const MOST_LINKS: usize = 40;

/// An output that is open.
#[derive(Debug)]
pub(crate) enum Sink {
    /// Our own stdout.
    Stdout,
    /// A pipe or a device, which cannot be renamed onto.
    Direct(File),
    /// A file that takes its place when it is complete.
    Replace {
        /// Beside its place, since only within a file system can a file be renamed.
        temporary: NamedTempFile,
        /// Absolute, and no symbolic link.
        destination: PathBuf,
    },
}

impl Sink {
    /// Opens a path for writing. Whatever would make writing fail for a reason that can be known now makes this fail.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(crate) fn open(path: &Path, litter: &Litter) -> io::Result<Sink> {
        let permissions = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
            Ok(metadata) => {
                // Appending, because another name of an open file (/dev/fd/3) would start over what is there.
                let existing = OpenOptions::new().append(true).open(path)?;
                if !metadata.is_file() || is_descriptor(path) {
                    return Ok(Sink::Direct(existing));
                }
                Some(metadata.permissions())
            }
        };
        let destination = resolve(path)?;
        let temporary = litter.create(|| {
            tempfile::Builder::new()
                .prefix(".pystrobe-")
                .suffix(".tmp")
                // The umask takes its part of it, as of every file that is created.
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(directory(&destination))
        })?;
        if let Some(permissions) = permissions {
            // Who kept yesterday's profile to himself means today's too.
            temporary.as_file().set_permissions(permissions)?;
        }
        Ok(Sink::Replace {
            temporary,
            destination,
        })
    }
}

/// The file that a path leads to through symbolic links, which need not exist: a link stays a link, and what
/// it points to is replaced. Its directory is made absolute and free of links.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?
            .to_owned();
        let directory = directory(&path).canonicalize()?;
        path = directory.join(name);
        match fs::read_link(&path) {
            Ok(target) => path = directory.join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Where a path's temporary neighbour goes.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/dev/fd") || path.starts_with("/proc") || path.starts_with("/dev/stderr")
}
