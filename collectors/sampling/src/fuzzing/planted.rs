//! An interpreter as it should be: two threads, in one of them a generator and two chunks of the data stack, a
//! function whose code has no version, names of threads. What is done to it leads on from there.

use crate::layout::{Activity, FrameChain, FrameSize, Instruction, Layout, LineTableKind};

use super::arena::Arena;

/// `threading.get_ident()` of the two threads, and the name of the first.
const IDENTS: [u64; 2] = [0x7f01, 0x7f02];
pub(super) const THREAD_NAME: &str = "worker";
/// Slots of a frame behind its fixed part, half of them for locals.
const SLOTS: u32 = 4;
/// The code unit that each frame is at.
const UNIT: u64 = 2;
/// The first line of every function. At [`UNIT`] it executes the next one.
pub(super) const FIRST_LINE: u32 = 7;
const CHUNK: u64 = 1024;
const FRAME_OWNED_BY_GENERATOR: u8 = 1;
const CO_GENERATOR: u32 = 0x20;

/// Builds in an arena.
pub(super) struct Planter<'a> {
    pub(super) arena: &'a mut Arena,
    pub(super) layout: &'a Layout,
}

/// Addresses of what is planted first.
pub(super) struct Lists {
    pub(super) runtime: u64,
    interpreter: u64,
    threads: [u64; 2],
}

/// A code object, and the size of its frames.
#[derive(Clone, Copy)]
struct Code {
    address: u64,
    frame: u64,
}

