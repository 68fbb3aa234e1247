//! Calls, returns and generators, store by store as each version of CPython makes them.
//!
//! 3.8 to 3.10: `_PyFrame_New_NoTrack` and `frame_dealloc` in `Objects/frameobject.c`, `gen_send_ex` in
//! `Objects/genobject.c`. 3.11: `Python/ceval.c`. 3.12 and later: `Python/bytecodes.c`, `Python/ceval.c`.
//! Chunks of the data stack: `push_chunk` and `_PyThreadState_PopFrame` in `Python/pystate.c`.

use super::machine::{Activation, Effect, Machine};
use super::objects::instruction;
use super::truth::Path;
use crate::layout::{FrameChain, Instruction};

/// `DATA_STACK_CHUNK_SIZE`.
const CHUNK: u64 = 16 << 10;
/// `previous`, `size` and `top` of a chunk.
const CHUNK_HEADER: u64 = 24;
/// `PyFrame_MAXFREELIST`.
const MAX_FREE_FRAMES: usize = 200;
/// Bytes of a frame object.
const FRAME_OBJECT: u64 = 2560;
/// `gi_iframe` in a generator.
const GENERATOR_HEAD: u64 = 80;
/// Bytes of the C stack that an evaluation loop takes.
const LOOP: u64 = 416;
/// Where in them the shim lies, and the `_PyCFrame`.
const SHIM: u64 = 128;
const CFRAME: u64 = 64;
/// Where the first shim of 3.15 lies in the thread state.
const BASE_FRAME: u64 = 768;
/// `root_cframe`.
const ROOT_CFRAME: u64 = 640;

const FRAME_OWNED_BY_THREAD: u8 = 0;
const FRAME_OWNED_BY_GENERATOR: u8 = 1;

impl Machine {
    fn thread(&self) -> u64 {
        self.objects.thread
    }

    /// `stacktop` or `stackpointer`: both lie behind the instruction.
    fn stack_pointer(&self) -> u64 {
        64
    }

    /// `is_entry` of 3.11.
    fn is_entry(&self) -> u64 {
        self.stack_pointer() + 4
    }

    /// `f_executing`, and `f_state` in 3.10.
    fn executing(&self) -> u64 {
        if self.minor() == 10 { 108 } else { 116 }
    }

    pub(super) fn start_thread(&mut self) {
        let (thread, fields) = (self.thread(), self.layout.thread);
        if let FrameChain::CFrame { .. } = self.layout.chain {
            self.image
                .put_u64(thread + fields.frame, thread + ROOT_CFRAME);
        }
        if let Some(base) = fields.base_frame {
            let frame = thread + BASE_FRAME;
            self.image.put_u64(thread + base, frame);
            self.image.put_u64(thread + fields.frame, frame);
            let owner = self.layout.frame.owner.unwrap_or(0);
            self.image
                .put(frame + owner, &[self.layout.frame.shim_owner]);
        }
    }

    /// The frame that runs, or what is below the outermost one.
    fn current_frame(&self) -> u64 {
        match self.stack.last() {
            Some(running) => running.frame,
            None if self.layout.thread.base_frame.is_some() => self.thread() + BASE_FRAME,
            None => 0,
        }
    }

    /// Where the address of the current frame is stored, in the evaluation loop that runs.
    fn current_frame_place(&self) -> u64 {
        match self.layout.chain {
            FrameChain::CFrame { current_frame } => self.cframe() + current_frame,
            _ => self.thread() + self.layout.thread.frame,
        }
    }

    fn cframe(&self) -> u64 {
        if self.c_stack == self.image.c_stack() {
            self.thread() + ROOT_CFRAME
        } else {
            self.c_stack + CFRAME
        }
    }

    pub(super) fn write_instruction(&mut self, frame: u64, function: usize, unit: u64) {
        let value = instruction(&self.layout, self.functions[function].code.address, unit);
        match self.layout.frame.instruction {
            Instruction::ByteIndex(offset) | Instruction::UnitIndex(offset) => {
                self.half(frame + offset, value as i32);
            }
            Instruction::Pointer(offset) => self.word(frame + offset, value),
        }
    }

    /// Up to 3.13 `stacktop` is -1 while the frame runs; later ones leave what was there.
    fn set_running(&mut self, frame: u64) {
        if !self.frame_objects() && self.minor() <= 13 {
            self.half(frame + self.stack_pointer(), -1);
        }
    }

    /// The frame says how many values lie on its stack, above its locals, before another one runs.
    fn set_waiting(&mut self, frame: u64, function: usize, height: u64) {
        let top = self.program.functions[function].slots / 2 + height;
        self.set_stack_top(frame, top);
    }

