//! What the profiler asks of the agent. It travels in the head of the shared file, so that the program's environment says nothing of it.

use std::fmt;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;

use crate::format::{self, Header, PATTERN_BYTES, Parts, flag};
use crate::pattern::Pattern;

/// What the profiler asks of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// C functions are recorded as well.
    pub builtins: bool,
    /// Child processes are recorded, each in a file of its own beside this one.
    pub subprocesses: bool,
    /// How many nodes there may be; calls beyond are folded into their parent's node. A node takes 64 bytes of the file, and 8 to 32 in the traced process.
    pub node_limit: u32,
    /// Only functions that one of these matches are recorded; empty for all. C functions are then recorded where one of those calls them.
    pub only: Vec<Pattern>,
}

impl Options {
    /// The default limit: 256 MiB of nodes, 8 MiB of threads, 64 MiB for the names of functions and at most 144 MiB to find a node by its parent: under 512 MB in all.
    pub const NODE_LIMIT: u32 = 4 * 1024 * 1024;

    /// Makes a file, which has to be empty, the place of a recording. It is sparse: it takes what is used of it.
    ///
    /// # Errors
    ///
    /// [`OptionsError::TooManyPatterns`], or that the file cannot be written.
    pub fn write_to(&self, file: &File) -> Result<(), OptionsError> {
        let patterns = self
            .only
            .iter()
            .map(Pattern::text)
            .collect::<Vec<_>>()
            .join("\n");
        if patterns.len() > PATTERN_BYTES {
            return Err(OptionsError::TooManyPatterns);
        }
        let parts = self.parts();
        file.set_len(parts.file_bytes())?;
        let mut flags = 0;
        if self.builtins {
            flags |= flag::BUILTINS;
        }
        if self.subprocesses {
            flags |= flag::SUBPROCESSES;
        }
        let put = |offset: usize, word: u32| file.write_all_at(&word.to_ne_bytes(), offset as u64);
        put(offset_of!(Header, version), format::VERSION)?;
        put(offset_of!(Header, layout), format::layout())?;
        put(offset_of!(Header, state), format::state::PREPARED)?;
        put(offset_of!(Header, flags), flags)?;
        put(offset_of!(Header, node_capacity), parts.node_capacity)?;
        put(offset_of!(Header, heap_capacity), parts.heap_words)?;
        put(offset_of!(Header, pattern_bytes), patterns.len() as u32)?;
        // Number 0 is nobody's.
        put(offset_of!(Header, nodes_used), 1)?;
        file.write_all_at(patterns.as_bytes(), offset_of!(Header, patterns) as u64)?;
        file.write_all_at(
            &format::MAGIC.to_ne_bytes(),
            offset_of!(Header, magic) as u64,
        )?;
        Ok(())
    }

    /// What [`Options::write_to`] wrote.
    pub(crate) fn of(header: &Header) -> Options {
        let flags = header.flags.load(Relaxed);
        let length = (header.pattern_bytes.load(Relaxed) as usize).min(PATTERN_BYTES);
        let bytes: Vec<u8> = header.patterns[..length]
            .iter()
            .map(|byte| byte.load(Relaxed))
            .collect();
        Options {
            builtins: flags & flag::BUILTINS != 0,
            subprocesses: flags & flag::SUBPROCESSES != 0,
            node_limit: header.node_capacity.load(Relaxed),
            only: String::from_utf8_lossy(&bytes)
                .lines()
                .filter_map(|line| Pattern::parse(line).ok())
                .collect(),
        }
    }

    fn parts(&self) -> Parts {
        // 16 bytes a node for names: there are far fewer functions than nodes where there are many nodes.
        let nodes = self.node_limit.clamp(1024, 1 << 27);
        Parts {
            node_capacity: nodes,
            heap_words: (nodes * 2).clamp(if cfg!(miri) { 1 << 11 } else { 1 << 17 }, 1 << 23),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            builtins: true,
            subprocesses: false,
            node_limit: Options::NODE_LIMIT,
            only: Vec::new(),
        }
    }
}

/// Why a recording cannot be prepared.
#[derive(Debug)]
#[non_exhaustive]
pub enum OptionsError {
    /// The patterns take more than 12 KiB.
    TooManyPatterns,
    /// The file cannot be written.
    Io(io::Error),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionsError::TooManyPatterns => {
                write!(f, "the patterns take more than {PATTERN_BYTES} bytes")
            }
            OptionsError::Io(error) => write!(f, "cannot prepare the recording: {error}"),
        }
    }
}

impl std::error::Error for OptionsError {}

impl From<io::Error> for OptionsError {
    fn from(error: io::Error) -> Self {
        OptionsError::Io(error)
    }
}
