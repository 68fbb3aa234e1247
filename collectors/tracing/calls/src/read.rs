//! Reads a recording, of a process that runs or of one that has ended in whatever way. Nothing in the file is trusted.
//!
//! It is read as a file, not mapped: no other process can take the memory away meanwhile, and there is nothing unsafe here.

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::FileExt;

use crate::calls::{About, Calls, Cost, Function, Kind, Node, Thread};
use crate::clock::{monotonic_ns, tick_ns, ticks};
use crate::error::FormatError;
use crate::format::{
    self, COMMAND_BYTES, FUNCTION_WORDS, HEADER_BYTES, Header, MAX_THREADS, NodeRecord,
    PATTERN_BYTES, PYTHON_BYTES, Parts, REFUSAL_BYTES, ROOT, THREAD_NAME_BYTES, ThreadRecord,
    function_record, state,
};

/// How much is read at once.
const CHUNK: usize = 256 * 1024;

/// Reads what has been recorded, up to the last event of any thread, or to the end where it was ended.
///
/// # Errors
///
/// [`FormatError`]
pub fn read(file: &File) -> Result<Calls, FormatError> {
    read_up_to(file, None)
}

/// The same up to a moment, in nanoseconds since 1970: now for a process that runs, its end for one that was killed. What ran at its last event is taken to have run
/// until then. A recording that the agent has ended is read up to that end.
///
/// # Errors
///
/// [`FormatError`]
pub fn read_until(file: &File, unix_ns: u64) -> Result<Calls, FormatError> {
    read_up_to(file, Some(unix_ns))
}

fn read_up_to(file: &File, unix_ns: Option<u64>) -> Result<Calls, FormatError> {
    let head = Head::read(file)?;
    let functions = read_functions(file, &head)?;
    // The threads first: a node that is on a thread's record by now is in the table of nodes by then.
    let mut threads = read_threads(file, &head)?;
    let last = threads
        .iter()
        .map(|thread| thread.last_ticks)
        .max()
        .unwrap_or(0)
        .max(head.started_ticks);
    let until = match (head.ended_ticks, unix_ns) {
        (0, None) => last,
        (0, Some(unix_ns)) => head.ticks_at(unix_ns).max(last),
        (ended, _) => ended.max(last),
    };
    for thread in &mut threads {
        if thread.current != thread.record.root && !thread.ended {
            thread.runs_for = until.saturating_sub(thread.last_ticks);
        }
    }
    let mut nodes = read_nodes(file, &head, functions.len(), &threads)?;
    nodes.own_to_ns(&head.scale);
    let folded = head.folded;
    let threads = threads
        .into_iter()
        .filter_map(|thread| {
            let root = nodes
                .index(thread.record.root)
                .filter(|&root| nodes.all[root as usize].parent.is_none())?;
            Some(Thread {
                root,
                ..thread.record
            })
        })
        .collect();
    Ok(Calls {
        about: About {
            pid: head.pid,
            python: head.python,
            command: head.command,
            started_unix_ns: head.started_unix_ns,
            elapsed_ns: head.scale.ns(until.saturating_sub(head.started_ticks)),
            cost: head.cost,
            folded,
            ended: head.ended_ticks != 0,
        },
        functions,
        threads,
        nodes: nodes.all,
    })
}

/// How long a tick is, in nanoseconds / 2^32.
#[derive(Debug, Clone, Copy)]
struct Scale(u64);

impl Scale {
    fn ns(&self, ticks: u64) -> u64 {
        u64::try_from((u128::from(ticks) * u128::from(self.0)) >> 32).unwrap_or(u64::MAX)
    }

    fn ticks(&self, ns: u64) -> u64 {
        u64::try_from((u128::from(ns) << 32) / u128::from(self.0.max(1))).unwrap_or(u64::MAX)
    }

    /// A longer span says it better: from the start of the recording to now, if that is what the file's own clock says too (within a
    /// hundredth: more would be another boot, or a recording of another machine).
    fn refined(self, calibrated_ns: u64, started_ns: u64, started_ticks: u64) -> Scale {
        let (now_ns, now_ticks) = (monotonic_ns(), ticks());
        match (
            now_ns.checked_sub(started_ns),
            now_ticks.checked_sub(started_ticks),
        ) {
            (Some(ns), Some(ticks)) if ns > calibrated_ns && ticks > 0 => {
                let longer = Scale(tick_ns(ns, ticks));
                if self.ns(ticks).abs_diff(ns) <= ns / 100 {
                    longer
                } else {
                    self
                }
            }
            _ => self,
        }
    }
}

/// The head of the file.
struct Head {
    parts: Parts,
    pid: u32,
    python: String,
    command: String,
    started_unix_ns: u64,
    started_ticks: u64,
    ended_ticks: u64,
    scale: Scale,
    cost: Cost,
    folded: u64,
    threads: u32,
    nodes: u32,
    heap_words: u32,
}

