//! An interpreter that runs a program in simulated time.
//!
//! What it does to its memory is a row of stores, each with the moment at which it takes effect, in the
//! order in which that version of CPython makes them; what the program does next is decided when all of
//! them have taken effect. Times are picoseconds.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::image::Image;
use super::objects::{CODE_SIZE, CodeObject, Objects, STRING_SIZE, write_code};
use super::program::{Op, Program};
use super::truth::{EMPTY, Path, Truth};
use crate::layout::{FrameChain, Layout, Minor};
use crate::memory::CACHE_LINE;

pub(super) const NANOSECOND: u64 = 1000;
/// From one store of the interpreter to the next.
const STORE: u64 = 700;

/// Something that happens at one moment.
#[derive(Debug)]
pub(super) enum Effect {
    Word(u64, u64),
    Half(u64, u32),
    Byte(u64, u8),
    Map(u64, u64),
    Unmap(u64, u64),
    /// The stack is another one, as the thread state has it.
    Top(Path),
    /// A function has another code object.
    Define(usize, CodeObject, u32),
    /// The program starts over.
    Repeat,
}

/// A function of the program as it is now.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) code: CodeObject,
    /// How often it was compiled anew.
    pub(super) generation: u32,
    /// The frame object that waits for the next call (`co_zombieframe`, up to 3.10).
    pub(super) zombie: Option<u64>,
}

/// A function that was called and has not returned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Activation {
    pub(super) function: usize,
    pub(super) frame: u64,
    pub(super) generator: Option<usize>,
    /// Whether C code called it.
    pub(super) from_c: bool,
    pub(super) path: Path,
    step: u32,
    argument: u32,
}

/// A generator that was created and is not running.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspended {
    pub(super) function: usize,
    pub(super) frame: u64,
    step: u32,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) image: Image,
    pub(super) layout: Layout,
    pub(super) objects: Objects,
    pub(super) program: Program,
    pub(super) functions: Vec<Function>,
    pub(super) stack: Vec<Activation>,
    pub(super) generators: Vec<Option<Suspended>>,
    pub(super) truth: Truth,
    /// How often each function was compiled anew, by now.
    pub(super) generations: Vec<u32>,
    /// How often the program has started over, by now.
    pub(super) repeats: u64,
    /// Address and size of each chunk of the data stack.
    pub(super) chunks: Vec<(u64, u64)>,
    pub(super) data_top: u64,
    /// `datastack_cached_chunk` of 3.15.
    pub(super) cached_chunk: Option<(u64, u64)>,
    /// Where the C stack ends.
    pub(super) c_stack: u64,
    /// `free_list` of frame objects, up to 3.10.
    pub(super) free_frames: Vec<u64>,
    /// How much longer or shorter than usual a piece of work may take, in hundredths.
    pub(super) unsteady: u64,
    random: fastrand::Rng,
    versions: u32,
    queue: VecDeque<(u64, Effect)>,
    /// When the next thing that is not in the queue yet happens.
    cursor: u64,
    pub(super) now: u64,
    /// Lines of the cache that a reader has taken a copy of.
    shared: FxHashSet<u64>,
    /// How long the first store to such a line takes, in picoseconds: the reader's copy has to be given up first.
    pub(super) stall: u64,
    /// How much later than on its own the program is by now, because it was read.
    delayed: u64,
}

impl Machine {
    pub(super) fn new(program: Program, layout: Layout) -> Self {
        let mut image = Image::new();
        let objects = Objects::new(&mut image, &layout);
        let mut machine = Self {
            c_stack: image.c_stack(),
            image,
            layout,
            objects,
            program,
            functions: Vec::new(),
            stack: Vec::new(),
            generators: vec![None; 8],
            truth: Truth::new(),
            generations: vec![0; program.functions.len()],
            repeats: 0,
            chunks: Vec::new(),
            data_top: 0,
            cached_chunk: None,
            free_frames: Vec::new(),
            unsteady: 0,
            random: fastrand::Rng::with_seed(7),
            versions: 1,
            queue: VecDeque::new(),
            cursor: 0,
            now: 0,
            shared: FxHashSet::default(),
            stall: 0,
            delayed: 0,
        };
        for number in 0..program.functions.len() {
            let code = machine.compile(number);
            machine.functions.push(Function {
                code,
                generation: 0,
                zombie: None,
            });
            machine.write_function(number, &code, 0);
        }
        machine.start_thread();
        machine.push(0, 0, true);
        machine
    }

