//! Finds the interpreter in a process, and keeps looking while there is none yet.
//!
//! A Python is known by the symbols that it exports; where the dynamic linker's tables show none, by its
//! data. Every address is proven before it is given out: there has to be an interpreter with a thread that
//! points back to it. The crate `py_spy` knows more ways to find an interpreter, but it parses the whole
//! files first, which takes longer than a short program runs, and proves an address by walking a stack of
//! at most 4,096 frames. So it is asked last: for interpreters before 3.8, and for builds that are
//! stripped of every symbol.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use py_spy::python_process_info::{PythonProcessInfo, PythonProcessLayout, get_python_version};

use crate::attach_error::{AttachError, Denial, Refused};
use crate::elf::Image;
use crate::forked;
use crate::layout::{Layout, Minor, builtin};
use crate::maps::{self, MappedImage};
use crate::memory::ReadError;
use crate::process::{self, Life};
use crate::process_memory::ProcessMemory;
use crate::python_image::{DescribeError, PythonImage, Support, has_thread};

pub use crate::python_image::Roots;

/// A process is not Python when its images were none for this long: its libraries may still be loading.
const SETTLED: Duration = Duration::from_millis(50);
/// However often its images change meanwhile.
const SETTLED_AT_LAST: Duration = Duration::from_millis(250);
/// Between two looks, at first: a Python runs its first frame some milliseconds after the program starts.
const SHORTEST_PAUSE: Duration = Duration::from_micros(200);
/// Between two looks at a process in which nothing has happened for long.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// An interpreter that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// The process.
    pub pid: u32,
    /// Major, minor and patch version.
    pub version: (u8, u8, u8),
    /// The version as `sys.version` starts: `3.12.1`, `3.15.0b2`.
    pub python: String,
    /// Where its lists start.
    pub roots: Roots,
    /// Its offsets. Where [`Self::legacy`], those of another version: nobody reads by them.
    pub layout: Layout,
    /// Address of `PyCode_Type`, where it is exported.
    pub code_type: Option<u64>,
    /// Address of `None`, where it is exported.
    pub none: Option<u64>,
    /// It is 2.7 or 3.3 to 3.7, for which there is no layout.
    pub legacy: bool,
}

/// Looks at a process once.
///
/// # Errors
///
/// What stands in the way. [`AttachError::Starting`] and [`AttachError::NotPython`] may be true of this
/// moment only.
pub fn discover(pid: u32) -> Result<Interpreter, AttachError> {
    Search::new(pid).look(Effort::Thorough)
}

/// Looks at a running process. An interpreter that is not ready is waited for, up to `starting`.
///
/// # Errors
///
/// What stands in the way.
pub fn attach(pid: u32, starting: Duration) -> Result<Interpreter, AttachError> {
    let mut search = Search::new(pid);
    let mut effort = Effort::Quick;
    loop {
        let error = match search.look(effort) {
            Ok(interpreter) => return Ok(interpreter),
            Err(error) => error,
        };
        let (passed, quiet) = (search.started.elapsed(), search.changed.elapsed());
        let wait = match error {
            AttachError::NotPython { .. } => quiet < SETTLED && passed < SETTLED_AT_LAST,
            AttachError::Starting { .. } | AttachError::Unreadable { .. } => passed < starting,
            _ => false,
        };
        if !wait {
            return Err(error);
        }
        effort = Effort::Thorough;
        thread::sleep(search.pause());
    }
}

/// The addresses of functions that the image with the interpreter exports, `None` for those that it does not.
///
/// # Errors
///
/// Where the process cannot be read.
pub fn exported<const N: usize>(
    interpreter: &Interpreter,
    names: [&str; N],
) -> Result<[Option<u64>; N], AttachError> {
    let mut search = Search::new(interpreter.pid);
    for image in search.mapped_images()? {
        let image = search.tolerate(Image::read(&search.memory, image.base))?;
        let Some(image) = image else { continue };
        let address = |name: &str| {
            let found = search.tolerate(image.symbol(&search.memory, name))?;
            Ok(found.flatten())
        };
        if address("_PyRuntime")?.map(Roots::Runtime) != Some(interpreter.roots) {
            continue;
        }
        let mut addresses = [None; N];
        for (found, name) in addresses.iter_mut().zip(names) {
            *found = address(name)?;
        }
        return Ok(addresses);
    }
    Ok([None; N])
}

/// Keeps looking until the process has become a Python: it may execute shells and wrappers first.
///
/// # Errors
///
/// [`AttachError::Ended`] where the process has ended before; [`AttachError::GaveUp`] as soon as `give_up`
/// says so; else what stands in the way.
pub fn wait_for(pid: u32, give_up: impl FnMut() -> bool) -> Result<Interpreter, AttachError> {
    keep_looking(pid, give_up, Search::look)
}

