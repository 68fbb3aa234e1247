//! A recording as the agent has it: the mapped file, its clock, its functions, and room for nodes and threads.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::calls::{Function, Kind};
use crate::clock::{monotonic_ns, tick_ns, ticks, unix_ns};
use crate::format::{
    self, COMMAND_BYTES, FUNCTION_WORDS, Header, NodeRecord, PATTERN_BYTES, PYTHON_BYTES, Parts,
    REFUSAL_BYTES, THREAD_NAME_BYTES, ThreadRecord, function_record, state,
};
use crate::mapping::Mapping;
use crate::options::{Options, OptionsError};

/// Nodes for which memory is asked for at once: 256 KiB.
const NODES_AT_ONCE: u32 = 4096;
/// Words of the heap for which memory is asked for at once: 64 KiB.
const WORDS_AT_ONCE: usize = 8192;

/// The number of a function of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub(crate) u32);

impl FunctionId {
    /// The number, from 0 on.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The function with a number that [`FunctionId::number`] gave.
    #[must_use]
    pub fn from_number(number: u32) -> FunctionId {
        FunctionId(number)
    }
}

/// A recording that is being made.
pub struct Recording {
    pub(crate) map: Mapping,
    room: Mutex<Room>,
}

/// What is taken of the tables, and how much of them has memory behind it. Taken for each new node, function or thread, never for a call.
struct Room {
    nodes_backed: u32,
    words_backed: usize,
    functions: u32,
    full: bool,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("pid", &self.map.header().pid)
            .finish_non_exhaustive()
    }
}

/// Why the agent cannot record into a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// It cannot be opened, or mapped.
    Io(io::Error),
    /// It is not a recording, or one of another version.
    NotARecording,
    /// Something was recorded there before.
    Used,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(error) => write!(f, "cannot open the recording: {error}"),
            OpenError::NotARecording => f.write_str("the file is not a recording of this version"),
            OpenError::Used => f.write_str("the file already holds a recording"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        OpenError::Io(error)
    }
}

