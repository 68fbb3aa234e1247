//! What in a mapped image shows that it is a Python, and where its interpreters are.

use crate::elf::{DataSegment, Image};
use crate::layout::{DEBUG_OFFSETS_SIZE, Layout, LayoutError, Minor, builtin, from_debug_offsets};
use crate::memory::{Fields, ReadError, RemoteMemory};
use crate::version::{TEXT_LENGTH, Version};

/// What `_PyRuntime` starts with from 3.13 on.
const COOKIE: &[u8; 8] = b"xdebugpy";
/// Bytes of an image's data that are searched. That of a Python is less than 2 MiB.
const SEARCH_LIMIT: u64 = 16 << 20;
const SEARCH_CHUNK: u64 = 1 << 20;
/// Interpreters that are looked at for one that has a thread.
const MAX_INTERPRETERS: usize = 1000;

/// Where the lists of interpreters, threads and frames start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// Address of `_PyRuntime`.
    Runtime(u64),
    /// Address of a `PyInterpreterState`, where `_PyRuntime` itself was not found.
    Interpreter(u64),
}

/// An image with Python in it, and what it exports.
#[derive(Debug)]
pub(crate) struct PythonImage {
    /// Address of `_PyRuntime`. 3.7 and later.
    runtime: Option<u64>,
    /// Address of `Py_Version`, which holds `PY_VERSION_HEX`. 3.11 and later.
    version: Option<u64>,
    pub(crate) code_type: Option<u64>,
    pub(crate) none: Option<u64>,
    data: Vec<DataSegment>,
}

/// What an image says of the interpreter in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) version: Version,
    pub(crate) support: Support,
}

/// How a version can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Support {
    Layout(Box<Layout>),
    /// 2.7 and 3.3 to 3.7: through the crate `py_spy`.
    Legacy,
    None,
}

impl PythonImage {
    /// The image mapped from `base`, if it exports what a Python does. `None` where it is something else.
    pub(crate) fn exported(
        memory: &impl RemoteMemory,
        base: u64,
    ) -> Result<Option<Self>, ReadError> {
        let image = Image::read(memory, base)?;
        let runtime = image.symbol(memory, "_PyRuntime")?;
        let code_type = image.symbol(memory, "PyCode_Type")?;
        if runtime.is_none() && code_type.is_none() {
            return Ok(None);
        }
        let version = image.symbol(memory, "Py_Version")?;
        let none = image.symbol(memory, "_Py_NoneStruct")?;
        Ok(Some(Self {
            runtime,
            version,
            code_type,
            none,
            data: image.data,
        }))
    }

    /// The image mapped from `base`, if its data show that it is a Python which exports nothing.
    /// Takes milliseconds.
    pub(crate) fn unexported(
        memory: &impl RemoteMemory,
        base: u64,
    ) -> Result<Option<Self>, ReadError> {
        let image = Image::read(memory, base)?;
        let mut python = Self {
            runtime: None,
            version: None,
            code_type: None,
            none: None,
            data: image.data,
        };
        let initialised = python
            .data
            .iter()
            .map(|data| (data.address, data.initialised));
        python.runtime = search(memory, initialised, COOKIE.len(), |address, bytes| {
            // The linker aligns it; the same letters elsewhere are text.
            let found = bytes.chunks_exact(8).position(|word| word == COOKIE)?;
            Some(address + 8 * found as u64)
        })?;
        let found = python.runtime.is_some() || python.version_text(memory)?.is_some();
        Ok(found.then_some(python))
    }

    /// The address of `_PyRuntime`, where it is known.
    pub(crate) fn runtime(&self) -> Option<u64> {
        self.runtime
    }

