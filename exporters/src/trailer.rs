//! pystrobe's own part of a pstats file: the whole profile, behind the table.
//!
//! ```text
//! "pystrobe<" payload length:u64 version:u32 ">pystrobe"     (numbers little-endian)
//! ```
//!
//! The payload is JSON in columns, compressed with zstd, whose checksum guards it. Both marks
//! are there so that a file that was cut short is told from one of another tool. Versions only
//! ever get added: a newer pystrobe reads every older one.

use std::borrow::Cow;
use std::io::{self, BufReader, Read, Write};

use pystrobe_profile::{
    Batch, BatchError, Builder, Counters, Frame, Function, FunctionId, Node, NodeId, Observation,
    Process, Profile, Recording, Thread, ThreadId,
};
use serde::{Deserialize, Serialize};

const START: &[u8; 9] = b"pystrobe<";
const END: &[u8; 9] = b">pystrobe";

/// The version that is written.
const VERSION: u32 = 1;

/// The most that a payload may unpack to. A node takes about 12 bytes.
const MAX_UNPACKED: u64 = 1 << 30;

/// zstd's own default; higher levels gain little on numbers.
const COMPRESSION_LEVEL: i32 = 3;

/// Why a trailer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrailerError {
    #[error("pystrobe's part of the file is cut short or damaged")]
    Damaged,
    #[error("pystrobe's part of the file is damaged: {0}")]
    Payload(#[from] io::Error),
    #[error("pystrobe's part of the file is damaged: {0}")]
    Json(#[from] serde_json::Error),
    #[error("pystrobe's part of the file is damaged: {0}")]
    Reference(#[from] BatchError),
    #[error(
        "pystrobe's part of the file was written by a newer pystrobe (version {0}, this one knows {VERSION})"
    )]
    Version(u32),
}

/// Writes the trailer.
pub(crate) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(START)?;
    let mut counted = Counted { out, len: 0 };
    let mut encoder = zstd::Encoder::new(&mut counted, COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    let mut buffered = io::BufWriter::new(encoder);
    serde_json::to_writer(&mut buffered, &Content::of(profile)).map_err(io::Error::from)?;
    buffered.into_inner().map_err(io::Error::from)?.finish()?;
    let len = counted.len;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(END)
}

/// Counts what goes through.
struct Counted<'w> {
    out: &'w mut dyn Write,
    len: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads what follows the table: a profile, or nothing when there is nothing of ours.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Profile>, TrailerError> {
    let (starts, ends) = (bytes.starts_with(START), bytes.ends_with(END));
    if !starts && !ends {
        return Ok(None);
    }
    let inner = bytes
        .get(START.len()..bytes.len() - END.len())
        .filter(|_| starts && ends)
        .ok_or(TrailerError::Damaged)?;
    let (payload, version) = inner.split_last_chunk().ok_or(TrailerError::Damaged)?;
    let (payload, len) = payload.split_last_chunk().ok_or(TrailerError::Damaged)?;
    match u32::from_le_bytes(*version) {
        1 => {}
        version => return Err(TrailerError::Version(version)),
    }
    if u64::from_le_bytes(*len) != payload.len() as u64 {
        return Err(TrailerError::Damaged);
    }
    unpack(payload, MAX_UNPACKED)?.into_profile().map(Some)
}

/// The payload, of which no more than so many bytes are unpacked.
fn unpack(payload: &[u8], limit: u64) -> Result<Content<'static>, TrailerError> {
    let mut decoder = zstd::Decoder::with_buffer(payload)?.single_frame();
    let mut unpacked = (&mut decoder).take(limit + 1);
    let content = serde_json::from_reader(BufReader::new(&mut unpacked))?;
    if unpacked.limit() == 0 {
        return Err(TrailerError::Damaged);
    }
    // With another frame header, zstd could take the checksum for something that follows.
    if !decoder.finish().is_empty() {
        return Err(TrailerError::Damaged);
    }
    Ok(content)
}

/// The payload of version 1. Columns of one table are equally long; an entry's position is its id.
#[derive(Serialize, Deserialize)]
struct Content<'p> {
    recording: RecordingContent<'p>,
    processes: Vec<ProcessContent<'p>>,
    threads: Vec<ThreadContent<'p>>,
    functions: Functions<'p>,
    nodes: Nodes,
}

#[derive(Serialize, Deserialize)]
struct RecordingContent<'p> {
    command: Cow<'p, str>,
    pid: u32,
    python: Cow<'p, str>,
    interval_ns: u64,
    started_unix_ms: u64,
    elapsed_ns: u64,
    collector: Cow<'p, str>,
    taken: u64,
    repaired: u64,
    truncated: u64,
    lost: u64,
    late: u64,
    skipped: u64,
}

