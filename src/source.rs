//! Source lines of a running program, read where the program itself would find them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// What is read of one file at most; source files are smaller.
const MOST_BYTES_OF_A_FILE: u64 = 16 << 20;
/// What is read of all files together at most: their names are the target's, and may be many.
const MOST_BYTES: u64 = 256 << 20;
/// What is kept of one line at most, in characters.
const LONGEST_LINE: usize = 160;

/// Source lines by file and line number.
#[derive(Debug, Default)]
pub(crate) struct SourceLines {
    lines: HashMap<(String, u32), String>,
}

impl SourceLines {
    /// Reads the wanted lines of a process's files. Each file is read once and only what is wanted of it is kept;
    /// what cannot be read is left out.
    pub(crate) fn read<'a>(
        pid: u32,
        wanted: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> SourceLines {
        let mut by_file: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for (file, line) in wanted {
            by_file.entry(file).or_default().insert(line);
        }
        let root = Root::of(pid);
        let mut budget = MOST_BYTES;
        let mut lines = HashMap::new();
        for (file, numbers) in by_file {
            let Ok(content) = root.open(file) else {
                continue;
            };
            // A file that breaks off gives the lines before that.
            let _ = pick(content, &numbers, &mut budget, |number, text| {
                lines.insert((file.to_owned(), number), text);
            });
        }
        SourceLines { lines }
    }

    /// A line, without the white space around it.
    pub(crate) fn get(&self, file: &str, line: u32) -> Option<&str> {
        self.lines
            .get(&(file.to_owned(), line))
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }
}

/// The file system as a process sees it, which may be a container's.
struct Root {
    pid: u32,
    directory: Option<OwnedFd>,
}

impl Root {
    fn of(pid: u32) -> Root {
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
            .open(format!("/proc/{pid}/root"))
            .ok()
            .map(OwnedFd::from);
        Root { pid, directory }
    }

    /// Opens an ordinary file by the name that the process has for it. Anything else could keep us waiting
    /// or never end.
    fn open(&self, name: &str) -> io::Result<File> {
        // Without blocking, lest the open of a pipe waits for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match (name.strip_prefix('/'), &self.directory) {
            (Some(below), Some(root)) => self.open_below(root, below, flags)?,
            (Some(_), None) => return Err(io::ErrorKind::NotFound.into()),
            // `<string>`, `<frozen importlib._bootstrap>` and what was named relative to where it was started.
            (None, _) => plainly(&self.place("cwd").join(name), flags)?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(file)
    }

    /// An absolute symbolic link in a container means the container's root. Only openat2(2) resolves it so;
    /// where that is missing (Linux before 5.6, some sandboxes) links are resolved from our own root.
    fn open_below(&self, root: &OwnedFd, below: &str, flags: OFlag) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(root.as_fd(), Path::new(below), how) {
            Ok(file) => Ok(File::from(file)),
            Err(Errno::ENOSYS | Errno::EPERM) => plainly(&self.place("root").join(below), flags),
            Err(errno) => Err(errno.into()),
        }
    }

    fn place(&self, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{what}", self.pid))
    }
}

fn plainly(path: &Path, flags: OFlag) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

/// Gives the wanted lines of a file to `found`.
fn pick(
    file: impl Read,
    numbers: &BTreeSet<u32>,
    budget: &mut u64,
    mut found: impl FnMut(u32, String),
) -> io::Result<()> {
    let allowed = MOST_BYTES_OF_A_FILE.min(*budget);
    let mut reader = BufReader::new(file.take(allowed));
    let last = numbers.last().copied().unwrap_or(0);
    let mut line = Vec::new();
    for number in 1..=last {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        *budget = budget.saturating_sub(length as u64);
        if numbers.contains(&number) {
            let text = String::from_utf8_lossy(&line);
            found(number, text.trim().chars().take(LONGEST_LINE).collect());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(content: &str, numbers: &[u32]) -> Vec<(u32, String)> {
        let mut lines = Vec::new();
        let numbers = numbers.iter().copied().collect();
        let mut budget = 1000;
        pick(content.as_bytes(), &numbers, &mut budget, |number, text| {
            lines.push((number, text));
        })
        .unwrap();
        lines
    }

    #[test]
    fn wanted_lines_are_picked_and_trimmed() {
        let lines = picked("a\n    b = 1\nc\n\td", &[2, 4, 9]);
        assert_eq!(lines, [(2, String::from("b = 1")), (4, String::from("d"))]);
        assert_eq!(picked("", &[1]), []);
        assert_eq!(picked("a", &[]), []);
    }

    #[test]
    fn no_more_is_read_than_the_budget() {
        let content = format!("{}\nlast", "x".repeat(5000));
        let lines = picked(&content, &[1, 2]);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].1.len(), LONGEST_LINE);
    }

    #[test]
    fn our_own_lines_can_be_read_and_pipes_do_not_keep_us() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.py");
        std::fs::write(&file, "first\nsecond\n").unwrap();
        let pipe = directory.path().join("pipe.py");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (file, pipe) = (file.to_str().unwrap(), pipe.to_str().unwrap());
        let lines = SourceLines::read(
            std::process::id(),
            [
                (file, 2),
                (pipe, 1),
                ("<string>", 1),
                ("/dev/zero", 1),
                ("", 1),
            ],
        );
        assert_eq!(lines.get(file, 2), Some("second"));
        assert_eq!(lines.get(file, 1), None);
        assert_eq!(lines.lines.len(), 1);
    }
}
