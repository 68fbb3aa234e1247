//! `dump`: prints what every thread is doing, once.

use std::io::{self, Write};

use pystrobe_profile::escape;
use pystrobe_sampling::{
    AsyncStacks, AttachError, MAX_TASKS, StackFrame, Target, ThreadStack, ThreadState,
    WaitingTasks, descendants,
};
use serde::Serialize;

use crate::args::DumpOptions;
use crate::errors::Failure;
use crate::source::SourceLines;
use crate::stderr::Notes;
use crate::stdout;

/// Places and functions are padded to the widest of their stack, but not beyond this.
const WIDEST_COLUMN: usize = 72;

/// Prints the stack of every thread, of the process or of all in its tree.
///
/// # Errors
///
/// Where the process, or none of them, can be read, or not with its asyncio tasks, or stdout not be written.
pub(crate) fn dump(options: &DumpOptions) -> Result<(), Failure> {
    let tasks = options.tasks;
    let processes = match options.subprocesses {
        true => tree(options.pid, tasks)?,
        false => {
            let target = Target::attach(options.pid)?;
            if tasks.is_some() && !target.tells_tasks() {
                return Err(Failure::NoTasks {
                    python: target.python().to_owned(),
                });
            }
            vec![Stacks::read(target, tasks)?]
        }
    };
    if tasks.is_some() {
        tell_missing_tasks(&processes);
    }
    let dumps: Vec<Dump<'_>> = processes
        .iter()
        .map(|stacks| Dump::of(stacks, tasks))
        .collect();
    stdout::write(|out| {
        if !options.json {
            for (number, dump) in dumps.iter().enumerate() {
                if number > 0 {
                    writeln!(out)?;
                }
                dump.write_text(out)?;
            }
            return Ok(());
        }
        match &dumps[..] {
            [dump] if !options.subprocesses => serde_json::to_writer_pretty(&mut *out, dump)?,
            dumps => serde_json::to_writer_pretty(&mut *out, dumps)?,
        }
        writeln!(out)
    })
}

/// A process and its descendants, as far as they are Pythons. Of those that cannot be read a warning tells, unless there is
/// no other.
///
/// # Errors
///
/// Where none can be read: what stands in the way of the process itself, or of the first of those that may be a Python.
fn tree(root: u32, tasks: Option<AsyncStacks>) -> Result<Vec<Stacks>, Failure> {
    let mut processes = Vec::new();
    let mut unread: Vec<AttachError> = Vec::new();
    let mut not_python = None;
    let read = |target| Stacks::read(target, tasks);
    match Target::attach(root).and_then(read) {
        Ok(stacks) => processes.push(stacks),
        Err(error @ AttachError::NotPython { .. }) => not_python = Some(error),
        Err(
            error @ (AttachError::NotFound { .. }
            | AttachError::Ended { .. }
            | AttachError::Zombie { .. }),
        ) => return Err(error.into()),
        Err(error) => unread.push(error),
    }
    for pid in descendants(root) {
        match Target::attach_descendant(pid).and_then(read) {
            Ok(stacks) => processes.push(stacks),
            Err(
                AttachError::NotPython { .. }
                | AttachError::NotFound { .. }
                | AttachError::Ended { .. }
                | AttachError::Zombie { .. },
            ) => {}
            Err(error) => unread.push(error),
        }
    }
    if processes.is_empty() {
        let reason = unread.into_iter().next().or(not_python);
        return Err(reason.unwrap_or(AttachError::Ended { pid: root }).into());
    }
    for error in unread {
        Notes::new(false).warning(&error.to_string());
    }
    Ok(processes)
}

/// Says of which processes asyncio tasks are missing.
fn tell_missing_tasks(processes: &[Stacks]) {
    let count = |is: fn(&Stacks) -> bool| processes.iter().filter(|stacks| is(stacks)).count();
    let notes = Notes::new(false);
    let untold = count(|stacks| !stacks.target.tells_tasks());
    if untold > 0 {
        notes.warning(&format!(
            "without --async: processes of Python before 3.14, {untold} in all"
        ));
    }
    let too_many = count(|stacks| stacks.tasks_too_many);
    if too_many > 0 {
        notes.warning(&format!(
            "not shown: asyncio tasks beyond the first {MAX_TASKS} of a thread, or what awaits them, in {too_many} of the processes"
        ));
    }
}

/// A process that was read.
struct Stacks {
    target: Target,
    threads: Vec<ThreadStack>,
    tasks_too_many: bool,
    source: SourceLines,
}

impl Stacks {
    fn read(target: Target, tasks: Option<AsyncStacks>) -> Result<Stacks, AttachError> {
        let pid = target.pid();
        let pystrobe_sampling::Dump {
            mut threads,
            tasks_too_many,
        } = pystrobe_sampling::dump(&target, tasks)?;
        threads.sort_by_key(|stack| order(stack, pid));
        let waiting = |stack| waiting_frames(stack).chain(&stack.frames);
        let frames = threads.iter().flat_map(waiting);
        let source = SourceLines::read(
            pid,
            frames
                .filter(|frame| !is_task(frame))
                .map(|frame| (frame.function.file.as_str(), frame.line)),
        );
        Ok(Stacks {
            target,
            threads,
            tasks_too_many,
            source,
        })
    }
}

