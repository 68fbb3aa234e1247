//! A folder that another process and we both see, and that is gone when we have finished.
//!
//! The other process may live in another mount namespace or chroot, and belong to another user: the folder is made in *its*
//! root, and given to *its* user. Nothing is opened by a path that the other process could redirect.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};
use pystrobe_sampling::process;

use super::InjectionError;

/// Where a folder may be made, as paths from the root: such as every user may write to.
const PARENTS: [&[&str]; 3] = [&["tmp"], &["dev", "shm"], &["var", "tmp"]];

/// A folder in the root of another process, of its user. Removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Place {
    parent: OwnedFd,
    folder: OwnedFd,
    name: String,
    inside: PathBuf,
    owner: (u32, u32),
}

impl Place {
    /// Makes one for a process: where libraries may be loaded from, if there is such a place.
    ///
    /// # Errors
    ///
    /// [`InjectionError::NoPlace`].
    pub fn of(pid: u32) -> Result<Self, InjectionError> {
        Self::named(pid, None)
    }

    /// The same, with a name that it gets if nothing has it yet.
    ///
    /// # Errors
    ///
    /// [`InjectionError::NoPlace`].
    pub(crate) fn named(pid: u32, name: Option<&str>) -> Result<Self, InjectionError> {
        let mut cause = Errno::ESRCH;
        let mut parents = Vec::new();
        for path in PARENTS {
            match parent(pid, path) {
                Ok(found) => parents.push(found),
                Err(errno) => cause = errno,
            }
        }
        parents.sort_by_key(|parent| parent.forbids_programs);
        let owner = process::owner(pid).unwrap_or((0, 0));
        for parent in parents {
            match Self::make(parent, owner, name) {
                Ok(place) => return Ok(place),
                Err(errno) => cause = errno,
            }
        }
        let cause = String::from(cause.desc());
        Err(InjectionError::NoPlace { pid, cause })
    }

    fn make(parent: Parent, owner: (u32, u32), wanted: Option<&str>) -> Result<Self, Errno> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut wanted = wanted.map(String::from);
        let name = loop {
            let name = wanted.take().unwrap_or_else(|| {
                let count = COUNT.fetch_add(1, Ordering::Relaxed);
                format!("pystrobe-{}-{count}", std::process::id())
            });
            match mkdirat(&parent.folder, name.as_str(), Mode::S_IRWXU) {
                Ok(()) => break name,
                // Left by one that was killed.
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        };
        let open = || {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let folder = openat(&parent.folder, name.as_str(), flags, Mode::empty())?;
            give(&folder, owner)?;
            Ok(folder)
        };
        match open() {
            Ok(folder) => Ok(Self {
                inside: parent.inside.join(&name),
                parent: parent.folder,
                folder,
                name,
                owner,
            }),
            Err(errno) => {
                // Its name is taken by an empty folder then, which is all that can be said of it.
                let _ = unlinkat(&parent.folder, name.as_str(), UnlinkatFlags::RemoveDir);
                Err(errno)
            }
        }
    }

    /// The path of a file in it, as the other process has to name it.
    #[must_use]
    pub fn inside(&self, name: &str) -> PathBuf {
        self.inside.join(name)
    }

    /// Makes a new file, open to be read and written, with which the other process may do what it wants.
    ///
    /// # Errors
    ///
    /// What the file system answers.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::S_IRWXU)?;
        give(&file, self.owner)?;
        Ok(File::from(file))
    }

    /// Writes a new file.
    ///
    /// # Errors
    ///
    /// What the file system answers.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(content)
    }

    /// Makes a pipe that the other process writes to, and opens our end of it.
    pub(super) fn pipe(&self, name: &str) -> Result<File, Errno> {
        mkfifoat(&self.folder, name, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let pipe = openat(&self.folder, name, flags, Mode::empty())?;
        give(&pipe, self.owner)?;
        Ok(File::from(pipe))
    }

    /// Takes a file away. Whoever wants it after that comes too late.
    ///
    /// # Errors
    ///
    /// What the file system answers: `ENOENT` where it is gone already.
    pub(super) fn take(&self, name: &str) -> Result<(), Errno> {
        unlinkat(&self.folder, name, UnlinkatFlags::NoRemoveDir)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What the other process has made or renamed as well. It may have been quicker: then nothing is left to be removed.
        let folder = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let _ = unlinkat(
                &self.folder,
                entry.file_name().as_os_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
        let _ = unlinkat(&self.parent, self.name.as_str(), UnlinkatFlags::RemoveDir);
    }
}

struct Parent {
    folder: OwnedFd,
    inside: PathBuf,
    forbids_programs: bool,
}

/// Opens a folder of the process's root. A link on the way is not followed: it would lead to *our* root.
fn parent(pid: u32, path: &[&str]) -> Result<Parent, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = format!("/proc/{pid}/root");
    let mut folder = openat(AT_FDCWD, root.as_str(), flags, Mode::empty())?;
    let mut inside = PathBuf::from("/");
    for part in path {
        folder = openat(&folder, *part, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        inside.push(part);
    }
    let forbids_programs = fstatvfs(&folder)?.flags().contains(FsFlags::ST_NOEXEC);
    Ok(Parent {
        folder,
        inside,
        forbids_programs,
    })
}

fn give(to: &impl std::os::fd::AsFd, (user, group): (u32, u32)) -> Result<(), Errno> {
    match fchown(to, Some(user), Some(group)) {
        Ok(()) => Ok(()),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or_default())),
    }
}