    fn set_stack_top(&mut self, frame: u64, top: u64) {
        if self.minor() <= 13 {
            self.half(frame + self.stack_pointer(), top as i32);
        } else {
            let localsplus = frame + self.layout.frame.size;
            self.word(frame + self.stack_pointer(), localsplus + 8 * top);
        }
    }

    /// The caller that runs waits from now on.
    fn caller_waits(&mut self, height: u64) {
        if let Some(&Activation {
            frame, function, ..
        }) = self.stack.last()
        {
            self.set_waiting(frame, function, height);
        }
    }

    /// Calls a function, and gives the address of its frame.
    pub(super) fn enter_function(&mut self, function: usize, path: Path, from_c: bool) -> u64 {
        if self.frame_objects() {
            let frame = self.new_frame_object(function);
            let back = self.current_frame();
            self.word(frame + self.layout.frame.previous, back);
            self.write_lasti(frame);
            self.run_frame_object(frame, path);
            return frame;
        }
        let caller = self.current_frame();
        let frame = self.push_frame(function, caller, from_c);
        if from_c {
            self.enter_loop(frame, path);
        } else {
            self.caller_waits(0);
            if self.minor() < 14 {
                self.word(frame + self.layout.frame.previous, caller);
            }
            self.top(path);
            self.word(self.current_frame_place(), frame);
        }
        self.set_running(frame);
        self.pass(3);
        frame
    }

    /// Makes a frame on the data stack. Nothing leads to it yet.
    fn push_frame(&mut self, function: usize, caller: u64, from_c: bool) -> u64 {
        let code = self.functions[function].code;
        if from_c {
            self.pass(25);
        } else {
            self.pass(6);
        }
        let frame = self.raise_data_stack(code.frame_size);
        let fields = self.layout.frame;
        if self.minor() >= 14 {
            self.word(frame + fields.previous, caller);
        }
        self.word(frame + fields.code, code.address);
        self.set_waiting(frame, function, 0);
        self.write_instruction(frame, function, 0);
        self.byte(frame + fields.owner.unwrap_or(0), FRAME_OWNED_BY_THREAD);
        if self.minor() == 11 {
            self.byte(frame + self.is_entry(), 0);
        }
        self.pass(4);
        frame
    }

    fn raise_data_stack(&mut self, size: u64) -> u64 {
        let chunk_place = self.thread() + self.layout.thread.datastack_chunk.unwrap_or(0);
        let top_place = chunk_place + 8;
        if let Some(&(chunk, length)) = self.chunks.last() {
            if size < chunk + length - self.data_top {
                let frame = self.data_top;
                self.data_top += size;
                self.word(top_place, self.data_top);
                return frame;
            }
            let used = (self.data_top - chunk - CHUNK_HEADER) / 8;
            self.push_chunk(size);
            self.word(chunk + 16, used);
        } else {
            self.push_chunk(size);
        }
        let &(chunk, length) = self.chunks.last().expect("a chunk was pushed");
        let first = chunk + CHUNK_HEADER + if self.chunks.len() == 1 { 8 } else { 0 };
        self.word(chunk_place, chunk);
        self.word(chunk_place + 16, chunk + length);
        self.data_top = first + size;
        self.word(top_place, self.data_top);
        first
    }

    fn push_chunk(&mut self, size: u64) {
        let previous = self.chunks.last().map_or(0, |(chunk, _)| *chunk);
        let mut length = CHUNK;
        while length < size + 8 * 16 {
            length *= 2;
        }
        let chunk = match self.cached_chunk.take_if(|(_, cached)| *cached >= length) {
            Some((chunk, cached)) => {
                length = cached;
                chunk
            }
            None => {
                // The kernel maps it, and maps its pages when they are first touched.
                self.pass(1500);
                let chunk = self.image.place_chunk(length);
                self.effect(Effect::Map(chunk, length));
                chunk
            }
        };
        self.word(chunk, previous);
        self.word(chunk + 8, length);
        self.word(chunk + 16, 0);
        self.chunks.push((chunk, length));
    }

    /// `_PyThreadState_PopFrame`.
    fn pop_frame(&mut self, frame: u64) {
        let chunk_place = self.thread() + self.layout.thread.datastack_chunk.unwrap_or(0);
        let &(chunk, length) = self.chunks.last().expect("frames lie in chunks");
        self.data_top = frame;
        if frame != chunk + CHUNK_HEADER {
            self.word(chunk_place + 8, frame);
            return;
        }
        self.chunks.pop();
        let &(previous, previous_length) = self.chunks.last().expect("the first one stays");
        // What the older chunk says of its top; the frames there end at it.
        let used = self
            .stack
            .iter()
            .rev()
            .filter(|running| running.generator.is_none() && running.frame != frame)
            .find(|running| (previous..previous + previous_length).contains(&running.frame))
            .map_or(previous + CHUNK_HEADER + 8, |running| {
                running.frame + self.functions[running.function].code.frame_size
            });
        self.data_top = used;
        self.word(chunk_place + 8, used);
        self.word(chunk_place, previous);
        if self.minor() >= 15 && self.cached_chunk.is_none() {
            self.cached_chunk = Some((chunk, length));
        } else {
            self.pass(800);
            self.effect(Effect::Unmap(chunk, length));
            self.image.displace_chunk(chunk, length);
        }
        self.word(chunk_place + 16, previous + previous_length);
    }