impl Head {
    fn read(file: &File) -> Result<Head, FormatError> {
        let mut bytes = vec![0; HEADER_BYTES];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(FormatError::NotARecording);
            }
            other => other?,
        }
        let small = |offset| u32_at(&bytes, offset);
        let large = |offset| u64_at(&bytes, offset);
        if large(offset_of!(Header, magic)) != format::MAGIC {
            return Err(FormatError::NotARecording);
        }
        let version = small(offset_of!(Header, version));
        if version != format::VERSION {
            return Err(FormatError::Version {
                found: version,
                known: format::VERSION,
            });
        }
        if small(offset_of!(Header, layout)) != format::layout() {
            return Err(FormatError::Damaged("its records have another size"));
        }
        match small(offset_of!(Header, state)) {
            state::PREPARED => return Err(FormatError::NotStarted),
            state::RECORDING | state::ENDED => {}
            state::REFUSED => {
                let from = offset_of!(Header, refusal);
                return Err(FormatError::Refused(text(
                    &bytes[from..from + REFUSAL_BYTES],
                )));
            }
            _ => return Err(FormatError::Damaged("its state")),
        }
        let parts = Parts {
            node_capacity: small(offset_of!(Header, node_capacity)),
            heap_words: small(offset_of!(Header, heap_capacity)),
        };
        if small(offset_of!(Header, pattern_bytes)) as usize > PATTERN_BYTES
            || file.metadata()?.len() < parts.file_bytes()
        {
            return Err(FormatError::Damaged("it is shorter than it says"));
        }
        let started_ns = large(offset_of!(Header, started_monotonic_ns));
        let started_ticks = large(offset_of!(Header, started_ticks));
        let tick = large(offset_of!(Header, tick_ns));
        // A counter of 1 MHz to 100 GHz: what is outside is no clock.
        if !((1 << 32) / 100..=1000 << 32).contains(&tick) {
            return Err(FormatError::Damaged("its clock"));
        }
        let scale = Scale(tick).refined(
            large(offset_of!(Header, calibrated_ns)),
            started_ns,
            started_ticks,
        );
        let cost = |offset| scale.ns(large(offset));
        let python = offset_of!(Header, python);
        let command = offset_of!(Header, command);
        Ok(Head {
            parts,
            pid: small(offset_of!(Header, pid)),
            python: text(&bytes[python..python + PYTHON_BYTES]),
            command: text(&bytes[command..command + COMMAND_BYTES]),
            started_unix_ns: large(offset_of!(Header, started_unix_ns)),
            started_ticks,
            ended_ticks: large(offset_of!(Header, ended_ticks)),
            scale,
            cost: Cost {
                python_ns: cost(offset_of!(Header, python_cost)),
                python_inside_ns: cost(offset_of!(Header, python_inside)),
                builtin_ns: cost(offset_of!(Header, builtin_cost)),
                builtin_inside_ns: cost(offset_of!(Header, builtin_inside)),
            },
            folded: large(offset_of!(Header, folded)),
            threads: small(offset_of!(Header, threads_used)).min(MAX_THREADS),
            // Both go up to the capacity and beyond: who finds no room has already counted.
            nodes: small(offset_of!(Header, nodes_used)).min(parts.node_capacity),
            heap_words: small(offset_of!(Header, heap_used)).min(parts.heap_words),
        })
    }

    fn ticks_at(&self, unix_ns: u64) -> u64 {
        self.started_ticks.saturating_add(
            self.scale
                .ticks(unix_ns.saturating_sub(self.started_unix_ns)),
        )
    }
}

fn read_functions(file: &File, head: &Head) -> Result<Vec<Function>, FormatError> {
    let mut bytes = vec![0; head.heap_words as usize * 8];
    file.read_exact_at(&mut bytes, head.parts.heap())?;
    let mut functions = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() >= FUNCTION_WORDS * 8 {
        let first = u64_at(rest, 0);
        if first & function_record::COMPLETE == 0 {
            // The agent was killed, or is busy, here.
            break;
        }
        let second = u64_at(rest, 8);
        let lengths = [
            (first >> 31) & 0x7fff_ffff,
            first & 0x7fff_ffff,
            second & 0x7fff_ffff,
        ];
        let mut strings = &rest[FUNCTION_WORDS * 8..];
        let mut take = |length: u64| -> Option<String> {
            let length = usize::try_from(length)
                .ok()
                .filter(|&length| length <= function_record::MAX_STRING)?;
            let (string, behind) = strings.split_at_checked(length)?;
            strings = behind;
            Some(String::from_utf8_lossy(string).into_owned())
        };
        let (Some(file), Some(name), Some(qualified_name)) =
            (take(lengths[0]), take(lengths[1]), take(lengths[2]))
        else {
            return Err(FormatError::Damaged("a function's name"));
        };
        functions.push(Function {
            file,
            name,
            qualified_name,
            first_line: u64_at(rest, 16) as u32,
            kind: if second & function_record::BUILTIN == 0 {
                Kind::Python
            } else {
                Kind::Builtin
            },
        });
        let words = FUNCTION_WORDS + (lengths.iter().sum::<u64>() as usize).div_ceil(8);
        rest = rest.get(words * 8..).unwrap_or(&[]);
    }
    Ok(functions)
}

