//! Memory without an end: every pointer leads on to another plausible object, made up from its address when it
//! is read. A target that means harm could map the same few pages everywhere and come close to this.

use std::cell::Cell;

use crate::codes::MAX_LINE_TABLES;
use crate::discovery::Roots;
use crate::layout::{Activity, FrameChain, FrameSize, Instruction, Layout, examples};
use crate::memory::{ReadError, Region, RemoteMemory};
use crate::stacks::{MAX_FRAMES, MAX_LIST, Stacks};
use crate::thread_names::thread_names;

/// An address is the kind of the object, its number, and an offset into it.
const KIND: u32 = 48;
const NUMBER: u32 = 24;
/// Code objects that are different.
const CODES: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Runtime = 1,
    Interpreter,
    Thread,
    CFrame,
    Frame,
    Code,
    Type,
    TypeName,
    String,
    Bytes,
    Dict,
    Keys,
    Object,
}

const KINDS: [Kind; 13] = [
    Kind::Runtime,
    Kind::Interpreter,
    Kind::Thread,
    Kind::CFrame,
    Kind::Frame,
    Kind::Code,
    Kind::Type,
    Kind::TypeName,
    Kind::String,
    Kind::Bytes,
    Kind::Dict,
    Kind::Keys,
    Kind::Object,
];

fn at(kind: Kind, number: u64) -> u64 {
    (kind as u64) << KIND | number << NUMBER
}

/// The object after one: each of 2**24 comes once before the first comes again.
fn next(number: u64) -> u64 {
    (number * 0x9e_3775 + 0x7f_4a7d) & 0xff_ffff
}

/// What never ends.
#[derive(Debug, Clone, Copy)]
struct Shape {
    interpreters: bool,
    /// Of each interpreter, and how many there are where they do end.
    threads: Option<u64>,
    /// The same of frames.
    frames: Option<u64>,
    /// Entries of a dict.
    entries: u64,
    /// Bytes of a line table.
    line_table: u64,
}

const ONE_THREAD: Shape = Shape {
    interpreters: false,
    threads: Some(1),
    frames: None,
    entries: 1,
    line_table: 16,
};

/// See the module's documentation.
#[derive(Debug)]
struct Endless {
    layout: Layout,
    shape: Shape,
    calls: Cell<u64>,
    copied: Cell<u64>,
}

impl Endless {
    fn new(minor: u8, shape: Shape) -> Self {
        Self {
            layout: examples::of(minor).unwrap(),
            shape,
            calls: Cell::new(0),
            copied: Cell::new(0),
        }
    }

