//! The tree of tasks over memory that is made up: as it should be, and as it should not.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::graph::{Graph, What};
use super::names::Names;
use super::reader::{Reader, Types};
use super::{AsyncStacks, MAX_TASKS, Subject, TaskLayout, Tasks};
use crate::codes::{Codes, Functions};
use crate::layout::{Layout, examples};
use crate::memory::{ReadError, Region, RemoteMemory};
use crate::snapshot::{Group, Snapshot};

const PAGE: u64 = 4096;
/// Where the next object is put; far enough from each other that none runs into another.
const FIRST: u64 = 0x10_0000;
const STEP: u64 = 1024;

/// Pages with what was written there; nothing else is mapped.
#[derive(Debug, Default)]
struct Image {
    pages: BTreeMap<u64, Vec<u8>>,
    calls: Cell<usize>,
}

impl Image {
    fn put(&mut self, address: u64, bytes: &[u8]) {
        for (number, byte) in bytes.iter().enumerate() {
            let at = address + number as u64;
            let page = self.pages.entry(at / PAGE);
            page.or_insert_with(|| vec![0; PAGE as usize])[(at % PAGE) as usize] = *byte;
        }
    }

    fn word(&mut self, address: u64, word: u64) {
        self.put(address, &word.to_le_bytes());
    }
}

impl RemoteMemory for Image {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        self.calls.set(self.calls.get() + 1);
        let mut filled = 0;
        for (number, region) in regions.iter().enumerate() {
            for offset in 0..region.length as u64 {
                let at = region.address.wrapping_add(offset);
                let Some(page) = self.pages.get(&(at / PAGE)) else {
                    return Ok(number);
                };
                into[filled] = page[(at % PAGE) as usize];
                filled += 1;
            }
        }
        Ok(regions.len())
    }
}

/// A made-up asyncio, laid out as that of a version.
struct Maker {
    image: Image,
    layout: Layout,
    fields: TaskLayout,
    next: u64,
    coroutine_type: u64,
}

impl Maker {
    fn new(minor: u8) -> Self {
        let layout = examples::of(minor).unwrap();
        let mut maker = Self {
            image: Image::default(),
            layout,
            fields: examples::tasks(minor).unwrap(),
            next: FIRST,
            coroutine_type: 0,
        };
        maker.coroutine_type = maker.type_called("coroutine");
        maker
    }

    /// Room for an object.
    fn object(&mut self) -> u64 {
        let address = self.next;
        self.next += STEP;
        self.image.put(address, &[0; STEP as usize]);
        address
    }

    fn type_called(&mut self, name: &str) -> u64 {
        let (kind, text) = (self.object(), self.object());
        self.image.put(text, name.as_bytes());
        self.image.word(kind + self.layout.object.tp_name, text);
        kind
    }

    /// A coroutine with this code object, which awaits an object or, where that is 0, nothing that is told.
    fn coroutine(&mut self, code: u64, awaited: u64) -> u64 {
        let address = self.object();
        self.become_coroutine(address, code, awaited);
        address
    }

    fn become_coroutine(&mut self, address: u64, code: u64, awaited: u64) {
        let (fields, frame) = (self.fields, self.layout.frame);
        let inside = address + fields.generator_frame;
        let stack = inside + frame.size + 3 * 8;
        self.image.word(address + 8, self.coroutine_type);
        self.image.word(inside + frame.code, code);
        self.image.put(inside + frame.owner.unwrap(), &[1]);
        self.image.word(inside + fields.stack_pointer, stack);
        self.image.word(stack - fields.awaited, awaited);
        let state = address + fields.generator_state;
        self.image.put(state, &[fields.awaiting[0]]);
    }

    /// A task with a coroutine of this code object, which awaits a future.
    fn task(&mut self, code: u64) -> u64 {
        let (task, future) = (self.object(), self.object());
        let coroutine = self.coroutine(code, future);
        let fields = self.fields;
        self.image.put(task + fields.is_task, &[1]);
        self.image.word(task + fields.coroutine, coroutine);
        task
    }

    fn awaited_by(&mut self, task: u64, awaiter: u64) {
        self.image.word(task + self.fields.awaited_by, awaiter);
    }