/// A thread as the file has it: `record.root` is the number of a record yet, not an index.
struct RawThread {
    record: Thread,
    current: u32,
    last_ticks: u64,
    ended: bool,
    /// Ticks since its last event.
    runs_for: u64,
}

fn read_threads(file: &File, head: &Head) -> Result<Vec<RawThread>, FormatError> {
    let mut threads = Vec::new();
    each_record::<{ size_of::<ThreadRecord>() }>(
        file,
        Parts::THREADS,
        head.threads,
        |_, bytes| {
            let root = u32_at(bytes, offset_of!(ThreadRecord, root));
            if root == 0 {
                return;
            }
            let name = offset_of!(ThreadRecord, name);
            threads.push(RawThread {
                record: Thread {
                    native_id: u64_at(bytes, offset_of!(ThreadRecord, native_id)),
                    ident: u64_at(bytes, offset_of!(ThreadRecord, ident)),
                    interpreter: u64_at(bytes, offset_of!(ThreadRecord, interpreter)),
                    name: text(&bytes[name..name + THREAD_NAME_BYTES]),
                    root,
                },
                current: u32_at(bytes, offset_of!(ThreadRecord, current)),
                last_ticks: u64_at(bytes, offset_of!(ThreadRecord, last_ticks)),
                ended: u32_at(bytes, offset_of!(ThreadRecord, ended)) != 0,
                runs_for: 0,
            });
        },
    )?;
    Ok(threads)
}

/// The nodes that are complete, and where each record went.
struct Nodes {
    all: Vec<Node>,
    /// By number of record: index into `all` and one, or 0.
    indices: Vec<u32>,
}

impl Nodes {
    fn index(&self, record: u32) -> Option<u32> {
        self.indices
            .get(record as usize)
            .copied()
            .unwrap_or(0)
            .checked_sub(1)
    }

    /// `own_ns` holds ticks until then.
    fn own_to_ns(&mut self, scale: &Scale) {
        for node in &mut self.all {
            node.own_ns = if node.parent.is_none() {
                0
            } else {
                scale.ns(node.own_ns)
            };
        }
    }
}

fn read_nodes(
    file: &File,
    head: &Head,
    functions: usize,
    threads: &[RawThread],
) -> Result<Nodes, FormatError> {
    let mut nodes = Nodes {
        all: Vec::new(),
        indices: vec![0; head.nodes as usize],
    };
    each_record::<{ size_of::<NodeRecord>() }>(file, Parts::NODES, head.nodes, |number, bytes| {
        let function = u32_at(bytes, offset_of!(NodeRecord, function));
        let parent = u32_at(bytes, offset_of!(NodeRecord, parent));
        let (parent, function) = match function {
            // Not complete, or number 0.
            0 => return,
            ROOT => (None, None),
            // A parent is complete before it has children, and is further in front. One that is not is of a node that came while this was
            // being read, or the file is damaged: either way, who calls it is not known.
            _ if parent >= number || function as usize > functions => return,
            _ => match nodes.index(parent) {
                Some(parent) => (Some(parent), Some(function - 1)),
                None => return,
            },
        };
        let calls = u64_at(bytes, offset_of!(NodeRecord, calls));
        if let Some(parent) = parent {
            let out = &mut nodes.all[parent as usize].calls_out;
            *out = out.saturating_add(calls);
        }
        nodes.all.push(Node {
            parent,
            function,
            calls,
            own_ns: u64_at(bytes, offset_of!(NodeRecord, own_ticks)),
            calls_out: u64_at(bytes, offset_of!(NodeRecord, folded)),
        });
        nodes.indices[number as usize] = nodes.all.len() as u32;
    })?;
    for thread in threads {
        if let Some(index) = nodes.index(thread.current) {
            let own = &mut nodes.all[index as usize].own_ns;
            *own = own.saturating_add(thread.runs_for);
        }
    }
    Ok(nodes)
}

/// Hands over the first `count` records of `SIZE` bytes of a table, with their numbers.
fn each_record<const SIZE: usize>(
    file: &File,
    from: u64,
    count: u32,
    mut with: impl FnMut(u32, &[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let at_once = CHUNK / SIZE;
    let mut number = 0;
    while number < count {
        let records = at_once.min((count - number) as usize);
        let bytes = &mut buffer[..records * SIZE];
        file.read_exact_at(bytes, from + u64::from(number) * SIZE as u64)?;
        for record in bytes.chunks_exact(SIZE) {
            with(number, record);
            number += 1;
        }
    }
    Ok(())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .map_or(0, u64::from_ne_bytes)
}

/// A text that is filled up with zeroes.
fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