impl Planter<'_> {
    /// What leads to the threads, which have no frames yet.
    pub(super) fn lists(&mut self) -> Lists {
        let layout = self.layout;
        let (fields, thread_fields) = (layout.interpreter, layout.thread);
        let runtime = self.arena.allocate(layout.runtime.interpreters_head + 8);
        let furthest = fields
            .modules
            .max(fields.threads_head)
            .max(fields.code_generation.unwrap_or(0));
        let interpreter = self.arena.allocate(furthest + 8);
        let threads = [512, 512].map(|size| self.arena.allocate(size));
        let lists = Lists {
            runtime,
            interpreter,
            threads,
        };
        let put = |arena: &mut Arena, at: u64, value: u64| arena.put_u64(at, value);
        put(
            self.arena,
            runtime + layout.runtime.interpreters_head,
            interpreter,
        );
        put(self.arena, interpreter + fields.id, 0);
        put(self.arena, interpreter + fields.next, 0);
        put(self.arena, interpreter + fields.threads_head, threads[0]);
        if let Some(offset) = fields.code_generation {
            put(self.arena, interpreter + offset, 1);
        }
        for (thread, (next, ident)) in threads
            .into_iter()
            .zip([threads[1], 0].into_iter().zip(IDENTS))
        {
            put(self.arena, thread + thread_fields.interpreter, interpreter);
            put(self.arena, thread + thread_fields.next, next);
            put(self.arena, thread + thread_fields.thread_id, ident);
            if let Some(offset) = thread_fields.native_thread_id {
                put(self.arena, thread + offset, ident & 0xff);
            }
        }
        lists
    }

    /// What the threads execute, and their names.
    pub(super) fn contents(&mut self, lists: &Lists) {
        let code_type = self.arena.allocate(256);
        let type_name = self.arena.allocate(64);
        self.arena.put(type_name, b"code\0");
        self.arena
            .put_u64(code_type + self.layout.object.tp_name, type_name);
        let outer = self.code(code_type, "outer", 1, 0);
        let inner = self.code(code_type, "inner", 0, 0);
        let generator = self.code(code_type, "generator", 3, CO_GENERATOR);
        self.stack(lists.threads[0], [outer, outer, generator, outer, inner]);
        self.stack(lists.threads[1], [outer]);
        self.names(lists.interpreter);
    }

    /// The frames of a thread, outermost first. A generator divides the chunks of the data stack.
    fn stack<const N: usize>(&mut self, thread: u64, codes: [Code; N]) {
        let fields = self.layout.thread;
        let on_data_stack = fields.datastack_chunk.is_some();
        let mut previous = self.foot(thread);
        let mut chunk = self.chunk(0);
        let mut end = chunk + 32;
        for (index, code) in codes.into_iter().enumerate() {
            let suspended_below = index == 2;
            let address = if suspended_below || !on_data_stack {
                self.arena.allocate(self.layout.frame.size + 32)
            } else {
                if index == 3 {
                    self.arena.put_u64(chunk + 16, (end - chunk - 24) / 8);
                    chunk = self.chunk(chunk);
                    end = chunk + 24;
                }
                end += code.frame;
                end - code.frame
            };
            let owner = if suspended_below && on_data_stack {
                FRAME_OWNED_BY_GENERATOR
            } else {
                0
            };
            let runs = index + 1 == N;
            self.frame(address, code, previous, owner, runs);
            previous = address;
        }
        if let Some(offset) = fields.datastack_chunk {
            self.arena.put_u64(thread + offset, chunk);
            self.arena.put_u64(thread + offset + 8, end);
        }
        if let FrameChain::CFrame { current_frame } = self.layout.chain {
            let c_frame = self.arena.allocate(current_frame + 8);
            self.arena.put_u64(c_frame + current_frame, previous);
            previous = c_frame;
        }
        self.arena.put_u64(thread + fields.frame, previous);
    }

    /// What the outermost frame has before it.
    fn foot(&mut self, thread: u64) -> u64 {
        let layout = self.layout;
        let Some(owner) = layout.frame.owner.filter(|_| !layout.shim_free()) else {
            return 0;
        };
        let shim = self.arena.allocate(layout.frame.size + 32);
        self.arena.put(shim + owner, &[layout.frame.shim_owner]);
        self.arena.put_u64(shim + layout.frame.previous, 0);
        if let Some(offset) = layout.thread.base_frame {
            self.arena.put_u64(thread + offset, shim);
        }
        shim
    }

    fn chunk(&mut self, previous: u64) -> u64 {
        if self.layout.thread.datastack_chunk.is_none() {
            return 0;
        }
        let chunk = self.arena.allocate(CHUNK);
        self.arena.put_u64(chunk, previous);
        self.arena.put_u64(chunk + 8, CHUNK);
        self.arena.put_u64(chunk + 16, 0);
        chunk
    }

    fn frame(&mut self, address: u64, code: Code, previous: u64, owner: u8, runs: bool) {
        let fields = self.layout.frame;
        self.arena.put_u64(address + fields.code, code.address);
        self.arena.put_u64(address + fields.previous, previous);
        match fields.instruction {
            Instruction::ByteIndex(at) => self.arena.put_u32(address + at, 2 * UNIT as u32),
            Instruction::UnitIndex(at) => self.arena.put_u32(address + at, UNIT as u32),
            Instruction::Pointer(at) => {
                let bytecode = code.address + self.layout.code.bytecode.unwrap_or(0);
                self.arena.put_u64(address + at, bytecode + 2 * UNIT);
                self.arena
                    .put_u64(address + at + 8, address + fields.size + 24);
            }
        }
        match self.layout.activity() {
            Activity::Flag(at, value) => {
                // The bytes beside it have to be something else than the flag.
                self.arena.put_u32(address + at, value.into());
            }
            Activity::StackTop(at) => {
                let height = SLOTS - 1;
                self.arena
                    .put_u32(address + at, if runs { u32::MAX } else { height });
            }
            Activity::Code => {}
        }
        if let Some(offset) = fields.owner {
            self.arena.put(address + offset, &[owner]);
        }
    }

    fn code(&mut self, code_type: u64, name: &str, version: u32, flags: u32) -> Code {
        let (fields, objects) = (self.layout.code, self.layout.object);
        let address = self.arena.allocate(384);
        let (file, text) = (self.string("a.py"), self.string(name));
        let lines = self.bytes(match fields.line_table_kind {
            LineTableKind::Lnotab => &[2, 1, 60, 1],
            LineTableKind::Ranges => &[2, 0, 60, 1],
            LineTableKind::Locations => &[0xd0, 0, 0, 0xdf, 0, 0],
        });
        let arena = &mut *self.arena;
        arena.put_u64(address + objects.ob_type, code_type);
        arena.put_u64(address + objects.bytes_size, 32);
        arena.put_u64(address + fields.filename, file);
        arena.put_u64(address + fields.name, text);
        arena.put_u64(address + fields.line_table, lines);
        arena.put_u32(address + fields.first_line, FIRST_LINE);
        arena.put_u32(address + fields.flags, flags);
        if let Some(offset) = fields.qualname {
            arena.put_u64(address + offset, text);
        }
        if let Some(offset) = fields.version {
            arena.put_u32(address + offset, version);
        }
        if let Some(offset) = fields.code_bytes {
            arena.put_u64(address + offset, lines);
        }
        let frame = self.layout.frame.size + 8 * u64::from(SLOTS);
        match fields.frame_size {
            FrameSize::Stored(offset) => {
                arena.put_u32(address + offset, (frame / 8) as u32);
                arena.put_u32(address + fields.first_line + 4, SLOTS / 2);
            }
            FrameSize::Computed {
                nlocalsplus,
                stacksize,
            } => {
                arena.put_u32(address + nlocalsplus, SLOTS / 2);
                arena.put_u32(address + stacksize, SLOTS / 2);
            }
            FrameSize::None => {}
        }
        Code { address, frame }
    }

    fn bytes(&mut self, value: &[u8]) -> u64 {
        let fields = self.layout.object;
        let address = self.arena.allocate(fields.bytes_data + value.len() as u64);
        self.arena
            .put_u64(address + fields.bytes_size, value.len() as u64);
        self.arena.put(address + fields.bytes_data, value);
        address
    }

    fn string(&mut self, text: &str) -> u64 {
        let fields = self.layout.unicode;
        let address = self.arena.allocate(fields.compact_data + 32);
        self.arena
            .put_u64(address + fields.length, text.len() as u64);
        let compact_ascii_one_byte: u32 = 0b11_001;
        self.arena.put_u32(
            address + fields.state,
            compact_ascii_one_byte << fields.kind_bit,
        );
        self.arena.put(address + fields.ascii_data, text.as_bytes());
        address
    }

    /// `sys.modules["threading"]._active[ident]._name`, in dicts of their own throughout.
    fn names(&mut self, interpreter: u64) {
        let header = self.layout.object.ob_type + 8;
        let kind = self.arena.allocate(self.layout.object.tp_name + 880);
        self.arena
            .put_u64(kind + self.layout.object.tp_name + 264, header);
        let name = self.string(THREAD_NAME);
        let attributes = self.dict("_name", 1, name);
        let thread = self.object(kind, attributes);
        let active = self.dict("", IDENTS[0], thread);
        let variables = self.dict("_active", 1, active);
        let module = self.object(kind, variables);
        let modules = self.dict("threading", 1, module);
        self.arena
            .put_u64(interpreter + self.layout.interpreter.modules, modules);
    }

    /// An object of a type, with one field.
    fn object(&mut self, kind: u64, field: u64) -> u64 {
        let address = self.arena.allocate(64);
        let ob_type = self.layout.object.ob_type;
        self.arena.put_u64(address + ob_type, kind);
        self.arena.put_u64(address + ob_type + 8, field);
        address
    }

    /// A dict with one item.
    fn dict(&mut self, key: &str, hash: u64, value: u64) -> u64 {
        let key = self.string(key);
        let keys = self.arena.allocate(40 + 8 + 24);
        let entries = if self.layout.thread.datastack_chunk.is_some() {
            // 3.11 and later: the size of the table as a logarithm, which kind it is, the number of entries.
            self.arena.put(keys + 9, &[3, 0]);
            self.arena.put_u64(keys + 24, 1);
            keys + 32 + 8
        } else {
            self.arena.put_u64(keys + 8, 8);
            self.arena.put_u64(keys + 32, 1);
            keys + 40 + 8
        };
        self.arena.put_u64(entries, hash);
        self.arena.put_u64(entries + 8, key);
        self.arena.put_u64(entries + 16, value);
        let dict = self.arena.allocate(64);
        let fields = dict + self.layout.object.ob_type + 8 + 16;
        self.arena.put_u64(fields, keys);
        self.arena.put_u64(fields + 8, 0);
        dict
    }
}