    /// A set with a table of these entries, key and hash.
    fn awaited_by_set(&mut self, task: u64, mask: u64, entries: &[(u64, u64)]) {
        let (set, table) = (self.object(), self.object());
        self.awaited_by(task, set);
        self.image.put(task + self.fields.awaited_by_is_set, &[1]);
        for (number, (key, hash)) in entries.iter().enumerate() {
            self.image.word(table + 16 * number as u64, *key);
            self.image.word(table + 16 * number as u64 + 8, *hash);
        }
        let used = set + self.fields.set_used;
        self.image.word(used, 1);
        self.image.word(used + 8, mask);
        self.image.word(used + 16, table);
    }

    /// The list of a thread's tasks; gives its head.
    fn list(&mut self, tasks: &[u64]) -> u64 {
        let head = self.object();
        let nodes = tasks.iter().map(|task| task + self.fields.node);
        let round: Vec<u64> = std::iter::once(head).chain(nodes).chain([head]).collect();
        for link in round.windows(2) {
            self.image.word(link[0], link[1]);
        }
        head
    }

    fn reader<'a>(&'a self, snapshot: &'a mut Snapshot) -> Reader<'a, Image> {
        Reader {
            memory: &self.image,
            snapshot,
            layout: &self.layout,
            fields: self.fields,
            group: Group::Stack(0),
        }
    }

    /// The tree below a running task, or with the waiting ones of a list.
    fn look(&self, running: Option<u64>, head: Option<u64>) -> Graph {
        let mut graph = Graph::default();
        let mut snapshot = Snapshot::default();
        let mut reader = self.reader(&mut snapshot);
        let (mut names, mut functions) = (Names::default(), Functions::default());
        let mut naming = (&mut names, &mut functions);
        let types = &mut Types::default();
        if let Some(task) = running {
            let added = graph.add_running(&mut reader, types, &mut naming, task, 3);
            added.unwrap();
        }
        if let Some(head) = head {
            let added = graph.add_waiting(&mut reader, types, &mut naming, head);
            added.unwrap();
        }
        graph
    }
}

/// From the foot to a frame: 0 for the name of a task, else the code object.
fn path(graph: &Graph, innermost: u32) -> Vec<u64> {
    let mut path = Vec::new();
    let mut next = Some(innermost);
    while let Some(frame) = next {
        let raw = graph.raw[frame as usize];
        path.push(match raw.what {
            What::Task(_) => 0,
            What::Frame { code, .. } => code,
        });
        next = raw.parent;
    }
    path.reverse();
    path
}

fn running(graph: &Graph) -> Vec<u64> {
    let (frame, start) = graph.running.unwrap();
    assert_eq!(start, 3);
    path(graph, frame)
}

fn waiting(graph: &Graph) -> Vec<Vec<u64>> {
    let mut paths: Vec<_> = graph
        .waiting
        .iter()
        .map(|frame| path(graph, *frame))
        .collect();
    paths.sort();
    paths
}

const VERSIONS: [u8; 2] = [14, 15];

#[test]
fn a_task_stands_on_those_that_await_it() {
    for minor in VERSIONS {
        let mut maker = Maker::new(minor);
        let [root, middle, task] = [0x100, 0x200, 0x300].map(|code| maker.task(code));
        // In between is a future that is no task, as `shield` has one.
        let future = maker.object();
        maker.awaited_by(task, future);
        maker.awaited_by(future, middle);
        maker.awaited_by(middle, root);
        let graph = maker.look(Some(task), None);
        assert_eq!(running(&graph), [0, 0x100, 0, 0x200, 0]);
        assert!(graph.waiting.is_empty() && !graph.too_many);
    }
}