    /// The words of an object that mean something, by their offset; 4 bytes of them where they are an `int`.
    fn fields(&self, kind: Kind, number: u64) -> Vec<(u64, u64, usize)> {
        let layout = &self.layout;
        let mut fields = Vec::with_capacity(16);
        let mut put = |offset: u64, value: u64| fields.push((offset, value, 8));
        match kind {
            Kind::Runtime => put(layout.runtime.interpreters_head, at(Kind::Interpreter, 0)),
            Kind::Interpreter => {
                let of = layout.interpreter;
                put(of.id, number);
                if self.shape.interpreters {
                    put(of.next, at(Kind::Interpreter, next(number)));
                }
                if self.shape.threads != Some(0) {
                    put(of.threads_head, at(Kind::Thread, 0));
                }
                put(of.modules, at(Kind::Dict, 0));
            }
            Kind::Thread => {
                let of = layout.thread;
                put(of.interpreter, at(Kind::Interpreter, 0));
                match self.shape.threads {
                    None => put(of.next, at(Kind::Thread, next(number))),
                    Some(count) if number + 1 < count => put(of.next, at(Kind::Thread, number + 1)),
                    Some(_) => {}
                }
                put(of.thread_id, number);
                put(
                    of.frame,
                    match layout.chain {
                        FrameChain::CFrame { .. } => at(Kind::CFrame, number),
                        _ => at(Kind::Frame, number),
                    },
                );
            }
            Kind::CFrame => {
                if let FrameChain::CFrame { current_frame } = layout.chain {
                    put(current_frame, at(Kind::Frame, number));
                }
            }
            Kind::Frame => {
                let of = layout.frame;
                let code = at(Kind::Code, number % CODES);
                match self.shape.frames {
                    None => put(of.previous, at(Kind::Frame, next(number))),
                    Some(count) if number + 1 < count => {
                        put(of.previous, at(Kind::Frame, number + 1));
                    }
                    Some(_) => {}
                }
                put(of.code, code);
                let (Instruction::ByteIndex(at)
                | Instruction::UnitIndex(at)
                | Instruction::Pointer(at)) = of.instruction;
                put(at, layout.code.bytecode.map_or(4, |start| code + start + 4));
                if let Some(owner) = of.owner {
                    fields.push((owner, 1, 1));
                }
                if let Activity::Flag(offset, value) = layout.activity() {
                    fields.push((offset, value.into(), 1));
                }
            }
            Kind::Code => {
                let of = layout.code;
                put(layout.object.ob_type, at(Kind::Type, 0));
                put(layout.object.bytes_size, 64);
                for offset in [of.filename, of.name].into_iter().chain(of.qualname) {
                    put(offset, at(Kind::String, number));
                }
                put(of.line_table, at(Kind::Bytes, number));
                for (offset, value) in [(of.first_line, 5), (of.flags, 0x20)]
                    .into_iter()
                    .chain(of.version.map(|offset| (offset, number + 1)))
                {
                    fields.push((offset, value, 4));
                }
                if let FrameSize::Stored(offset) = of.frame_size {
                    fields.push((offset, 20, 4));
                }
            }
            Kind::Type => {
                put(layout.object.tp_name, at(Kind::TypeName, 0));
                put(layout.object.tp_name + 264, layout.object.ob_type + 8);
            }
            Kind::TypeName => put(0, u64::from_le_bytes(*b"code\0\0\0\0")),
            Kind::String => {
                let of = layout.unicode;
                let text: &[u8] = match number {
                    KEY_THREADING => b"threading",
                    KEY_ACTIVE => b"_active",
                    _ => b"f",
                };
                put(of.length, text.len() as u64);
                fields.push((of.state, 0b11_001 << of.kind_bit, 4));
                for (offset, byte) in text.iter().enumerate() {
                    fields.push((of.ascii_data + offset as u64, u64::from(*byte), 1));
                }
            }
            Kind::Bytes => put(layout.object.bytes_size, self.shape.line_table),
            Kind::Dict => put(layout.object.ob_type + 24, at(Kind::Keys, number)),
            Kind::Keys => {
                let entries = if number < 2 { 1 } else { self.shape.entries };
                if self.layout.thread.datastack_chunk.is_some() {
                    fields.extend([(9, 3, 1), (24, entries, 8)]);
                } else {
                    fields.extend([(8, 8, 8), (32, entries, 8)]);
                }
            }
            Kind::Object => {
                put(layout.object.ob_type, at(Kind::Type, 0));
                put(layout.object.ob_type + 8, at(Kind::Dict, number));
            }
        }
        fields
    }

    /// A word of the entries of a dict: hash, key, value.
    fn entry(&self, dict: u64, word: u64) -> u64 {
        let index = word / 3;
        match (word % 3, dict) {
            (0, _) => index,
            (1, 0) => at(Kind::String, KEY_THREADING),
            (1, 1) => at(Kind::String, KEY_ACTIVE),
            (1, _) => at(Kind::String, index),
            // `threading`, whose dict is the next one; `_active`; threads with a dict each.
            (_, 0) => at(Kind::Object, 1),
            (_, 1) => at(Kind::Dict, 2),
            _ => at(Kind::Object, 3 + index),
        }
    }

    fn fill(&self, region: Region, into: &mut [u8]) -> Option<()> {
        let kind = *KINDS.get((region.address >> KIND).checked_sub(1)? as usize)?;
        let number = region.address >> NUMBER & 0xff_ffff;
        let start = region.address & 0xff_ffff;
        into.fill(0);
        for (offset, value, width) in self.fields(kind, number) {
            for (byte, offset) in value.to_le_bytes()[..width].iter().zip(offset..) {
                let place = offset.checked_sub(start).map(|place| place as usize);
                if let Some(place) = place.and_then(|place| into.get_mut(place)) {
                    *place = *byte;
                }
            }
        }
        let entries = if self.layout.thread.datastack_chunk.is_some() {
            40
        } else {
            48
        };
        if kind == Kind::Keys && start == entries {
            for (word, bytes) in into.chunks_exact_mut(8).enumerate() {
                bytes.copy_from_slice(&self.entry(number, word as u64).to_le_bytes());
            }
        }
        Some(())
    }
}