/// The same for a descendant of a process that is recorded. It may be a copy of its parent, whose interpreter
/// is where the parent's is; or still have all memory in common with it, until it executes another program.
///
/// # Errors
///
/// As [`wait_for`].
pub(crate) fn wait_for_child(
    pid: u32,
    parent: Option<&Interpreter>,
    give_up: impl FnMut() -> bool,
) -> Result<Interpreter, AttachError> {
    keep_looking(pid, give_up, |search, effort| {
        let waited = search.started.elapsed();
        if let Some(parent) = parent
            && let Some(interpreter) = forked::inherited(parent, pid)
            && forked::is_its_own(&interpreter, waited)
        {
            return Ok(interpreter);
        }
        let interpreter = search.look(effort)?;
        if interpreter.legacy || forked::is_its_own(&interpreter, waited) {
            return Ok(interpreter);
        }
        Err(AttachError::Starting { pid })
    })
}

/// Looks at a descendant of a process that is looked at as well, and waits only until it is not in its parent's memory any
/// more.
///
/// # Errors
///
/// What stands in the way. That it is no Python may be true of this moment only.
pub(crate) fn attach_descendant(pid: u32) -> Result<Interpreter, AttachError> {
    let began = Instant::now();
    loop {
        let interpreter = discover(pid)?;
        if interpreter.legacy || forked::is_its_own(&interpreter, began.elapsed()) {
            return Ok(interpreter);
        }
        thread::sleep(SHORTEST_PAUSE);
    }
}

fn keep_looking(
    pid: u32,
    mut give_up: impl FnMut() -> bool,
    mut look: impl FnMut(&mut Search, Effort) -> Result<Interpreter, AttachError>,
) -> Result<Interpreter, AttachError> {
    let mut search = Search::new(pid);
    // When the images that are there now were searched thoroughly.
    let mut searched = None;
    loop {
        let settled = search.changed.elapsed() >= SETTLED && searched != Some(search.changed);
        let effort = if settled {
            Effort::Thorough
        } else {
            Effort::Quick
        };
        if settled {
            searched = Some(search.changed);
        }
        match look(&mut search, effort) {
            Ok(interpreter) => return Ok(interpreter),
            Err(AttachError::NotFound { .. } | AttachError::Zombie { .. }) => {
                return Err(AttachError::Ended { pid });
            }
            Err(AttachError::NotPython { .. }) => {}
            Err(AttachError::Starting { .. } | AttachError::Unreadable { .. }) => searched = None,
            Err(error) => return Err(error),
        }
        if give_up() {
            return Err(AttachError::GaveUp { pid });
        }
        thread::sleep(search.pause());
    }
}

/// How hard to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// At exported symbols: well under a millisecond.
    Quick,
    /// At the data of the program too, and through the crate `py_spy`: some ten milliseconds.
    Thorough,
}

struct Search {
    pid: u32,
    memory: ProcessMemory,
    started: Instant,
    /// When the images were other ones for the last time.
    changed: Instant,
    images: Vec<MappedImage>,
    pythons: Vec<PythonImage>,
    /// All of `images` could be read.
    complete: bool,
    seen: bool,
}

impl Search {
    fn new(pid: u32) -> Self {
        let now = Instant::now();
        Self {
            pid,
            memory: ProcessMemory::new(pid),
            started: now,
            changed: now,
            images: Vec::new(),
            pythons: Vec::new(),
            complete: false,
            seen: false,
        }
    }