#[test]
fn coroutines_are_followed_through_what_wraps_them() {
    for minor in VERSIONS {
        let mut maker = Maker::new(minor);
        let inner = maker.coroutine(0x300, 0);
        let (asend, anext) = (maker.object(), maker.object());
        let kinds = ["async_generator_asend", "anext_awaitable"];
        let kinds = kinds.map(|name| maker.type_called(name));
        maker.image.word(asend + 8, kinds[0]);
        maker.image.word(asend + 16, inner);
        maker.image.word(anext + 8, kinds[1]);
        maker.image.word(anext + 16, asend);
        // References on the stack have tags in their low bits.
        let middle = maker.coroutine(0x200, anext | 1);
        let (task, awaited) = (maker.task(0x100), maker.task(0x400));
        let outer = maker.coroutine(0x100, middle);
        maker.image.word(task + maker.fields.coroutine, outer);
        maker.awaited_by(awaited, task);
        let graph = maker.look(Some(awaited), None);
        assert_eq!(running(&graph), [0, 0x100, 0x200, 0x300, 0]);
        // One that executes does not tell what it called.
        let state = outer + maker.fields.generator_state;
        maker.image.put(state, &[maker.fields.executing]);
        assert_eq!(running(&maker.look(Some(awaited), None)), [0, 0x100, 0]);
        // A wrapper of itself.
        maker.image.word(anext + 16, anext);
        maker.image.put(state, &[maker.fields.awaiting[1]]);
        assert_eq!(
            running(&maker.look(Some(awaited), None)),
            [0, 0x100, 0x200, 0]
        );
    }
}

#[test]
fn of_several_the_first_that_is_there_stands_for_all() {
    let mut maker = Maker::new(14);
    let [one, other, task] = [0x100, 0x200, 0x300].map(|code| maker.task(code));
    let removed = maker.object();
    let entries = [(0, 0), (removed, u64::MAX), (other, 5), (one, 6)];
    maker.awaited_by_set(task, 7, &entries);
    assert_eq!(running(&maker.look(Some(task), None)), [0, 0x200, 0]);

    // A table that is not there, or that cannot be.
    for mask in [5, u64::MAX, u64::MAX >> 1, 1 << 40] {
        maker.awaited_by_set(task, mask, &entries);
        let path = running(&maker.look(Some(task), None));
        assert!(path == [0] || path == [0, 0x200, 0], "{mask}: {path:?}");
    }
    maker.awaited_by_set(task, 7, &[]);
    assert_eq!(running(&maker.look(Some(task), None)), [0]);
    maker.awaited_by(task, 0xdead_0000);
    assert_eq!(running(&maker.look(Some(task), None)), [0]);
}

#[test]
fn those_that_wait_are_the_leaves() {
    for minor in VERSIONS {
        let mut maker = Maker::new(minor);
        let [root, one, other, runs, executes] =
            [0x100, 0x200, 0x300, 0x400, 0x500].map(|code| maker.task(code));
        for child in [one, other, runs] {
            maker.awaited_by(child, root);
        }
        let coroutine = maker.coroutine(0x500, 0);
        maker
            .image
            .word(executes + maker.fields.coroutine, coroutine);
        maker.image.put(
            coroutine + maker.fields.generator_state,
            &[maker.fields.executing],
        );
        let ended = maker.task(0x600);
        maker.image.word(ended + maker.fields.coroutine, 0);
        let head = maker.list(&[root, one, other, runs, executes, ended]);
        let graph = maker.look(Some(runs), Some(head));
        assert_eq!(running(&graph), [0, 0x100, 0]);
        let expected = [vec![0, 0x100, 0, 0x200], vec![0, 0x100, 0, 0x300]];
        assert_eq!(waiting(&graph), expected);
        // What they share is told once.
        assert_eq!(
            graph
                .raw
                .iter()
                .filter(|raw| matches!(raw.what, What::Task(_)))
                .count(),
            5
        );

        let graph = maker.look(None, Some(head));
        assert_eq!(waiting(&graph).len(), 3);
    }
}