    /// Which Python it is and how to read it; `None` as long as it does not know itself.
    ///
    /// # Errors
    ///
    /// What `memory` answers, and what is wrong with the offsets that an interpreter publishes.
    pub(crate) fn describe(
        &self,
        memory: &impl RemoteMemory,
    ) -> Result<Option<Description>, DescribeError> {
        if let Some(runtime) = self.runtime
            && memory.read_vec(runtime, COOKIE.len())? == COOKIE
        {
            return published(&memory.read_vec(runtime, DEBUG_OFFSETS_SIZE)?).map(Some);
        }
        let version = match self.version {
            Some(address) => Version::from_hex(memory.read_u64(address)?),
            None => self.version_text(memory)?,
        };
        Ok(version.map(|version| {
            let (major, minor, _) = version.number;
            let support = match (builtin(Minor(major, minor)), major, minor) {
                (Some(layout), ..) => Support::Layout(Box::new(*layout)),
                (None, 2, 7) | (None, 3, 3..=7) => Support::Legacy,
                _ => Support::None,
            };
            Description { version, support }
        }))
    }

    fn version_text(&self, memory: &impl RemoteMemory) -> Result<Option<Version>, ReadError> {
        let zeroed = self
            .data
            .iter()
            .map(|data| (data.address + data.initialised, data.zeroed));
        search(memory, zeroed, TEXT_LENGTH, |_, bytes| Version::find(bytes))
    }
}

/// Why an image could not be described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DescribeError {
    Read(ReadError),
    Layout(LayoutError),
}

impl From<ReadError> for DescribeError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

fn published(offsets: &[u8]) -> Result<Description, DescribeError> {
    let implausible = ReadError::Implausible {
        address: 0,
        expected: "a version of Python",
    };
    let version = offsets
        .u64_at(8)
        .and_then(Version::from_hex)
        .ok_or(implausible)?;
    let support = match from_debug_offsets(offsets) {
        Ok(layout) => Support::Layout(Box::new(layout)),
        Err(LayoutError::UnknownVersion(_)) => Support::None,
        Err(error) => return Err(DescribeError::Layout(error)),
    };
    Ok(Description { version, support })
}

/// Whether there is an interpreter with a thread: a thread state that points back to it. That is not so
/// while Python starts, and any longer when it has ended.
pub(crate) fn has_thread(
    memory: &impl RemoteMemory,
    layout: &Layout,
    roots: Roots,
) -> Result<bool, ReadError> {
    let field = |address: u64, offset: u64| memory.read_u64(address.wrapping_add(offset));
    let mut interpreter = match roots {
        Roots::Runtime(runtime) => field(runtime, layout.runtime.interpreters_head)?,
        Roots::Interpreter(interpreter) => interpreter,
    };
    for _ in 0..MAX_INTERPRETERS {
        if interpreter == 0 {
            return Ok(false);
        }
        let thread = field(interpreter, layout.interpreter.threads_head)?;
        if thread != 0 && field(thread, layout.thread.interpreter)? == interpreter {
            return Ok(true);
        }
        interpreter = field(interpreter, layout.interpreter.next)?;
    }
    Ok(false)
}

/// Shows `find` the memory of `ranges` (address, length) in pieces that overlap by `overlap` bytes and
/// start at multiples of 8 from the start of a range, until it finds something.
pub(crate) fn search<T>(
    memory: &impl RemoteMemory,
    ranges: impl Iterator<Item = (u64, u64)>,
    overlap: usize,
    mut find: impl FnMut(u64, &[u8]) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    for (address, length) in ranges {
        let end = address.saturating_add(length.min(SEARCH_LIMIT));
        let mut start = address.checked_next_multiple_of(8).unwrap_or(end);
        while start < end {
            let behind = start.saturating_add(SEARCH_CHUNK + overlap as u64).min(end);
            let length = usize::try_from(behind - start).unwrap_or(0);
            match memory.read_vec(start, length) {
                Ok(bytes) => {
                    if let Some(found) = find(start, &bytes) {
                        return Ok(Some(found));
                    }
                }
                // A part that the program has unmapped.
                Err(ReadError::Fault(_)) => {}
                Err(error) => return Err(error),
            }
            start += SEARCH_CHUNK;
        }
    }
    Ok(None)
}