#[derive(Serialize, Deserialize)]
struct ProcessContent<'p> {
    pid: u32,
    command: Cow<'p, str>,
    python: Cow<'p, str>,
    /// Where there are several processes; those of the only one are the recording's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counters: Option<CountersContent>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
struct CountersContent {
    taken: u64,
    repaired: u64,
    truncated: u64,
    lost: u64,
    late: u64,
    skipped: u64,
}

#[derive(Serialize, Deserialize)]
struct ThreadContent<'p> {
    process: u32,
    name: Cow<'p, str>,
    native_id: Option<u64>,
    ident: u64,
    interpreter: u64,
}

#[derive(Serialize, Deserialize, Default)]
struct Functions<'p> {
    file: Vec<Cow<'p, str>>,
    first_line: Vec<u32>,
    name: Vec<Cow<'p, str>>,
    qualified_name: Vec<Cow<'p, str>>,
}

#[derive(Serialize, Deserialize, Default)]
struct Nodes {
    /// How many nodes before this one its parent is; 0 for the foot of a thread. Mostly 1, and so
    /// it packs better than the parent's position.
    up: Vec<u32>,
    /// The thread where there is no parent, else the function.
    subject: Vec<u32>,
    line: Vec<u32>,
    nanoseconds: Vec<u64>,
    samples: Vec<u64>,
}

impl<'p> Content<'p> {
    fn of(profile: &'p Profile) -> Self {
        let recording = profile.recording();
        let counters = recording.counters;
        let mut functions = Functions::default();
        for function in profile.functions() {
            functions.file.push(Cow::from(&function.file));
            functions.first_line.push(function.first_line);
            functions.name.push(Cow::from(&function.name));
            let qualified = Cow::from(&function.qualified_name);
            functions.qualified_name.push(qualified);
        }
        let tree = profile.tree();
        let mut nodes = Nodes::default();
        for id in tree.ids() {
            let node = tree.node(id);
            let (subject, line) = match node.frame {
                Frame::Thread(thread) => (thread.0, 0),
                Frame::Call { function, line } => (function.0, line),
            };
            nodes
                .up
                .push(node.parent.map_or(0, |parent| id.0 - parent.0));
            nodes.subject.push(subject);
            nodes.line.push(line);
            let own = tree.own(id);
            nodes.nanoseconds.push(own.nanoseconds);
            nodes.samples.push(own.samples);
        }
        Self {
            recording: RecordingContent {
                command: Cow::from(&recording.command),
                pid: recording.pid,
                python: Cow::from(&recording.python),
                interval_ns: recording.interval_ns,
                started_unix_ms: recording.started_unix_ms,
                elapsed_ns: recording.elapsed_ns,
                collector: Cow::from(&recording.collector),
                taken: counters.taken,
                repaired: counters.repaired,
                truncated: counters.truncated,
                lost: counters.lost,
                late: counters.late,
                skipped: counters.skipped,
            },
            processes: processes(profile),
            threads: profile.threads().iter().map(ThreadContent::of).collect(),
            functions,
            nodes,
        }
    }

    /// The profile, as [`Builder`] takes it: whatever refers to nothing is an error.
    fn into_profile(self) -> Result<Profile, TrailerError> {
        let recording = self.recording;
        let mut batch = Batch {
            functions: self.functions.into_functions()?,
            threads: self.threads.into_iter().map(Thread::from).collect(),
            counters: Counters {
                taken: recording.taken,
                repaired: recording.repaired,
                truncated: recording.truncated,
                lost: recording.lost,
                late: recording.late,
                skipped: recording.skipped,
            },
            elapsed: recording.elapsed_ns,
            ..Batch::default()
        };
        self.nodes.put_into(&mut batch)?;
        let counters: Vec<_> = self.processes.iter().map(|one| one.counters).collect();
        let mut builder = Builder::new(self.processes.into_iter().map(Process::from).collect());
        builder.apply(&batch)?;
        for (process, counters) in counters.into_iter().enumerate() {
            if let Some(counters) = counters {
                builder.count(process, counters.into());
            }
        }
        Ok(builder.finish(Recording {
            command: recording.command.into_owned(),
            pid: recording.pid,
            python: recording.python.into_owned(),
            interval_ns: recording.interval_ns,
            started_unix_ms: recording.started_unix_ms,
            elapsed_ns: recording.elapsed_ns,
            counters: batch.counters,
            collector: recording.collector.into_owned(),
        }))
    }
}