#[test]
fn circles_come_to_an_end() {
    let mut maker = Maker::new(15);
    let [one, other, task] = [0x100, 0x200, 0x300].map(|code| maker.task(code));
    maker.awaited_by(task, one);
    maker.awaited_by(one, other);
    maker.awaited_by(other, one);
    assert_eq!(
        running(&maker.look(Some(task), None)),
        [0, 0x200, 0, 0x100, 0]
    );
    maker.awaited_by(one, task);
    assert_eq!(running(&maker.look(Some(task), None)), [0, 0x100, 0]);
    maker.awaited_by(task, task);
    assert_eq!(running(&maker.look(Some(task), None)), [0]);

    // Coroutines that await each other.
    let coroutine = maker.object();
    let second = maker.coroutine(0x20, coroutine);
    maker.become_coroutine(coroutine, 0x10, second);
    maker.image.word(one + maker.fields.coroutine, coroutine);
    maker.awaited_by(task, one);
    maker.awaited_by(one, 0);
    let path = running(&maker.look(Some(task), None));
    assert!(
        path.len() < 12 && path.starts_with(&[0, 0x10, 0x20]),
        "{path:?}"
    );

    // A list that does not come back to its head.
    let head = maker.list(&[one, other, task]);
    maker
        .image
        .word(task + maker.fields.node, one + maker.fields.node);
    let graph = maker.look(None, Some(head));
    assert!(graph.too_many);
    assert!(graph.waiting.len() <= MAX_TASKS);
    maker.image.word(task + maker.fields.node, 0);
    assert!(!maker.look(None, Some(head)).too_many);
}

/// A chain of tasks as long as memory: the older ones are left out, and that is said.
#[test]
fn there_is_an_end_to_what_is_read() {
    let mut maker = Maker::new(14);
    let tasks: Vec<u64> = (0..9000)
        .map(|code| maker.task(0x1000 + 16 * code))
        .collect();
    for pair in tasks.windows(2) {
        maker.awaited_by(pair[0], pair[1]);
    }
    let graph = maker.look(Some(tasks[0]), None);
    assert!(graph.too_many);
    assert!(running(&graph).len() > 8000);
    let head = maker.list(&tasks);
    assert!(maker.look(None, Some(head)).too_many);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Wherever the words of tasks, coroutines, sets, types and names lead, the look comes to an end.
    #[test]
    fn arbitrary_words_come_to_an_end(
        minor in 14_u8..16,
        words in prop::collection::vec((0_u64..60, 0_u64..32, 0_u64..60, 0_u64..24), 0..400),
        raw in prop::collection::vec((0_u64..60 * STEP, any::<u8>()), 0..200),
    ) {
        let mut maker = Maker::new(minor);
        let tasks: Vec<u64> = (0..6).map(|code| maker.task(0x1000 + code)).collect();
        let head = maker.list(&tasks);
        while maker.next < FIRST + 60 * STEP {
            maker.object();
        }
        for (object, word, to, offset) in words {
            maker.image.word(FIRST + object * STEP + 8 * word, FIRST + to * STEP + 8 * offset);
        }
        for (offset, byte) in raw {
            maker.image.put(FIRST + offset, &[byte]);
        }
        maker.image.calls.set(0);
        let graph = maker.look(Some(tasks[0]), Some(head));
        for (number, raw) in graph.raw.iter().enumerate() {
            prop_assert!(raw.parent.is_none_or(|parent| (parent as usize) < number));
        }

        // A thread that says the same, with nothing on its stack.
        let state = 0x4000_0000;
        maker.image.put(state, &[0; 2048]);
        maker.image.word(state + maker.fields.running_loop, 1);
        maker.image.word(state + maker.fields.running_loop + 8, tasks[0]);
        maker.image.word(state + maker.fields.tasks_head, tasks[0] + maker.fields.node);
        let mut told = Tasks::new(maker.fields, AsyncStacks::All);
        let subject = Subject { slot: 2, serial: 7, state, frames: &[] };
        let (mut snapshot, mut functions) = (Snapshot::default(), Functions::default());
        let mut reader = maker.reader(&mut snapshot);
        prop_assert!(told.look(&mut reader, &mut functions, subject).is_ok());
        told.settle(&Codes::default(), 0, subject, 1);
        // No code object is proven, so there are names only.
        let frames = told.joined(2, 7).map_or(0, |joined| joined.frames.len());
        prop_assert!(frames <= told.graph.raw.len() - told.codes().count());
        prop_assert!(told.joined(2, 8).is_none() && told.joined(1, 7).is_none());
        prop_assert!(maker.image.calls.get() < 1 << 18);
    }
}