    /// `_PyEval_EvalFrameDefault`, up to its first instruction.
    fn enter_loop(&mut self, frame: u64, path: Path) {
        self.pass(12);
        let caller = self.current_frame();
        let outer_cframe = self.cframe();
        self.c_stack -= LOOP;
        let fields = self.layout.frame;
        if let FrameChain::CFrame { current_frame } = self.layout.chain {
            let cframe = self.cframe();
            self.word(cframe + current_frame + 8, outer_cframe);
            self.word(self.thread() + self.layout.thread.frame, cframe);
        }
        if self.minor() == 11 {
            self.word(frame + fields.previous, caller);
            self.byte(frame + self.is_entry(), 1);
        } else {
            let shim = self.c_stack + SHIM;
            self.byte(shim + fields.owner.unwrap_or(0), fields.shim_owner);
            self.word(shim + fields.code, 0);
            self.word(shim + fields.previous, caller);
            self.word(frame + fields.previous, shim);
        }
        self.top(path);
        self.word(self.current_frame_place(), frame);
    }

    /// Leaves the evaluation loop that was entered last.
    fn leave_loop(&mut self, caller: u64) {
        match self.layout.chain {
            FrameChain::CFrame { .. } => {
                self.c_stack += LOOP;
                let outer = self.cframe();
                self.word(self.thread() + self.layout.thread.frame, outer);
            }
            _ => {
                self.word(self.thread() + self.layout.thread.frame, caller);
                self.c_stack += LOOP;
            }
        }
        self.pass(8);
    }

    /// The frame below `running`, which is on the stack no more: a shim where it was called from C.
    fn previous_of(&self, running: &Activation) -> u64 {
        if running.from_c && self.minor() >= 12 {
            self.c_stack + SHIM
        } else {
            self.current_frame()
        }
    }

    pub(super) fn return_from(&mut self, running: Activation) {
        let below = self.current_path();
        let (frame, fields) = (running.frame, self.layout.frame);
        if self.frame_objects() {
            self.byte(frame + self.executing(), u8::from(self.minor() == 10));
            self.leave_frame_object(below);
            if running.generator.is_some() {
                self.pass(5);
                self.word(frame + fields.previous, 0);
            }
            self.pass(8);
            self.free_frame_object(frame, running.function);
            return;
        }
        self.set_waiting(frame, running.function, 0);
        let previous = self.previous_of(&running);
        if self.minor() == 11 {
            if running.from_c {
                self.top(below);
                self.leave_loop(previous);
                self.clear_frame(&running);
            } else {
                // Only here is a frame popped before it is unlinked.
                self.clear_frame(&running);
                self.top(below);
                self.word(self.current_frame_place(), previous);
            }
        } else {
            self.top(below);
            self.word(self.current_frame_place(), previous);
            self.clear_frame(&running);
            if running.from_c {
                self.leave_loop(self.current_frame());
            }
        }
        self.go_on(&running);
    }

    /// `_PyEvalFrameClearAndPop`.
    fn clear_frame(&mut self, running: &Activation) {
        let (frame, fields) = (running.frame, self.layout.frame);
        // `_PyFrame_ClearLocals`.
        self.pass(1);
        if self.minor() >= 12 {
            self.set_stack_top(frame, 0);
        }
        self.pass(4);
        match running.generator {
            Some(_) => {
                if self.minor() > 11 || !running.from_c {
                    self.word(frame + fields.previous, 0);
                }
                self.image.release(
                    frame - GENERATOR_HEAD,
                    GENERATOR_HEAD + self.functions[running.function].code.frame_size,
                );
                if self.minor() == 11 {
                    self.word(frame + fields.previous, 0);
                }
            }
            None => {
                if self.minor() >= 14 {
                    // `_PyStackRef` null is an integer with a tag.
                    self.word(frame + fields.code, 1);
                }
                self.pop_frame(frame);
            }
        }
    }

    /// The caller takes the result; a C function does not touch its caller's frame.
    fn go_on(&mut self, running: &Activation) {
        if running.from_c || self.stack.is_empty() {
            return;
        }
        let caller = self.current_frame();
        self.set_running(caller);
        self.pass(3);
    }