    pub(super) fn minor(&self) -> u8 {
        let Minor(_, minor) = self.layout.version;
        minor
    }

    pub(super) fn frame_objects(&self) -> bool {
        self.layout.chain == FrameChain::FrameObjects
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, until: u64) {
        loop {
            match self.queue.front() {
                Some((at, _)) if *at <= until => {
                    if let Some((at, effect)) = self.queue.pop_front() {
                        if self.waits(&effect) {
                            self.queue.push_front((at + self.stall, effect));
                        } else {
                            self.apply(at, effect);
                        }
                    }
                }
                None if self.cursor <= until => self.proceed(),
                _ => break,
            }
        }
        self.now = until;
    }

    /// When the next thing happens.
    pub(super) fn next_moment(&self) -> u64 {
        self.queue.front().map_or(self.cursor, |(at, _)| *at)
    }

    /// Something happens at the cursor, which moves on by the time of a store.
    pub(super) fn effect(&mut self, effect: Effect) {
        self.queue.push_back((self.cursor, effect));
        self.cursor += STORE;
    }

    pub(super) fn word(&mut self, address: u64, value: u64) {
        self.effect(Effect::Word(address, value));
    }

    pub(super) fn half(&mut self, address: u64, value: i32) {
        self.effect(Effect::Half(address, value.cast_unsigned()));
    }

    pub(super) fn byte(&mut self, address: u64, value: u8) {
        self.effect(Effect::Byte(address, value));
    }

    /// From here on the stack is `path`: comes right before the store that makes it so.
    pub(super) fn top(&mut self, path: Path) {
        self.queue.push_back((self.cursor, Effect::Top(path)));
    }

    pub(super) fn pass(&mut self, nanoseconds: u64) {
        self.cursor += nanoseconds * NANOSECOND;
    }

    /// The line at an address was read.
    pub(super) fn share(&mut self, address: u64) {
        if self.stall > 0 {
            self.shared.insert(address / CACHE_LINE);
        }
    }

    /// No store waits for readers any more. Gives by how much the program is late.
    pub(super) fn forget_readers(&mut self) -> u64 {
        self.shared.clear();
        self.delayed
    }

    /// Whether a store has to wait, and with it all that follows.
    fn waits(&mut self, effect: &Effect) -> bool {
        let (Effect::Word(address, _) | Effect::Half(address, _) | Effect::Byte(address, _)) =
            effect
        else {
            return false;
        };
        if !self.shared.remove(&(address / CACHE_LINE)) {
            return false;
        }
        for (at, _) in &mut self.queue {
            *at += self.stall;
        }
        self.cursor += self.stall;
        self.delayed += self.stall;
        true
    }

    fn apply(&mut self, at: u64, effect: Effect) {
        match effect {
            Effect::Word(address, value) => self.image.put_u64(address, value),
            Effect::Half(address, value) => self.image.put(address, &value.to_le_bytes()),
            Effect::Byte(address, value) => self.image.put(address, &[value]),
            Effect::Map(address, size) => self.image.map(address, size),
            Effect::Unmap(address, size) => self.image.unmap(address, size),
            Effect::Top(path) => self.truth.switch(path, at),
            Effect::Define(function, code, generation) => {
                self.write_function(function, &code, generation);
                self.generations[function] = generation;
            }
            Effect::Repeat => self.repeats += 1,
        }
    }

