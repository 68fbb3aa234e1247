//! Where CPython keeps what a sampler reads: byte offsets, by version.
//!
//! A layout is data. Interpreters from 3.13 on describe themselves (`debug_offsets`); for 3.8 to 3.12
//! the rows are in `table`, printed by a small C program that was compiled against each version's
//! headers. A new CPython is a row, never a module.

mod debug_offsets;
#[cfg(any(test, fuzzing))]
pub(crate) mod examples;
mod table;

pub use debug_offsets::{DEBUG_OFFSETS_SIZE, LayoutError, from_debug_offsets};
pub(crate) use debug_offsets::{TASK_TABLE_SIZE, TaskLayout};
pub use table::builtin;

/// Major and minor version of a CPython.
///
/// One row serves every patch release of 3.8 to 3.12 (3.9.3 moved a field of `PyThreadState` and was withdrawn for it).
/// From 3.13 on fields do move (3.14.5 moved `imports.modules`), but the order of what is published stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minor(pub u8, pub u8);

/// How a thread state leads to its current frame, and what its frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameChain {
    /// 3.8 to 3.10: `PyThreadState.frame` is a `PyFrameObject`, linked by `f_back`; each is an object on the heap.
    FrameObjects,
    /// 3.11 and 3.12: `PyThreadState.cframe` points to a `_PyCFrame` on the C stack, which points to the
    /// current `_PyInterpreterFrame`. The field is the offset of `_PyCFrame.current_frame`.
    CFrame {
        /// Offset of `current_frame` in `_PyCFrame`.
        current_frame: u64,
    },
    /// 3.13 and later: `PyThreadState.current_frame` is the current `_PyInterpreterFrame`.
    CurrentFrame,
}

/// What a frame remembers of the instruction it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// `f_lasti` (a C `int`) in bytes from the start of the bytecode: 3.8, 3.9.
    ByteIndex(u64),
    /// `f_lasti` in code units of two bytes: 3.10.
    UnitIndex(u64),
    /// A pointer into the code object: `prev_instr` in 3.11 and 3.12, `instr_ptr` from 3.13 on.
    Pointer(u64),
}

/// What tells whether a frame executes, beyond that something leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// A byte at this offset has this value from the start of the evaluation to its end, and in generators while
    /// they are not suspended: `f_executing` is 1 (3.8, 3.9), `f_state` is `FRAME_EXECUTING` (3.10).
    Flag(u64, u8),
    /// `stacktop`, an `int` at this offset, is -1 in the frame that runs its own bytecode or C code; it is the height
    /// of its stack while a Python function that it called in the same evaluation loop runs, and after it
    /// returned (`_PyFrame_SetStackPointer`): 3.11 to 3.13.
    StackTop(u64),
    /// A frame on the data stack that returned has no code: 3.14 and later.
    Code,
}

/// How a code object encodes its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineTableKind {
    /// `co_lnotab`: 3.8, 3.9 (`Objects/lnotab_notes.txt`).
    Lnotab,
    /// `co_linetable` of PEP 626: 3.10.
    Ranges,
    /// `co_linetable` of PEP 657: 3.11 and later (`Objects/locations.md`).
    Locations,
}

/// `_PyRuntimeState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeLayout {
    /// `interpreters.head`.
    pub interpreters_head: u64,
    /// `_finalizing`: not null once the runtime is shutting down.
    pub finalizing: u64,
}

/// Where the GIL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GilPlace {
    /// 3.8 to 3.11: inside `_PyRuntimeState`, at this offset.
    Runtime(u64),
    /// 3.12 and later: `PyInterpreterState.ceval.gil` is a pointer, at this offset.
    Interpreter(u64),
}

/// `struct _gil_runtime_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GilLayout {
    /// Where the structure is found.
    pub place: GilPlace,
    /// `last_holder`: the thread state that took it last.
    pub last_holder: u64,
    /// `locked`: an `int`, 1 while it is held.
    pub locked: u64,
}