impl Recording {
    /// Opens the file that the profiler has made, and maps it. The descriptor is closed again: a program that closes descriptors that it does not know cannot hurt it.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn open(path: &Path) -> Result<Recording, OpenError> {
        Recording::of(&OpenOptions::new().read(true).write(true).open(path)?)
    }

    /// A new file with the same options, for a child process that will record for itself.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn open_for_child(&self, path: &Path) -> Result<Recording, OpenError> {
        Recording::create(&self.options(), path)
    }

    /// A new file with the options of another, which holds the recording of another process.
    ///
    /// # Errors
    ///
    /// [`OpenError`]
    pub fn open_like(other: &Path, path: &Path) -> Result<Recording, OpenError> {
        let file = OpenOptions::new().read(true).write(true).open(other)?;
        let (parts, _) = Recording::check(&file)?;
        Recording::create(&Options::of(Mapping::new(&file, parts)?.header()), path)
    }

    /// A small one that no file shows, to try things with.
    ///
    /// # Errors
    ///
    /// [`OpenError::Io`]
    pub fn scratch() -> Result<Recording, OpenError> {
        let parts = Parts {
            node_capacity: 1 << 14,
            heap_words: 1 << 17,
        };
        let recording = Recording::with(Mapping::anonymous(parts)?);
        // Number 0 is nobody's.
        recording.map.header().nodes_used.store(1, Relaxed);
        Ok(recording)
    }

    /// The own time of a function so far, in all that calls it. Looks at every node.
    #[must_use]
    pub fn own_ticks(&self, function: FunctionId) -> u64 {
        let used = self.map.header().nodes_used.load(Relaxed) as usize;
        let of_function = self
            .map
            .nodes()
            .iter()
            .take(used)
            .filter(|node| node.function.load(Relaxed) == function.0 + 1);
        of_function.map(|node| node.own_ticks.load(Relaxed)).sum()
    }

    fn create(options: &Options, path: &Path) -> Result<Recording, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        match options.write_to(&file) {
            Ok(()) => Recording::of(&file),
            Err(OptionsError::Io(error)) => Err(OpenError::Io(error)),
            Err(OptionsError::TooManyPatterns) => Err(OpenError::NotARecording),
        }
    }

    /// The parts of a file and the state of its recording, if it is one.
    fn check(file: &File) -> Result<(Parts, u32), OpenError> {
        let mut bytes = [0; offset_of!(Header, python)];
        file.read_exact_at(&mut bytes, 0)?;
        let word = |offset: usize| {
            bytes[offset..]
                .first_chunk()
                .copied()
                .map_or(0, u32::from_ne_bytes)
        };
        if bytes[..8] != format::MAGIC.to_ne_bytes()
            || word(offset_of!(Header, version)) != format::VERSION
            || word(offset_of!(Header, layout)) != format::layout()
            || word(offset_of!(Header, pattern_bytes)) as usize > PATTERN_BYTES
        {
            return Err(OpenError::NotARecording);
        }
        let parts = Parts {
            node_capacity: word(offset_of!(Header, node_capacity)),
            heap_words: word(offset_of!(Header, heap_capacity)),
        };
        Ok((parts, word(offset_of!(Header, state))))
    }

    pub(crate) fn of(file: &File) -> Result<Recording, OpenError> {
        let (parts, state) = Recording::check(file)?;
        if state != state::PREPARED {
            return Err(OpenError::Used);
        }
        Ok(Recording::with(Mapping::new(file, parts)?))
    }

    fn with(map: Mapping) -> Recording {
        let room = Room {
            nodes_backed: 0,
            words_backed: 0,
            functions: 0,
            full: false,
        };
        Recording {
            map,
            room: Mutex::new(room),
        }
    }

    /// What the profiler asks for.
    #[must_use]
    pub fn options(&self) -> Options {
        Options::of(self.map.header())
    }

    /// Says that nothing will be recorded, and why in a few words.
    pub fn refuse(&self, why: &str) {
        let header = self.map.header();
        put_text(&header.refusal[..REFUSAL_BYTES - 1], why);
        header.state.store(state::REFUSED, Release);
    }

    /// The recording begins: what `python` (as `3.12.1`) of process `pid`, which was started by `command`, does from now on. Of a command line
    /// of more than 2047 bytes the beginning is kept.
    pub fn begin(&self, python: &str, pid: u32, command: &str) {
        let header = self.map.header();
        put_text(&header.python[..PYTHON_BYTES - 1], python);
        put_text(&header.command[..COMMAND_BYTES - 1], command);
        header.pid.store(pid, Relaxed);
        // A first measure of the clock, to a ten-thousandth; `calibrate` has better ones later.
        let (from_ns, from_ticks) = (monotonic_ns(), ticks());
        let mut now_ns = monotonic_ns();
        while now_ns.saturating_sub(from_ns) < 500_000 {
            now_ns = monotonic_ns();
        }
        let now_ticks = ticks();
        header.tick_ns.store(
            tick_ns(now_ns - from_ns, now_ticks.saturating_sub(from_ticks)),
            Relaxed,
        );
        header.calibrated_ns.store(now_ns - from_ns, Relaxed);
        self.reserve();
        self.restart();
        header.state.store(state::RECORDING, Release);
    }

    /// Asks for the first memory of each table: on a disk that takes milliseconds, and they need not be the program's.
    fn reserve(&self) {
        let (threads, nodes, heap) = (self.map.threads(), self.map.nodes(), self.map.heap());
        let mut room = self.room();
        if self.map.populate(&threads[..1])
            && self
                .map
                .populate(&nodes[..nodes.len().min(NODES_AT_ONCE as usize)])
        {
            room.nodes_backed = NODES_AT_ONCE.min(nodes.len() as u32);
        }
        if self.map.populate(&heap[..heap.len().min(WORDS_AT_ONCE)]) {
            room.words_backed = WORDS_AT_ONCE.min(heap.len());
        }
    }

    /// Moves the start of the recording to now: what came before was only the way there.
    pub fn restart(&self) {
        let header = self.map.header();
        header.started_unix_ns.store(unix_ns(), Relaxed);
        header.started_monotonic_ns.store(monotonic_ns(), Relaxed);
        header.started_ticks.store(ticks(), Relaxed);
    }

    /// Says what a call costs because it is recorded, in ticks: a Python function's, the part of it within the function's own time, and the same for a C function.
    pub fn set_cost(&self, python: (u64, u64), builtin: (u64, u64)) {
        let header = self.map.header();
        header.python_cost.store(python.0, Relaxed);
        header.python_inside.store(python.1, Relaxed);
        header.builtin_cost.store(builtin.0, Relaxed);
        header.builtin_inside.store(builtin.1, Relaxed);
    }

    /// The recording has ended.
    pub fn end(&self) {
        self.calibrate(ticks());
        let header = self.map.header();
        header.ended_ticks.store(ticks(), Relaxed);
        header.state.store(state::ENDED, Release);
    }

    /// Measures the clock again if the recording is now twice as long as when that was done last.
    pub(crate) fn calibrate(&self, now: u64) {
        let header = self.map.header();
        let since = now.saturating_sub(header.started_ticks.load(Relaxed));
        let tick = header.tick_ns.load(Relaxed);
        let measured = header.calibrated_ns.load(Relaxed);
        if (u128::from(since) * u128::from(tick)) >> 32 < u128::from(measured) * 2 {
            return;
        }
        let ns = monotonic_ns().saturating_sub(header.started_monotonic_ns.load(Relaxed));
        let span = ticks().saturating_sub(header.started_ticks.load(Relaxed));
        if ns > measured && span > 0 {
            header.tick_ns.store(tick_ns(ns, span), Relaxed);
            header.calibrated_ns.store(ns, Relaxed);
        }
    }

    /// Writes down a function. Who asks twice gets two.
    ///
    /// `None` when there is no room for more.
    pub fn add_function(&self, function: &Function) -> Option<FunctionId> {
        let strings = [&function.file, &function.name, &function.qualified_name]
            .map(|text| cut(text, function_record::MAX_STRING));
        let lengths = strings.map(|text| text.len() as u64);
        let words = FUNCTION_WORDS + (lengths.iter().sum::<u64>() as usize).div_ceil(8);
        let header = self.map.header();
        let mut room = self.room();
        let from = header.heap_used.load(Relaxed) as usize;
        let record = self.map.heap().get(from..from + words)?;
        if from + words > room.words_backed {
            let more = self
                .map
                .heap()
                .len()
                .min((from + words).next_multiple_of(WORDS_AT_ONCE));
            if !self.map.populate(&self.map.heap()[room.words_backed..more]) {
                return None;
            }
            room.words_backed = more;
        }
        let kind = match function.kind {
            Kind::Python => 0,
            Kind::Builtin => function_record::BUILTIN,
        };
        record[1].store(lengths[2] | kind, Relaxed);
        record[2].store(u64::from(function.first_line), Relaxed);
        let text = strings.concat();
        for (word, bytes) in record[FUNCTION_WORDS..]
            .iter()
            .zip(text.as_bytes().chunks(8))
        {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(eight), Relaxed);
        }
        header.heap_used.store((from + words) as u32, Release);
        record[0].store(
            function_record::COMPLETE | lengths[0] << 31 | lengths[1],
            Release,
        );
        let id = FunctionId(room.functions);
        room.functions += 1;
        Some(id)
    }

    /// The number and the place of a new node, not complete; `None` when there is no room for more.
    pub(crate) fn add_node(&self) -> Option<(u32, &NodeRecord)> {
        let header = self.map.header();
        let mut room = self.room();
        let number = header.nodes_used.load(Relaxed);
        if number >= room.nodes_backed && !room.full {
            let nodes = self.map.nodes();
            let more = nodes.len().min((number + NODES_AT_ONCE) as usize);
            if (number as usize) < more && self.map.populate(&nodes[number as usize..more]) {
                room.nodes_backed = more as u32;
            } else {
                room.full = true;
            }
        }
        if room.full && number >= room.nodes_backed {
            return None;
        }
        let record = self.map.nodes().get(number as usize)?;
        header.nodes_used.store(number + 1, Release);
        Some((number, record))
    }

    /// The number and the place of a new thread, not complete.
    pub(crate) fn add_thread(&self) -> Option<(u32, &ThreadRecord)> {
        let header = self.map.header();
        let number = header.threads_used.fetch_add(1, AcqRel);
        let record = self.map.threads().get(number as usize);
        match record {
            Some(record) if self.map.populate(std::slice::from_ref(record)) => {
                Some((number, record))
            }
            _ => {
                header.threads_used.fetch_sub(1, AcqRel);
                None
            }
        }
    }

    pub(crate) fn fold(&self) {
        self.map.header().folded.fetch_add(1, Relaxed);
    }

    /// Calls that were folded so far.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.map.header().folded.load(Acquire)
    }

    /// A panic while it was locked is impossible to see: nothing that holds it can panic, and the process would end.
    fn room(&self) -> std::sync::MutexGuard<'_, Room> {
        self.room
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Puts a text where there is room for it, cut at a character if need be, and a zero behind it where there is room for that.
pub(crate) fn put_text(room: &[AtomicU8], text: &str) {
    let text = cut(text, room.len());
    for (byte, &value) in room.iter().zip(text.as_bytes()) {
        byte.store(value, Relaxed);
    }
    if let Some(end) = room.get(text.len()) {
        end.store(0, Relaxed);
    }
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

const _: () = assert!(THREAD_NAME_BYTES < REFUSAL_BYTES);