    /// The program's next operation.
    fn proceed(&mut self) {
        let Some(running) = self.stack.last_mut() else {
            panic!("the program has ended");
        };
        let spec = &self.program.functions[running.function];
        let op = (spec.body)(running.step, running.argument);
        running.step += 1;
        if let Some(unit) = op.instruction() {
            let (frame, function) = (running.frame, running.function);
            self.write_instruction(frame, function, unit);
        }
        match op {
            Op::Work(nanoseconds) => self.work(nanoseconds),
            Op::Call(function, argument) => self.push(function, argument, false),
            Op::CallFromC(function, argument) => self.push(function, argument, true),
            Op::Create(number, function) => {
                let frame = self.create_generator(function);
                self.generators[number] = Some(Suspended {
                    function,
                    frame,
                    step: 0,
                });
            }
            Op::Resume(number) => self.resume(number, false),
            Op::ResumeFromC(number) => self.resume(number, true),
            Op::Yield => {
                if let Some(running) = self.stack.pop() {
                    let number = running.generator.expect("only a generator yields");
                    self.generators[number] = Some(Suspended {
                        function: running.function,
                        frame: running.frame,
                        step: running.step,
                    });
                    self.yield_from(running);
                }
            }
            Op::Return => {
                if let Some(running) = self.stack.pop() {
                    self.return_from(running);
                }
            }
            Op::Redefine(function) => self.redefine(function),
            Op::Repeat => self.effect(Effect::Repeat),
        }
    }

    fn work(&mut self, nanoseconds: u64) {
        let spread = nanoseconds * self.unsteady / 100;
        let spread = self.random.u64(0..=2 * spread) as i64 - spread as i64;
        self.pass(nanoseconds.saturating_add_signed(spread));
    }

    /// The stack below which the next frame comes.
    pub(super) fn current_path(&self) -> Path {
        self.stack.last().map_or(EMPTY, |running| running.path)
    }

    fn push(&mut self, function: usize, argument: u32, from_c: bool) {
        let path = self.truth.path(self.current_path(), function);
        let frame = self.enter_function(function, path, from_c);
        self.stack.push(Activation {
            function,
            frame,
            generator: None,
            from_c,
            path,
            step: 0,
            argument,
        });
    }

    fn resume(&mut self, number: usize, from_c: bool) {
        let generator = self.generators[number].take().expect("it is not running");
        let path = self.truth.path(self.current_path(), generator.function);
        // 3.11 resumes all generators through C; before, every call is one.
        let from_c = from_c || self.minor() == 11;
        self.enter_generator(generator.frame, path, from_c);
        self.stack.push(Activation {
            function: generator.function,
            frame: generator.frame,
            generator: Some(number),
            from_c,
            path,
            step: generator.step,
            argument: 0,
        });
    }

    /// Chooses the places of a new code object.
    fn compile(&mut self, function: usize) -> CodeObject {
        self.versions += 1;
        CodeObject {
            address: self.image.allocate(CODE_SIZE),
            name: self.image.allocate(STRING_SIZE),
            frame_size: self.layout.frame.size + 8 * self.program.functions[function].slots,
            version: self.versions,
            bytes: self.image.allocate(64),
        }
    }

    fn write_function(&mut self, number: usize, code: &CodeObject, generation: u32) {
        let spec = self.program.functions[number];
        let name = match generation {
            0 => spec.name.to_string(),
            _ => format!("{}#{generation}", spec.name),
        };
        write_code(
            &mut self.image,
            &self.layout,
            &self.objects,
            code,
            &name,
            spec.slots,
            spec.generator,
        );
    }

    fn redefine(&mut self, number: usize) {
        self.pass(500);
        let old = self.functions[number].code;
        if let Some(offset) = self.layout.interpreter.code_generation {
            // `code_dealloc` counts before it frees anything.
            let count = u64::from(self.functions[number].generation) + 1;
            self.word(self.objects.interpreter + offset, count);
        }
        if let Some(frame) = self.functions[number].zombie.take() {
            self.release_frame(frame);
        }
        self.image.release(old.name, STRING_SIZE);
        self.image.release(old.bytes, 64);
        self.image.release(old.address, CODE_SIZE);
        // The allocator's list of free blocks runs through their first word.
        self.word(old.address, 0);
        self.pass(15_000);
        let code = self.compile(number);
        let function = &mut self.functions[number];
        function.code = code;
        function.generation += 1;
        let generation = function.generation;
        self.effect(Effect::Define(number, code, generation));
    }
}