/// `PyInterpreterState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterpreterLayout {
    /// `id`.
    pub id: u64,
    /// `next`.
    pub next: u64,
    /// `tstate_head` (3.8 to 3.10), `threads.head`.
    pub threads_head: u64,
    /// `modules` (3.8 to 3.11), `imports.modules`: the dict `sys.modules`.
    pub modules: u64,
    /// `gc.collecting`: an `int`. In 3.8 it is in the runtime, hence `None`.
    pub gc_collecting: Option<u64>,
    /// `_code_object_generation`: grows whenever a code object is freed. 3.14 and later.
    pub code_generation: Option<u64>,
}

/// `PyThreadState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadStateLayout {
    /// `next`.
    pub next: u64,
    /// `interp`.
    pub interpreter: u64,
    /// `frame`, `cframe` or `current_frame`, as [`FrameChain`] says.
    pub frame: u64,
    /// `thread_id`: what `threading.get_ident()` gives.
    pub thread_id: u64,
    /// `native_thread_id`: the kernel's, in the target's PID namespace. 3.11 and later.
    pub native_thread_id: Option<u64>,
    /// `datastack_chunk`, followed by `datastack_top` and `datastack_limit`. 3.11 and later.
    pub datastack_chunk: Option<u64>,
    /// `base_frame`: the sentinel below the outermost frame. 3.15 and later.
    pub base_frame: Option<u64>,
}

/// What a thread state tells of exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExceptionLayout {
    /// In `PyThreadState`: `curexc_type`, since 3.12 `current_exception`. Not null while an exception is raised and not caught yet.
    pub raised: u64,
    /// In `PyThreadState`: `exc_info`, a pointer to the newest `_PyErr_StackItem`, one for the thread and one for each
    /// generator that it runs. An item starts with the exception that is being handled (`exc_type`, since 3.11 `exc_value`): null
    /// or `None` where there is none.
    pub handled: u64,
    /// In `_PyErr_StackItem`: `previous_item`.
    pub previous_item: u64,
}

/// `PyFrameObject` (3.8 to 3.10) or `_PyInterpreterFrame`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLayout {
    /// `f_back`, `previous`.
    pub previous: u64,
    /// `f_code`, `f_executable`; the low three bits are tags where it is a `_PyStackRef`.
    pub code: u64,
    /// The instruction.
    pub instruction: Instruction,
    /// `owner`, a byte (`enum _frameowner`). 3.11 and later.
    pub owner: Option<u64>,
    /// The lowest value of `owner` that marks a frame of the interpreter's own, without Python code
    /// (`FRAME_OWNED_BY_CSTACK` in 3.12 and 3.13, `FRAME_OWNED_BY_INTERPRETER` and above later).
    /// 255 where there are none.
    pub shim_owner: u8,
    /// Bytes before `localsplus`: the part of a frame that has a fixed meaning.
    pub size: u64,
}

/// How many stack slots a frame of a code object takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSize {
    /// `co_framesize`, in slots of 8 bytes, the frame's own part included: 3.12 and later.
    Stored(u64),
    /// 3.11: `co_nlocalsplus + co_stacksize` slots behind the frame's own part.
    Computed {
        /// Offset of `co_nlocalsplus`.
        nlocalsplus: u64,
        /// Offset of `co_stacksize`.
        stacksize: u64,
    },
    /// 3.8 to 3.10: frames are objects of their own.
    None,
}

/// `PyCodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLayout {
    /// `co_filename`.
    pub filename: u64,
    /// `co_name`.
    pub name: u64,
    /// `co_qualname`: 3.11 and later.
    pub qualname: Option<u64>,
    /// `co_lnotab`, `co_linetable`.
    pub line_table: u64,
    /// How that table is encoded.
    pub line_table_kind: LineTableKind,
    /// `co_firstlineno`, an `int`.
    pub first_line: u64,
    /// `co_flags`, an `int`.
    pub flags: u64,
    /// `co_code_adaptive`: where the bytecode starts inside the object. 3.11 and later.
    pub bytecode: Option<u64>,
    /// `co_code`: the bytes object of the bytecode. 3.8 to 3.10.
    pub code_bytes: Option<u64>,
    /// How large its frames are.
    pub frame_size: FrameSize,
    /// `co_version`, a `uint32` that an interpreter gives to one code object only, unless it is 0
    /// (it has run out of versions). 3.12 and later.
    pub version: Option<u64>,
}

