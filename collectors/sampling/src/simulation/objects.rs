//! Python objects in the image: strings, code objects, and the lists that lead to the one thread.

use super::image::Image;
use crate::layout::{FrameSize, GilPlace, Instruction, Layout, Minor};

/// Bytes of a code object, its bytecode included.
pub(super) const CODE_SIZE: u64 = 320;
/// Bytes of a string of up to 63 ASCII characters.
pub(super) const STRING_SIZE: u64 = 128;
/// Code units of the bytecode of each code object.
const UNITS: u64 = 40;
/// `CO_GENERATOR`.
const GENERATOR: u32 = 0x20;
const FILE: &str = "simulated.py";

/// The objects that every interpreter has, by their addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Objects {
    pub(super) runtime: u64,
    pub(super) interpreter: u64,
    pub(super) thread: u64,
    pub(super) code_type: u64,
    file: u64,
    empty: u64,
}

impl Objects {
    pub(super) fn new(image: &mut Image, layout: &Layout) -> Self {
        let [runtime, interpreter, thread] = [8192, 16384, 1024].map(|size| image.allocate(size));
        image.put_u64(runtime + layout.runtime.interpreters_head, interpreter);
        image.put_u64(interpreter + layout.interpreter.threads_head, thread);
        image.put_u64(thread + layout.thread.interpreter, interpreter);
        image.put_u64(thread + layout.thread.thread_id, 0x7fff_1234);
        if let Some(offset) = layout.thread.native_thread_id {
            image.put_u64(thread + offset, 4242);
        }
        let lock = match layout.gil.place {
            GilPlace::Runtime(offset) => runtime + offset,
            GilPlace::Interpreter(offset) => {
                let lock = image.allocate(512);
                image.put_u64(interpreter + offset, lock);
                lock
            }
        };
        image.put_u64(lock + layout.gil.last_holder, thread);
        image.put(lock + layout.gil.locked, &1i32.to_le_bytes());
        let code_type = image.allocate(256);
        let name = image.allocate(64);
        image.put(name, b"code\0");
        image.put_u64(code_type + layout.object.tp_name, name);
        let empty = image.allocate(64);
        let file = image.allocate(STRING_SIZE);
        write_string(image, layout, file, FILE);
        Self {
            runtime,
            interpreter,
            thread,
            code_type,
            file,
            empty,
        }
    }
}

/// Writes a `str` object.
pub(super) fn write_string(image: &mut Image, layout: &Layout, address: u64, text: &str) {
    let fields = &layout.unicode;
    image.put_u64(address + fields.length, text.len() as u64);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    image.put_u64(address + fields.hash, hash);
    let state = (1_u32 | 0b0_1000 | 0b1_0000) << fields.kind_bit;
    image.put(address + fields.state, &state.to_le_bytes());
    image.put(address + fields.ascii_data, text.as_bytes());
    image.put(address + fields.ascii_data + text.len() as u64, &[0]);
}

/// A code object in the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct CodeObject {
    pub(super) address: u64,
    pub(super) name: u64,
    /// Bytes of a frame of it, where frames lie on the data stack.
    pub(super) frame_size: u64,
    pub(super) version: u32,
    pub(super) bytes: u64,
}

/// Writes a code object; the addresses are those in `code`.
pub(super) fn write_code(
    image: &mut Image,
    layout: &Layout,
    objects: &Objects,
    code: &CodeObject,
    text: &str,
    slots: u64,
    generator: bool,
) {
    let fields = &layout.code;
    write_string(image, layout, code.name, text);
    let at = code.address;
    image.put_u64(at + layout.object.ob_type, objects.code_type);
    image.put_u64(at + layout.object.bytes_size, UNITS);
    image.put_u64(at + fields.filename, objects.file);
    image.put_u64(at + fields.name, code.name);
    if let Some(offset) = fields.qualname {
        image.put_u64(at + offset, code.name);
    }
    image.put_u64(at + fields.line_table, objects.empty);
    image.put(at + fields.first_line, &7_u32.to_le_bytes());
    let flags: u32 = if generator { GENERATOR } else { 0 };
    image.put(at + fields.flags, &flags.to_le_bytes());
    if let Some(offset) = fields.version {
        image.put(at + offset, &code.version.to_le_bytes());
    }
    if let Some(offset) = fields.code_bytes {
        image.put_u64(at + offset, code.bytes);
    }
    let put_u32 = |image: &mut Image, offset, value: u64| {
        image.put(at + offset, &(value as u32).to_le_bytes());
    };
    match fields.frame_size {
        FrameSize::Stored(offset) => {
            put_u32(image, offset, code.frame_size / 8);
            put_u32(image, fields.first_line + 4, slots / 2);
        }
        FrameSize::Computed {
            nlocalsplus,
            stacksize,
        } => {
            put_u32(image, nlocalsplus, slots / 2);
            put_u32(image, stacksize, slots - slots / 2);
        }
        FrameSize::None => {}
    }
}

/// What a frame that executes `code` holds as its instruction, in its 8 bytes: the one at `unit`.
pub(super) fn instruction(layout: &Layout, code: u64, unit: u64) -> u64 {
    match layout.frame.instruction {
        Instruction::ByteIndex(_) => 2 * unit,
        Instruction::UnitIndex(_) => unit,
        // Up to 3.12 (`prev_instr`) it is the instruction before the next one.
        Instruction::Pointer(_) => {
            let before = if layout.version <= Minor(3, 12) { 2 } else { 0 };
            code + layout.code.bytecode.unwrap_or(0) + 2 * unit - before
        }
    }
}