fn waiting_frames(stack: &ThreadStack) -> impl Iterator<Item = &StackFrame> {
    stack.waiting.iter().flat_map(|waiting| &waiting.frames)
}

/// Whether a frame stands for an asyncio task, and so for no code.
fn is_task(frame: &StackFrame) -> bool {
    frame.line == 0 && frame.function.first_line == 0
}

/// The main interpreter first, in it the main thread, then by thread id.
fn order(stack: &ThreadStack, pid: u32) -> (u64, bool, u64) {
    let thread = &stack.thread;
    // In another PID namespace than ours the ids differ, the name does not.
    let main = thread.native_id == Some(u64::from(pid)) || thread.name == "MainThread";
    (
        thread.interpreter,
        !main,
        thread.native_id.unwrap_or(thread.ident),
    )
}

/// What `--json` writes; a list of them with `--subprocesses`.
#[derive(Debug, Serialize)]
struct Dump<'a> {
    pid: u32,
    command: &'a str,
    python: &'a str,
    threads: Vec<DumpedThread<'a>>,
}

#[derive(Debug, Serialize)]
struct DumpedThread<'a> {
    /// `threading.Thread.name`; empty where unknown.
    name: &'a str,
    /// The kernel's thread id, in the target's PID namespace.
    tid: Option<u64>,
    /// `threading.get_ident()`.
    ident: u64,
    interpreter: u64,
    state: &'static str,
    /// The outer frames could not be proven and are missing.
    truncated: bool,
    /// Innermost first.
    frames: Vec<DumpedFrame<'a>>,
    /// Asyncio tasks that wait and that no other task waits for; with `--async all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Vec<DumpedTasks<'a>>>,
}

/// Tasks that look alike.
#[derive(Debug, Serialize)]
struct DumpedTasks<'a> {
    /// How many.
    tasks: u64,
    /// The outer frames are missing, because there were too many in all.
    truncated: bool,
    /// Innermost first.
    frames: Vec<DumpedFrame<'a>>,
}

impl<'a> DumpedTasks<'a> {
    fn of(waiting: &'a WaitingTasks, source: &'a SourceLines) -> Self {
        DumpedTasks {
            tasks: waiting.tasks,
            truncated: waiting.truncated,
            frames: dumped(&waiting.frames, source),
        }
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.tasks {
            1 => writeln!(out, "  1 task waits:")?,
            tasks => writeln!(out, "  {tasks} tasks wait:")?,
        }
        write_frames(&self.frames, "    ", out)?;
        if self.truncated {
            writeln!(
                out,
                "    (the outer frames are left out: there are too many)"
            )?;
        }
        Ok(())
    }
}

fn dumped<'a>(frames: &'a [StackFrame], source: &'a SourceLines) -> Vec<DumpedFrame<'a>> {
    let frames = frames.iter();
    frames.map(|frame| DumpedFrame::of(frame, source)).collect()
}

/// A line for each frame, the source in a column of its own.
fn write_frames(frames: &[DumpedFrame<'_>], indent: &str, out: &mut dyn Write) -> io::Result<()> {
    let places: Vec<String> = frames.iter().map(DumpedFrame::place).collect();
    let width = places
        .iter()
        .map(|place| place.chars().count())
        .max()
        .unwrap_or(0)
        .min(WIDEST_COLUMN);
    for (frame, place) in frames.iter().zip(&places) {
        match frame.source {
            Some(source) => writeln!(out, "{indent}{place:<width$}  {}", escape(source))?,
            None => writeln!(out, "{indent}{place}")?,
        }
    }
    Ok(())
}

#[derive(Debug, Serialize)]
struct DumpedFrame<'a> {
    file: &'a str,
    line: u32,
    function: &'a str,
    first_line: u32,
    source: Option<&'a str>,
}

impl<'a> DumpedThread<'a> {
    fn of(stack: &'a ThreadStack, source: &'a SourceLines, tasks: Option<AsyncStacks>) -> Self {
        let waiting = stack.waiting.iter();
        let waiting = waiting.map(|waiting| DumpedTasks::of(waiting, source));
        DumpedThread {
            name: &stack.thread.name,
            tid: stack.thread.native_id,
            ident: stack.thread.ident,
            interpreter: stack.thread.interpreter,
            state: match stack.state {
                ThreadState::HasGil => "has the GIL",
                ThreadState::Running => "running",
                ThreadState::Idle => "idle",
            },
            truncated: stack.truncated,
            frames: dumped(&stack.frames, source),
            waiting: (tasks == Some(AsyncStacks::All)).then(|| waiting.collect()),
        }
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let id = self.tid.unwrap_or(self.ident);
        write!(out, "Thread {id}")?;
        if !self.name.is_empty() {
            write!(out, " {}", escape(self.name))?;
        }
        if self.interpreter != 0 {
            write!(out, " (interpreter {})", self.interpreter)?;
        }
        writeln!(out, ": {}", self.state)?;
        if self.frames.is_empty() {
            writeln!(out, "  (no Python frame)")?;
        }
        write_frames(&self.frames, "  ", out)?;
        if self.truncated {
            writeln!(out, "  (the outer frames could not be read)")?;
        }
        let waiting = self.waiting.iter().flatten();
        waiting
            .into_iter()
            .try_for_each(|tasks| tasks.write_text(out))
    }
}

