//! What a trailer says: the profile in columns, as JSON.

use std::borrow::Cow;

use pystrobe_profile::{
    Batch, Builder, Clock, Clocks, Counted, Counters, Frame, Function, FunctionId, Measured, Node,
    NodeId, Observation, Process, Profile, Recording, Seen, Thread, ThreadId,
};
use serde::{Deserialize, Serialize};

use super::TrailerError;

/// The payload. Columns of one table are equally long; an entry's position is its id.
#[derive(Serialize, Deserialize)]
pub(super) struct Content<'p> {
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
    /// What the nodes' samples are.
    #[serde(default = "samples")]
    counted: Cow<'p, str>,
    taken: u64,
    repaired: u64,
    truncated: u64,
    lost: u64,
    late: u64,
    skipped: u64,
    /// The clock that the table shows.
    #[serde(default = "wall")]
    clock: Cow<'p, str>,
}

fn samples() -> Cow<'static, str> {
    Cow::from(Counted::Samples.name())
}

fn wall() -> Cow<'static, str> {
    Cow::from(Clock::Wall.name())
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu: Option<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gil: Option<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gil_wait: Option<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exception: Option<Column>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waiting: Option<Column>,
}

/// What was measured beside wall time; missing where it was not.
#[derive(Serialize, Deserialize)]
struct Column {
    nanoseconds: Vec<u64>,
    samples: Vec<u64>,
}

/// Which number of a node's a column holds.
type Number = fn(&mut Clocks) -> &mut u64;

impl Column {
    fn of(profile: &Profile, is_measured: bool, number: fn(Clocks) -> u64) -> Option<Self> {
        let tree = profile.tree();
        let seen = || tree.ids().map(|id| tree.seen(id));
        is_measured.then(|| Self {
            nanoseconds: seen().map(|seen| number(seen.nanoseconds)).collect(),
            samples: seen().map(|seen| number(seen.samples)).collect(),
        })
    }

    /// Adds what the column says to what was seen at each node.
    fn put_into(self, seen: &mut [Seen], number: Number) -> Result<(), TrailerError> {
        if self.nanoseconds.len() != seen.len() || self.samples.len() != seen.len() {
            return Err(TrailerError::Damaged);
        }
        let numbers = self.nanoseconds.into_iter().zip(self.samples);
        for (seen, (nanoseconds, samples)) in seen.iter_mut().zip(numbers) {
            *number(&mut seen.nanoseconds) = nanoseconds;
            *number(&mut seen.samples) = samples;
        }
        Ok(())
    }
}

impl<'p> Content<'p> {
    pub(super) fn of(profile: &'p Profile) -> Self {
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
        let measured = recording.measured;
        let mut nodes = Nodes {
            cpu: Column::of(profile, measured.cpu, |clocks| clocks.cpu),
            gil: Column::of(profile, measured.gil, |clocks| clocks.gil),
            gil_wait: Column::of(profile, measured.gil_wait, |clocks| clocks.gil_wait),
            exception: Column::of(profile, measured.exception, |clocks| clocks.exception),
            waiting: Column::of(profile, measured.waiting, |clocks| clocks.waiting),
            ..Nodes::default()
        };
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
            let seen = tree.seen(id);
            nodes.nanoseconds.push(seen.nanoseconds.wall);
            nodes.samples.push(seen.samples.wall);
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
                counted: Cow::from(recording.counted.name()),
                taken: counters.taken,
                repaired: counters.repaired,
                truncated: counters.truncated,
                lost: counters.lost,
                late: counters.late,
                skipped: counters.skipped,
                clock: Cow::from(profile.clock().name()),
            },
            processes: processes(profile),
            threads: profile.threads().iter().map(ThreadContent::of).collect(),
            functions,
            nodes,
        }
    }

    /// The profile, as [`Builder`] takes it: whatever refers to nothing is an error.
    pub(super) fn into_profile(self) -> Result<Profile, TrailerError> {
        let recording = self.recording;
        let clock = Clock::named(&recording.clock).ok_or(TrailerError::Damaged)?;
        let counted = Counted::named(&recording.counted).ok_or(TrailerError::Damaged)?;
        let measured = self.nodes.measured();
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
        let profile = builder.finish(Recording {
            command: recording.command.into_owned(),
            pid: recording.pid,
            python: recording.python.into_owned(),
            interval_ns: recording.interval_ns,
            started_unix_ms: recording.started_unix_ms,
            elapsed_ns: recording.elapsed_ns,
            counters: batch.counters,
            collector: recording.collector.into_owned(),
            counted,
            measured,
        });
        Ok(profile.with_clock(clock)?)
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
    fn measured(&self) -> Measured {
        Measured {
            cpu: self.cpu.is_some(),
            gil: self.gil.is_some(),
            gil_wait: self.gil_wait.is_some(),
            exception: self.exception.is_some(),
            waiting: self.waiting.is_some(),
        }
    }

    fn put_into(self, batch: &mut Batch) -> Result<(), TrailerError> {
        let len = self.up.len();
        if self.subject.len() != len || self.line.len() != len {
            return Err(TrailerError::Damaged);
        }
        let wall = Column {
            nanoseconds: self.nanoseconds,
            samples: self.samples,
        };
        let mut seen = vec![Seen::default(); len];
        let mut put = |column: Option<Column>, number: Number| match column {
            Some(column) => column.put_into(&mut seen, number),
            None => Ok(()),
        };
        put(Some(wall), |clocks| &mut clocks.wall)?;
        put(self.cpu, |clocks| &mut clocks.cpu)?;
        put(self.gil, |clocks| &mut clocks.gil)?;
        put(self.gil_wait, |clocks| &mut clocks.gil_wait)?;
        put(self.exception, |clocks| &mut clocks.exception)?;
        put(self.waiting, |clocks| &mut clocks.waiting)?;
        for (index, seen) in seen.into_iter().enumerate() {
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
            if seen != Seen::default() {
                batch.observations.push(Observation {
                    node: NodeId::from_index(index),
                    nanoseconds: seen.nanoseconds,
                    samples: seen.samples,
                });
            }
        }
        Ok(())
    }
}