/// `PyObject`, `PyVarObject`, `PyTypeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectLayout {
    /// `ob_type`.
    pub ob_type: u64,
    /// `PyTypeObject.tp_name`, a pointer to a C string.
    pub tp_name: u64,
    /// `PyVarObject.ob_size` of a `bytes` object.
    pub bytes_size: u64,
    /// `ob_sval` of a `bytes` object.
    pub bytes_data: u64,
}

/// `PyUnicodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnicodeLayout {
    /// `length`, in code points.
    pub length: u64,
    /// `hash`: -1 until it is first asked for.
    pub hash: u64,
    /// `state`, a bit field of 4 bytes.
    pub state: u64,
    /// The lowest bit of `state.kind` (three bits, bytes a character); `compact` and `ascii` are the next two bits.
    pub kind_bit: u8,
    /// `sizeof(PyASCIIObject)`: where the characters of an ASCII string start.
    pub ascii_data: u64,
    /// `sizeof(PyCompactUnicodeObject)`: where those of any other compact string start.
    pub compact_data: u64,
}

/// Bytecode that each thread has its own copy of: free-threaded builds, 3.14 and later.
///
/// An instruction pointer then points into `entries[tlbc_index]` of the code object's `co_tlbc`, of which
/// entry 0 is `co_code_adaptive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadLocalBytecode {
    /// `tlbc_index` in `_PyInterpreterFrame`, an `int32`.
    pub frame_index: u64,
    /// `co_tlbc` in `PyCodeObject`: a pointer to a `_PyCodeArray`, which is the number of entries (8 bytes)
    /// and then the entries, each a pointer to a copy of the bytecode or null.
    pub code_array: u64,
}

/// All offsets that a sampler needs of one CPython version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The version it holds for.
    pub version: Minor,
    /// Whether it is the free-threaded build.
    pub free_threaded: bool,
    /// How frames are found.
    pub chain: FrameChain,
    /// `_PyRuntimeState`.
    pub runtime: RuntimeLayout,
    /// The GIL.
    pub gil: GilLayout,
    /// `PyInterpreterState`.
    pub interpreter: InterpreterLayout,
    /// `PyThreadState`.
    pub thread: ThreadStateLayout,
    /// Exceptions.
    pub exception: ExceptionLayout,
    /// Frames.
    pub frame: FrameLayout,
    /// Code objects.
    pub code: CodeLayout,
    /// Objects in general.
    pub object: ObjectLayout,
    /// Strings.
    pub unicode: UnicodeLayout,
    /// Copies of the bytecode, where the build makes them.
    pub thread_local_bytecode: Option<ThreadLocalBytecode>,
}

impl Layout {
    /// Whether C code that calls a function leaves no frame of its own.
    pub(crate) fn shim_free(&self) -> bool {
        self.frame.shim_owner == u8::MAX
    }

    /// Whether a frame with this `owner` is one of the interpreter's own. There are at most two kinds of them; any higher
    /// number is not the owner of a frame.
    pub(crate) fn is_shim(&self, owner: u8) -> bool {
        (self.frame.shim_owner..=self.frame.shim_owner.saturating_add(1)).contains(&owner)
    }

    /// What tells whether a frame executes. The fields lie in fixed distance from the instruction.
    pub(crate) fn activity(&self) -> Activity {
        match self.frame.instruction {
            // f_lasti, f_lineno, f_iblock, f_executing or f_state.
            Instruction::ByteIndex(lasti) => Activity::Flag(lasti + 12, 1),
            Instruction::UnitIndex(lasti) => Activity::Flag(lasti + 12, 0),
            // prev_instr or instr_ptr, stacktop.
            Instruction::Pointer(at) if self.version < Minor(3, 14) => Activity::StackTop(at + 8),
            Instruction::Pointer(_) => Activity::Code,
        }
    }
}