const KEY_THREADING: u64 = 0xff_0001;
const KEY_ACTIVE: u64 = 0xff_0002;

impl RemoteMemory for &Endless {
    fn read_regions(&self, regions: &[Region], into: &mut [u8]) -> Result<usize, ReadError> {
        self.calls.set(self.calls.get() + 1);
        let mut filled = 0;
        for (done, region) in regions.iter().enumerate() {
            let end = filled + region.length;
            if self.fill(*region, &mut into[filled..end]).is_none() {
                return Ok(done);
            }
            filled = end;
            self.copied.set(self.copied.get() + region.length as u64);
        }
        Ok(regions.len())
    }
}

fn stacks(memory: &Endless) -> Stacks<&Endless> {
    Stacks::new(
        memory,
        memory.layout,
        Roots::Runtime(at(Kind::Runtime, 0)),
        None,
    )
}

/// Two of the three stacks fill what all stacks may have together.
#[test]
fn stacks_without_an_end_are_cut() {
    let memory = Endless::new(
        14,
        Shape {
            threads: Some(3),
            ..ONE_THREAD
        },
    );
    let mut stacks = stacks(&memory);
    let reading = stacks.read().unwrap();
    assert_eq!(reading.truncated, 3);
    let depths: Vec<usize> = stacks
        .threads()
        .map(|(_, stack)| stack.frames.len())
        .collect();
    assert_eq!(depths, [MAX_FRAMES / 2, MAX_FRAMES / 2, 0]);
    // The frames once, and a dozen reads for each code object.
    let most = MAX_FRAMES as u64 + 20 * CODES;
    assert!(memory.calls.get() < most, "{memory:?}");
    // Four times over, because they are impossible.
    assert!(memory.copied.get() < 5 * 320 * most, "{memory:?}");
}

#[test]
fn lists_without_an_end_are_given_up() {
    for minor in 8..=15 {
        for shape in [
            Shape {
                threads: None,
                ..ONE_THREAD
            },
            Shape {
                interpreters: true,
                threads: Some(0),
                ..ONE_THREAD
            },
        ] {
            let memory = Endless::new(minor, shape);
            let mut stacks = stacks(&memory);
            assert!(matches!(stacks.read(), Err(ReadError::Implausible { .. })));
            let most = MAX_LIST as u64;
            // Each interpreter, its lock, and whether it collects garbage.
            assert!(memory.calls.get() < 4 * most + 100, "{memory:?}");
            // A thread state is read to its last field of interest; interpreters and threads are read in each attempt.
            assert!(memory.copied.get() < 5 * 8192 * most, "{memory:?}");
        }
    }
}

#[test]
fn line_tables_have_a_bound_together() {
    for minor in [9, 10, 11, 15] {
        let memory = Endless::new(
            minor,
            Shape {
                frames: Some(CODES),
                line_table: 4 << 20,
                ..ONE_THREAD
            },
        );
        let mut stacks = stacks(&memory);
        let reading = stacks.read().unwrap();
        assert_eq!(reading.truncated, 1);
        let depth = stacks.threads().next().unwrap().1.frames.len() as u64;
        assert!(depth <= MAX_LINE_TABLES / (4 << 20), "3.{minor}: {depth}");
        // From 3.11 on the walk looks for a newer frame first, and finds one here whose code may be beyond the bound.
        assert!(depth > 0 || minor > 10);
    }
}

#[test]
fn the_names_of_threads_without_an_end_are_given_up() {
    for minor in 8..=15 {
        let memory = Endless::new(
            minor,
            Shape {
                entries: 100_000,
                ..ONE_THREAD
            },
        );
        let names = thread_names(&&memory, &memory.layout, at(Kind::Interpreter, 0));
        assert!(names.is_empty());
        // To see that there are too many, each of the threads is looked at.
        assert!(memory.calls.get() > 100_000, "{memory:?}");
        assert!(memory.calls.get() < 1_000_000, "{memory:?}");
        assert!(memory.copied.get() < 1 << 30, "{memory:?}");
    }
}