fn processes(profile: &Profile) -> Vec<ProcessContent<'_>> {
    let several = profile.processes().len() > 1;
    let each = profile.processes().iter().zip(profile.process_counters());
    each.map(|(process, counters)| ProcessContent {
        pid: process.pid,
        command: Cow::from(&process.command),
        python: Cow::from(&process.python),
        counters: several.then(|| CountersContent::from(*counters)),
    })
    .collect()
}

impl From<Counters> for CountersContent {
    fn from(counters: Counters) -> Self {
        Self {
            taken: counters.taken,
            repaired: counters.repaired,
            truncated: counters.truncated,
            lost: counters.lost,
            late: counters.late,
            skipped: counters.skipped,
        }
    }
}

impl From<CountersContent> for Counters {
    fn from(counters: CountersContent) -> Self {
        Self {
            taken: counters.taken,
            repaired: counters.repaired,
            truncated: counters.truncated,
            lost: counters.lost,
            late: counters.late,
            skipped: counters.skipped,
        }
    }
}

impl From<ProcessContent<'_>> for Process {
    fn from(process: ProcessContent<'_>) -> Self {
        Self {
            pid: process.pid,
            command: process.command.into_owned(),
            python: process.python.into_owned(),
        }
    }
}

impl<'p> ThreadContent<'p> {
    fn of(thread: &'p Thread) -> Self {
        Self {
            process: thread.process,
            name: Cow::from(&thread.name),
            native_id: thread.native_id,
            ident: thread.ident,
            interpreter: thread.interpreter,
        }
    }
}

impl From<ThreadContent<'_>> for Thread {
    fn from(thread: ThreadContent<'_>) -> Self {
        Self {
            process: thread.process,
            name: thread.name.into_owned(),
            native_id: thread.native_id,
            ident: thread.ident,
            interpreter: thread.interpreter,
        }
    }
}

impl Functions<'_> {
    fn into_functions(self) -> Result<Vec<Function>, TrailerError> {
        let len = self.file.len();
        let lens = [
            self.first_line.len(),
            self.name.len(),
            self.qualified_name.len(),
        ];
        if lens.iter().any(|&other| other != len) {
            return Err(TrailerError::Damaged);
        }
        let names = self.name.into_iter().zip(self.qualified_name);
        let places = self.file.into_iter().zip(self.first_line);
        Ok(places
            .zip(names)
            .map(|((file, first_line), (name, qualified_name))| Function {
                file: file.into_owned(),
                first_line,
                name: name.into_owned(),
                qualified_name: qualified_name.into_owned(),
            })
            .collect())
    }
}

impl Nodes {
    fn put_into(self, batch: &mut Batch) -> Result<(), TrailerError> {
        let len = self.up.len();
        let lens = [
            self.subject.len(),
            self.line.len(),
            self.nanoseconds.len(),
            self.samples.len(),
        ];
        if lens.iter().any(|&other| other != len) {
            return Err(TrailerError::Damaged);
        }
        for index in 0..len {
            let subject = self.subject[index];
            let node = match self.up[index] {
                0 => Node {
                    parent: None,
                    frame: Frame::Thread(ThreadId(subject)),
                },
                up => Node {
                    parent: Some(
                        index
                            .checked_sub(up as usize)
                            .map(NodeId::from_index)
                            .ok_or(TrailerError::Damaged)?,
                    ),
                    frame: Frame::Call {
                        function: FunctionId(subject),
                        line: self.line[index],
                    },
                },
            };
            batch.nodes.push(node);
            let (nanoseconds, samples) = (self.nanoseconds[index], self.samples[index]);
            if nanoseconds != 0 || samples != 0 {
                batch.observations.push(Observation {
                    node: NodeId::from_index(index),
                    nanoseconds,
                    samples,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_unpacks_to_very_much() {
        let profile = Builder::new(Vec::new()).finish(Recording::default());
        let content = Content::of(&profile);
        let mut json = serde_json::to_vec(&content).unwrap();
        json.resize(1 << 20, b' ');
        let packed = zstd::encode_all(&json[..], 3).unwrap();
        assert!(packed.len() < 1000);
        assert!(unpack(&packed, 1 << 20).is_ok());
        json.insert(0, b' ');
        let packed = zstd::encode_all(&json[..], 3).unwrap();
        assert!(matches!(
            unpack(&packed, 1 << 20),
            Err(TrailerError::Damaged)
        ));
        let Err(error) = unpack(&packed, 100) else {
            panic!("read beyond the limit")
        };
        assert!(error.to_string().contains("EOF"), "{error}");
    }
}