    /// Calls a generator function: its frame lives for a moment before it becomes a generator.
    pub(super) fn create_generator(&mut self, function: usize) -> u64 {
        let fields = self.layout.frame;
        if self.frame_objects() {
            let frame = self.new_frame_object(function);
            self.word(frame + fields.previous, 0);
            self.write_lasti(frame);
            self.pass(30);
            return frame;
        }
        let code = self.functions[function].code;
        let path = self.truth.path(self.current_path(), function);
        let on_stack = self.enter_function(function, path, false);
        self.pass(8);
        let object = self.image.allocate(GENERATOR_HEAD + code.frame_size);
        let frame = object + GENERATOR_HEAD;
        self.pass(25);
        self.set_waiting(on_stack, function, 0);
        self.word(frame + fields.code, code.address);
        self.word(frame + fields.previous, 0);
        self.write_instruction(frame, function, 1);
        self.set_waiting(frame, function, 0);
        self.byte(frame + fields.owner.unwrap_or(0), FRAME_OWNED_BY_GENERATOR);
        self.pop_frame(on_stack);
        let caller = self.current_frame();
        let below = self.current_path();
        self.top(below);
        self.word(self.current_frame_place(), caller);
        self.set_running(caller);
        frame
    }

    pub(super) fn enter_generator(&mut self, frame: u64, path: Path, from_c: bool) {
        let caller = self.current_frame();
        if self.frame_objects() {
            self.pass(10);
            self.word(frame + self.layout.frame.previous, caller);
            self.run_frame_object(frame, path);
            return;
        }
        if from_c {
            self.pass(10);
            self.enter_loop(frame, path);
        } else {
            self.pass(3);
            // The generator is on the stack.
            self.caller_waits(1);
            self.word(frame + self.layout.frame.previous, caller);
            self.top(path);
            self.word(self.current_frame_place(), frame);
        }
        self.set_running(frame);
    }

    pub(super) fn yield_from(&mut self, running: Activation) {
        let below = self.current_path();
        let (frame, previous_field) = (running.frame, self.layout.frame.previous);
        if self.frame_objects() {
            self.byte(
                frame + self.executing(),
                if self.minor() == 10 { 0xff } else { 0 },
            );
            self.leave_frame_object(below);
            self.pass(5);
            self.word(frame + previous_field, 0);
            return;
        }
        self.set_waiting(frame, running.function, 0);
        let previous = self.previous_of(&running);
        if self.minor() == 11 {
            self.top(below);
            self.leave_loop(previous);
            self.word(frame + previous_field, 0);
        } else {
            self.top(below);
            self.word(self.current_frame_place(), previous);
            self.word(frame + previous_field, 0);
            if running.from_c {
                self.leave_loop(self.current_frame());
            }
        }
        self.go_on(&running);
    }

    fn new_frame_object(&mut self, function: usize) -> u64 {
        self.pass(15);
        if let Some(frame) = self.functions[function].zombie.take() {
            return frame;
        }
        let code = self.functions[function].code.address;
        let frame = match self.free_frames.pop() {
            Some(frame) => frame,
            None => self.image.allocate(FRAME_OBJECT),
        };
        self.word(frame + self.layout.frame.code, code);
        frame
    }

    fn write_lasti(&mut self, frame: u64) {
        let (Instruction::ByteIndex(offset)
        | Instruction::UnitIndex(offset)
        | Instruction::Pointer(offset)) = self.layout.frame.instruction;
        self.half(frame + offset, -1);
        // `FRAME_CREATED` in 3.10.
        let state = if self.minor() == 10 { 0xfe } else { 0 };
        self.byte(frame + self.executing(), state);
        self.pass(5);
    }

    fn run_frame_object(&mut self, frame: u64, path: Path) {
        self.top(path);
        self.word(self.thread() + self.layout.thread.frame, frame);
        self.pass(3);
        self.byte(frame + self.executing(), u8::from(self.minor() != 10));
    }

    fn leave_frame_object(&mut self, below: Path) {
        self.top(below);
        let back = self.current_frame();
        self.word(self.thread() + self.layout.thread.frame, back);
    }

    /// `frame_dealloc`: `f_back` keeps what it was, but in the list of free frames it leads to the next.
    fn free_frame_object(&mut self, frame: u64, function: usize) {
        if self.functions[function].zombie.is_none() {
            self.functions[function].zombie = Some(frame);
        } else {
            self.release_frame(frame);
        }
    }

    /// Puts a frame object on the list of free ones.
    pub(super) fn release_frame(&mut self, frame: u64) {
        if self.free_frames.len() < MAX_FREE_FRAMES {
            let next = self.free_frames.last().copied().unwrap_or(0);
            self.word(frame + self.layout.frame.previous, next);
            self.free_frames.push(frame);
        } else {
            self.image.release(frame, FRAME_OBJECT);
        }
    }
}