    /// How long to wait for the next look: the longer nothing has happened, the longer.
    fn pause(&self) -> Duration {
        (self.changed.elapsed() / 32).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    fn look(&mut self, effort: Effort) -> Result<Interpreter, AttachError> {
        let images = self.mapped_images()?;
        if images != self.images || !self.complete {
            if images != self.images {
                self.changed = Instant::now();
            }
            self.images = images;
            self.find_exported()?;
        }
        let mut not_found = None;
        for python in &self.pythons {
            match self.interpreter(python, effort) {
                Ok(interpreter) => return Ok(interpreter),
                // One that is starting may become what is looked for; anything else stays as it is.
                Err(error @ AttachError::Starting { .. }) => not_found = Some(error),
                Err(error) => {
                    not_found.get_or_insert(error);
                }
            }
        }
        if effort == Effort::Thorough && self.pythons.is_empty() {
            for base in self.likely_images() {
                if let Some(python) = self
                    .tolerate(PythonImage::unexported(&self.memory, base))?
                    .flatten()
                {
                    return self.interpreter(&python, effort);
                }
            }
        }
        Err(not_found.unwrap_or_else(|| AttachError::NotPython {
            pid: self.pid,
            command: process::command_line(self.pid),
        }))
    }

    fn mapped_images(&mut self) -> Result<Vec<MappedImage>, AttachError> {
        let pid = self.pid;
        match fs::read(format!("/proc/{pid}/maps")) {
            // There is nothing in it for a zombie, nor for a thread of the kernel.
            Ok(maps) if maps.is_empty() && process::life(pid) != Life::Alive => Err(self.gone()),
            Ok(maps) => {
                self.seen = true;
                Ok(maps::images(&maps))
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(AttachError::Denied {
                    pid,
                    cause: Denial::of(pid, Refused::Listing),
                })
            }
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(Errno::ESRCH as i32) =>
            {
                Err(self.gone())
            }
            Err(error) => Err(AttachError::Unreadable {
                pid,
                what: format!("its list of memory: {error}"),
            }),
        }
    }

    /// What to say of a process that can no longer be read.
    fn gone(&self) -> AttachError {
        let pid = self.pid;
        match (process::life(pid), self.seen) {
            (Life::Zombie, _) => AttachError::Zombie { pid },
            (_, true) => AttachError::Ended { pid },
            (_, false) => AttachError::NotFound { pid },
        }
    }

    fn find_exported(&mut self) -> Result<(), AttachError> {
        self.pythons.clear();
        self.complete = true;
        for index in 0..self.images.len() {
            let base = self.images[index].base;
            match self.tolerate(PythonImage::exported(&self.memory, base))? {
                Some(Some(python)) => self.pythons.push(python),
                Some(None) => {}
                None => self.complete = false,
            }
        }
        Ok(())
    }

    /// Images that may be a Python without exporting anything: the program, and what is called so.
    fn likely_images(&self) -> Vec<u64> {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        let is_likely = |image: &&MappedImage| {
            image.path == program.as_os_str().as_bytes() || image.is_called("python")
        };
        self.images
            .iter()
            .filter(is_likely)
            .map(|image| image.base)
            .collect()
    }

    fn interpreter(
        &self,
        python: &PythonImage,
        effort: Effort,
    ) -> Result<Interpreter, AttachError> {
        let pid = self.pid;
        let starting = AttachError::Starting { pid };
        let description = match python.describe(&self.memory) {
            Ok(description) => description.ok_or(starting.clone())?,
            Err(DescribeError::Read(error)) => return Err(self.unread(error)),
            Err(DescribeError::Layout(error)) => {
                let what = format!("the offsets that its Python publishes: {error}");
                return Err(AttachError::Unreadable { pid, what });
            }
        };
        let version = description.version;
        let unsupported = || AttachError::Unsupported {
            pid,
            version: version.text.clone(),
        };
        let (layout, legacy) = match description.support {
            Support::Layout(layout) => (*layout, false),
            Support::Legacy => (*builtin(Minor(3, 8)).ok_or_else(unsupported)?, true),
            Support::None => return Err(unsupported()),
        };
        let found = match python.runtime() {
            Some(runtime) if !legacy => Found {
                roots: Roots::Runtime(runtime),
                code_type: python.code_type,
                none: python.none,
            },
            _ if effort == Effort::Quick && !legacy => return Err(starting),
            _ => found_by_py_spy(pid, legacy)?,
        };
        if !legacy
            && !has_thread(&self.memory, &layout, found.roots)
                .map_err(|error| self.unread(error))?
        {
            return Err(starting);
        }
        Ok(Interpreter {
            pid,
            version: version.number,
            python: version.text,
            roots: found.roots,
            layout,
            code_type: found.code_type.or(python.code_type),
            none: found.none.or(python.none),
            legacy,
        })
    }

    /// `None` where something is not, or not yet, where it should be.
    fn tolerate<T>(&self, read: Result<T, ReadError>) -> Result<Option<T>, AttachError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(ReadError::Fault(_) | ReadError::Implausible { .. }) => Ok(None),
            Err(error) => Err(self.unread(error)),
        }
    }

    fn unread(&self, error: ReadError) -> AttachError {
        let pid = self.pid;
        match error {
            ReadError::Gone => self.gone(),
            ReadError::Denied => AttachError::Denied {
                pid,
                cause: Denial::of(pid, Refused::Reading),
            },
            ReadError::Fault(_) | ReadError::Implausible { .. } => AttachError::Starting { pid },
            ReadError::Other(_) => AttachError::Unreadable {
                pid,
                what: error.to_string(),
            },
        }
    }
}

/// Where things are in an interpreter.
struct Found {
    roots: Roots,
    code_type: Option<u64>,
    none: Option<u64>,
}

/// `_PyRuntime`, or an interpreter, and what it exports, as the crate `py_spy` finds them: by the full symbol
/// table of the file, or by trying every pointer in the data.
fn found_by_py_spy(pid: u32, legacy: bool) -> Result<Found, AttachError> {
    let unreadable = |what: String| AttachError::Unreadable { pid, what };
    let id = py_spy::Pid::try_from(pid).map_err(|_| AttachError::NotFound { pid })?;
    let process = remoteprocess::Process::new(id).map_err(|error| unreadable(error.to_string()))?;
    let find = || {
        let info = PythonProcessInfo::new(&process)?;
        let symbol = |name| info.get_symbol(name).copied();
        let of = |roots| Found {
            roots,
            code_type: symbol("PyCode_Type"),
            none: symbol("_Py_NoneStruct"),
        };
        if !legacy && let Some(runtime) = symbol("_PyRuntime") {
            return Ok(of(Roots::Runtime(runtime)));
        }
        let version = get_python_version(&info, &process)?;
        let found =
            PythonProcessLayout::new(&info, &process, &version, &py_spy::Config::default())?;
        Ok(of(Roots::Interpreter(found.interpreter_address as u64)))
    };
    find().map_err(|error: Box<dyn std::error::Error + Send + Sync>| unreadable(error.to_string()))
}
