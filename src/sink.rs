//! Where one output's bytes go.
//!
//! A file is written beside its place under a temporary name, and renamed when it is complete: an aborted recording leaves
//! yesterday's profile as it was. What cannot be renamed onto (stdout, a pipe, a device) is written directly.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pystrobe_exporters::ExportError;
use tempfile::NamedTempFile;

use crate::errors::Failure;
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

    /// Lets `export` write what belongs there, and puts a file in its place. A reader of stdout or of a pipe that goes away early is no
    /// failure.
    ///
    /// # Errors
    ///
    /// Those of `export` and of the file system, told of the output called `name`.
    pub(crate) fn fill(
        self,
        name: &Path,
        export: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
    ) -> Result<(), Failure> {
        let fill = |sink: &mut dyn Write| {
            let mut buffered = BufWriter::with_capacity(1 << 16, sink);
            let result =
                export(&mut buffered).and_then(|()| buffered.flush().map_err(ExportError::from));
            // What could not be flushed would be tried again on drop.
            let _ = buffered.into_parts();
            result
        };
        let filled = match self {
            Sink::Stdout => unless_closed(fill(&mut io::stdout().lock())),
            Sink::Direct(mut file) => unless_closed(fill(&mut file)),
            Sink::Replace {
                mut temporary,
                destination,
            } => match fill(temporary.as_file_mut()) {
                Ok(()) => return place(temporary, &destination, name),
                Err(error) => Err(error),
            },
        };
        filled.map_err(|error| match error {
            ExportError::Io(source) => Failure::output("write", name, source),
            source => Failure::Export {
                path: name.to_path_buf(),
                source,
            },
        })
    }
}

fn place(temporary: NamedTempFile, destination: &Path, name: &Path) -> Result<(), Failure> {
    match temporary.persist(destination) {
        Ok(_) => Ok(()),
        // It took minutes to record: rather litter than loss.
        Err(error) => Err(Failure::Unplaced {
            path: name.to_path_buf(),
            source: error.error,
            kept: error.file.keep().ok().map(|(_, path)| path),
        }),
    }
}

fn unless_closed(filled: Result<(), ExportError>) -> Result<(), ExportError> {
    match filled {
        Err(ExportError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::exit_code;

    /// Opens a path and writes `hello` there.
    fn hello(path: &Path) -> Result<(), Failure> {
        let sink = Sink::open(path, &Litter::default()).unwrap();
        sink.fill(path, |out| Ok(out.write_all(b"hello")?))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode()
    }

    #[test]
    fn it_has_the_permissions_that_any_new_file_has() {
        let directory = tempfile::tempdir().unwrap();
        let ordinary = directory.path().join("ordinary");
        File::create(&ordinary).unwrap();
        let path = directory.path().join("a.folded");
        hello(&path).unwrap();
        assert_eq!(mode(&path), mode(&ordinary));
    }

    #[test]
    fn a_replaced_file_keeps_its_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.folded");
        fs::write(&path, "secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        hello(&path).unwrap();
        assert_eq!(mode(&path) & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"hello");
    }

    #[test]
    fn links_stay_links() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        symlink("sub/real.folded", at("middle")).unwrap();
        symlink("middle", at("link.folded")).unwrap();
        for _existing_or_not in 0..2 {
            hello(&at("link.folded")).unwrap();
            assert!(at("link.folded").is_symlink() && at("middle").is_symlink());
            assert_eq!(fs::read(at("sub/real.folded")).unwrap(), b"hello");
        }
        assert_eq!(fs::read_dir(at("sub")).unwrap().count(), 1);
    }

    #[test]
    fn devices_are_written_directly() {
        hello(Path::new("/dev/null")).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_full_device_is_a_failure() {
        let failure = hello(Path::new("/dev/full")).unwrap_err();
        assert_eq!(failure.exit_code(), exit_code::OUTPUT);
    }

    #[test]
    fn pipes_are_written_directly_and_may_be_closed_early() {
        use std::os::fd::AsRawFd;
        let (mut reader, writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/dev/fd/{}", writer.as_raw_fd()));
        hello(&path).unwrap();
        let sink = Sink::open(&path, &Litter::default()).unwrap();
        drop(writer);
        let mut first = [0; 5];
        io::Read::read_exact(&mut reader, &mut first).unwrap();
        assert_eq!(&first, b"hello");
        drop(reader);
        sink.fill(&path, |out| Ok(out.write_all(b"hello")?))
            .unwrap();
    }
}