impl<'a> DumpedFrame<'a> {
    fn of(frame: &'a StackFrame, source: &'a SourceLines) -> Self {
        let function = &frame.function;
        DumpedFrame {
            file: &function.file,
            line: frame.line,
            function: match function.qualified_name.is_empty() {
                true => &function.name,
                false => &function.qualified_name,
            },
            first_line: function.first_line,
            source: source.get(&function.file, frame.line),
        }
    }

    fn place(&self) -> String {
        if self.line == 0 && self.first_line == 0 {
            return escape(self.function).to_string();
        }
        format!(
            "{}:{} {}",
            escape(self.file),
            self.line,
            escape(self.function)
        )
    }
}

impl<'a> Dump<'a> {
    fn of(stacks: &'a Stacks, tasks: Option<AsyncStacks>) -> Self {
        let threads = stacks.threads.iter();
        Dump {
            pid: stacks.target.pid(),
            command: stacks.target.command(),
            python: stacks.target.python(),
            threads: threads
                .map(|stack| DumpedThread::of(stack, &stacks.source, tasks))
                .collect(),
        }
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Process {}: {}", self.pid, escape(self.command))?;
        writeln!(out, "Python {}", escape(self.python))?;
        for thread in &self.threads {
            writeln!(out)?;
            thread.write_text(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pystrobe_profile::{Function, Thread};

    use super::*;

    fn stack(name: &str, tid: u64, interpreter: u64) -> ThreadStack {
        ThreadStack {
            thread: Thread {
                process: 0,
                name: name.to_owned(),
                native_id: Some(tid),
                ident: tid + 1000,
                interpreter,
            },
            state: ThreadState::Idle,
            frames: vec![StackFrame {
                function: Function {
                    file: String::from("evil\x1b[2J.py"),
                    first_line: 3,
                    name: String::from("f\nThread 1 faked: has the GIL"),
                    qualified_name: String::new(),
                },
                line: 5,
            }],
            truncated: true,
            waiting: Vec::new(),
        }
    }

    fn text(stacks: &[ThreadStack]) -> String {
        let source = SourceLines::default();
        let dump = Dump {
            pid: 1,
            command: "python",
            python: "3.12.1",
            threads: stacks
                .iter()
                .map(|stack| DumpedThread::of(stack, &source, Some(AsyncStacks::All)))
                .collect(),
        };
        let mut text = Vec::new();
        dump.write_text(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn waiting_tasks_follow_their_thread() {
        let mut stacks = [stack("MainThread", 7, 0)];
        stacks[0].truncated = false;
        let mut task = stacks[0].frames.clone();
        task[0].line = 0;
        task[0].function = Function {
            file: String::from("~"),
            first_line: 0,
            name: String::from("<task evil\r>"),
            qualified_name: String::new(),
        };
        for (tasks, truncated) in [(1, false), (20, true)] {
            stacks[0].waiting.push(WaitingTasks {
                tasks,
                frames: task.clone(),
                truncated,
            });
        }
        let text = text(&stacks);
        let expected = "  1 task waits:
    <task evil\\r>
  20 tasks wait:
    <task evil\\r>
    (the outer frames are left out: there are too many)
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn the_main_thread_comes_first() {
        let mut stacks = [
            stack("MainThread", 9, 1),
            stack("worker", 3, 0),
            stack("MainThread", 7, 0),
            stack("other", 2, 0),
        ];
        stacks.sort_by_key(|stack| order(stack, 7));
        let ids: Vec<Option<u64>> = stacks.iter().map(|stack| stack.thread.native_id).collect();
        assert_eq!(ids, [Some(7), Some(2), Some(3), Some(9)]);
    }

    #[test]
    fn hostile_names_stay_on_their_line() {
        let text = text(&[stack("evil\r\x1b]0;x\x07", 5, 0)]);
        assert!(!text.contains(['\x1b', '\r', '\x07']), "{text:?}");
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.contains("\nThread 5 evil"), "{text}");
        assert!(
            text.contains("\n  evil\\x1b[2J.py:5 f\\nThread 1"),
            "{text}"
        );
        assert!(text.ends_with("could not be read)\n"), "{text}");
    }
}
