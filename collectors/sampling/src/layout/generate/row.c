/* Prints where one CPython keeps what a sampler reads, as a Rust `Layout`; given the argument "published",
 * prints instead the bytes of the table of offsets that this CPython publishes.
 *
 * Compiled with -DPy_BUILD_CORE against the headers of the version in question, by `run` beside this
 * file. Knows 3.8 and later. Rows of 3.13 and later are only compared with what those interpreters
 * publish themselves; they are not in the table.
 *
 * The fields come in the order of the Rust structures and are spelled as their `Debug` spells them,
 * so that a test can compare the text.
 */
#include "Python.h"
#include <stddef.h>
#include <stdio.h>

#include "frameobject.h"
#if PY_VERSION_HEX < 0x03090000
#  include "internal/pycore_pymem.h"
#  include "internal/pycore_pystate.h"
#else
#  include "internal/pycore_interp.h"
#  include "internal/pycore_runtime.h"
#endif
#if PY_VERSION_HEX >= 0x030B0000
#  include "internal/pycore_frame.h"
#endif
#if PY_VERSION_HEX >= 0x030E0000
#  include "internal/pycore_debug_offsets.h"
#endif

#define PUT(text) fputs(text, stdout)
#define PUT_OFFSET(name, type, field) printf(name ": %zu, ", offsetof(type, field))
#define PUT_SOME(name, type, field) printf(name ": Some(%zu), ", offsetof(type, field))
#define PUT_NONE(name) PUT(name ": None, ")

static void put_runtime(void)
{
    PUT("runtime: RuntimeLayout { ");
    PUT_OFFSET("interpreters_head", _PyRuntimeState, interpreters.head);
#if PY_VERSION_HEX < 0x03090000
    PUT_OFFSET("finalizing", _PyRuntimeState, finalizing);
#else
    PUT_OFFSET("finalizing", _PyRuntimeState, _finalizing);
#endif
    PUT("}, ");
}

static void put_gil(void)
{
    PUT("gil: GilLayout { ");
#if PY_VERSION_HEX < 0x030C0000
    printf("place: GilPlace::Runtime(%zu), ", offsetof(_PyRuntimeState, ceval.gil));
#else
    printf("place: GilPlace::Interpreter(%zu), ", offsetof(PyInterpreterState, ceval.gil));
#endif
    PUT_OFFSET("last_holder", struct _gil_runtime_state, last_holder);
    PUT_OFFSET("locked", struct _gil_runtime_state, locked);
    PUT("}, ");
}

static void put_interpreter(void)
{
    PUT("interpreter: InterpreterLayout { ");
    PUT_OFFSET("id", PyInterpreterState, id);
    PUT_OFFSET("next", PyInterpreterState, next);
#if PY_VERSION_HEX < 0x030B0000
    PUT_OFFSET("threads_head", PyInterpreterState, tstate_head);
#else
    PUT_OFFSET("threads_head", PyInterpreterState, threads.head);
#endif
#if PY_VERSION_HEX < 0x030C0000
    PUT_OFFSET("modules", PyInterpreterState, modules);
#else
    PUT_OFFSET("modules", PyInterpreterState, imports.modules);
#endif
#if PY_VERSION_HEX < 0x03090000
    PUT_NONE("gc_collecting");
#else
    PUT_SOME("gc_collecting", PyInterpreterState, gc.collecting);
#endif
#if PY_VERSION_HEX < 0x030E0000
    PUT_NONE("code_generation");
#else
    PUT_SOME("code_generation", PyInterpreterState, _code_object_generation);
#endif
    PUT("}, ");
}

static void put_thread(void)
{
    PUT("thread: ThreadStateLayout { ");
    PUT_OFFSET("next", PyThreadState, next);
    PUT_OFFSET("interpreter", PyThreadState, interp);
#if PY_VERSION_HEX < 0x030B0000
    PUT_OFFSET("frame", PyThreadState, frame);
#elif PY_VERSION_HEX < 0x030D0000
    PUT_OFFSET("frame", PyThreadState, cframe);
#else
    PUT_OFFSET("frame", PyThreadState, current_frame);
#endif
    PUT_OFFSET("thread_id", PyThreadState, thread_id);
#if PY_VERSION_HEX < 0x030B0000
    PUT_NONE("native_thread_id");
    PUT_NONE("datastack_chunk");
#else
    PUT_SOME("native_thread_id", PyThreadState, native_thread_id);
    PUT_SOME("datastack_chunk", PyThreadState, datastack_chunk);
    _Static_assert(offsetof(PyThreadState, datastack_top) == offsetof(PyThreadState, datastack_chunk) + 8
                   && offsetof(PyThreadState, datastack_limit) == offsetof(PyThreadState, datastack_chunk) + 16,
                   "the three fields of the data stack lie side by side");
#endif
#if PY_VERSION_HEX < 0x030F0000
    PUT_NONE("base_frame");
#else
    PUT_SOME("base_frame", PyThreadState, base_frame);
#endif
    PUT("}, ");
}

static void put_exception(void)
{
    PUT("exception: ExceptionLayout { ");
#if PY_VERSION_HEX < 0x030C0000
    PUT_OFFSET("raised", PyThreadState, curexc_type);
#else
    PUT_OFFSET("raised", PyThreadState, current_exception);
#endif
    PUT_OFFSET("handled", PyThreadState, exc_info);
    PUT_OFFSET("previous_item", _PyErr_StackItem, previous_item);
#if PY_VERSION_HEX < 0x030B0000
    _Static_assert(offsetof(_PyErr_StackItem, exc_type) == 0, "an item starts with what is handled");
#else
    _Static_assert(offsetof(_PyErr_StackItem, exc_value) == 0, "an item starts with what is handled");
#endif
    PUT("}, ");
}

static void put_frame(void)
{
    PUT("frame: FrameLayout { ");
#if PY_VERSION_HEX < 0x030B0000
    PUT_OFFSET("previous", PyFrameObject, f_back);
    PUT_OFFSET("code", PyFrameObject, f_code);
#  if PY_VERSION_HEX < 0x030A0000
    printf("instruction: Instruction::ByteIndex(%zu), ", offsetof(PyFrameObject, f_lasti));
#  else
    printf("instruction: Instruction::UnitIndex(%zu), ", offsetof(PyFrameObject, f_lasti));
#  endif
    PUT_NONE("owner");
    PUT("shim_owner: 255, ");
    PUT_OFFSET("size", PyFrameObject, f_localsplus);
#else
    PUT_OFFSET("previous", _PyInterpreterFrame, previous);
#  if PY_VERSION_HEX < 0x030D0000
    PUT_OFFSET("code", _PyInterpreterFrame, f_code);
    printf("instruction: Instruction::Pointer(%zu), ", offsetof(_PyInterpreterFrame, prev_instr));
#  else
    PUT_OFFSET("code", _PyInterpreterFrame, f_executable);
    printf("instruction: Instruction::Pointer(%zu), ", offsetof(_PyInterpreterFrame, instr_ptr));
#  endif
    PUT_SOME("owner", _PyInterpreterFrame, owner);
#  if PY_VERSION_HEX < 0x030C0000
    PUT("shim_owner: 255, ");
#  elif PY_VERSION_HEX < 0x030E0000
    printf("shim_owner: %d, ", FRAME_OWNED_BY_CSTACK);
#  else
    printf("shim_owner: %d, ", FRAME_OWNED_BY_INTERPRETER);
#  endif
    PUT_OFFSET("size", _PyInterpreterFrame, localsplus);
#endif
    PUT("}, ");
}

static void put_code(void)
{
    PUT("code: CodeLayout { ");
    PUT_OFFSET("filename", PyCodeObject, co_filename);
    PUT_OFFSET("name", PyCodeObject, co_name);
#if PY_VERSION_HEX < 0x030B0000
    PUT_NONE("qualname");
#else
    PUT_SOME("qualname", PyCodeObject, co_qualname);
#endif
#if PY_VERSION_HEX < 0x030A0000
    PUT_OFFSET("line_table", PyCodeObject, co_lnotab);
    PUT("line_table_kind: LineTableKind::Lnotab, ");
#else
    PUT_OFFSET("line_table", PyCodeObject, co_linetable);
#  if PY_VERSION_HEX < 0x030B0000
    PUT("line_table_kind: LineTableKind::Ranges, ");
#  else
    PUT("line_table_kind: LineTableKind::Locations, ");
#  endif
#endif
    PUT_OFFSET("first_line", PyCodeObject, co_firstlineno);
    PUT_OFFSET("flags", PyCodeObject, co_flags);
#if PY_VERSION_HEX < 0x030B0000
    PUT_NONE("bytecode");
    PUT_SOME("code_bytes", PyCodeObject, co_code);
    PUT("frame_size: FrameSize::None, ");
    PUT_NONE("version");
#else
    PUT_SOME("bytecode", PyCodeObject, co_code_adaptive);
    PUT_NONE("code_bytes");
#  if PY_VERSION_HEX < 0x030C0000
    printf("frame_size: FrameSize::Computed { nlocalsplus: %zu, stacksize: %zu, }, ",
           offsetof(PyCodeObject, co_nlocalsplus), offsetof(PyCodeObject, co_stacksize));
    PUT_NONE("version");
#  else
    printf("frame_size: FrameSize::Stored(%zu), ", offsetof(PyCodeObject, co_framesize));
    PUT_SOME("version", PyCodeObject, co_version);
#  endif
#endif
    PUT("}, ");
}

/* Where in `state` the compiler put `kind`. */
static unsigned kind_bit(void)
{
    PyASCIIObject string;
    unsigned word;
    memset(&string, 0, sizeof(string));
    string.state.kind = 1;
    memcpy(&word, &string.state, sizeof(word));
    unsigned bit = (unsigned)__builtin_ctz(word);
    string.state.compact = 1;
    string.state.ascii = 1;
    memcpy(&word, &string.state, sizeof(word));
    if (word >> bit != 0x19) {
        fputs("kind, compact and ascii are not side by side\n", stderr);
        exit(1);
    }
    return bit;
}

static void put_objects(void)
{
    PUT("object: ObjectLayout { ");
    PUT_OFFSET("ob_type", PyObject, ob_type);
    PUT_OFFSET("tp_name", PyTypeObject, tp_name);
    PUT_OFFSET("bytes_size", PyBytesObject, ob_base.ob_size);
    PUT_OFFSET("bytes_data", PyBytesObject, ob_sval);
    PUT("}, unicode: UnicodeLayout { ");
    PUT_OFFSET("length", PyASCIIObject, length);
    PUT_OFFSET("hash", PyASCIIObject, hash);
    PUT_OFFSET("state", PyASCIIObject, state);
    printf("kind_bit: %u, ", kind_bit());
    printf("ascii_data: %zu, ", sizeof(PyASCIIObject));
    printf("compact_data: %zu, ", sizeof(PyCompactUnicodeObject));
    _Static_assert(offsetof(PyUnicodeObject, data) == sizeof(PyCompactUnicodeObject),
                   "a string that is not compact has its data pointer where a compact one has its data");
    PUT("}, ");
}

static void put_thread_local_bytecode(void)
{
#if PY_VERSION_HEX >= 0x030E0000 && defined(Py_GIL_DISABLED)
    printf("thread_local_bytecode: Some(ThreadLocalBytecode { frame_index: %zu, code_array: %zu, }), ",
           offsetof(_PyInterpreterFrame, tlbc_index), offsetof(PyCodeObject, co_tlbc));
    _Static_assert(offsetof(_PyCodeArray, entries) == 8, "the copies follow their count");
#else
    PUT_NONE("thread_local_bytecode");
#endif
}

/* What an interpreter with these headers would publish, as its bytes: so that builds of which there is
 * no interpreter at hand can be tested. 3.13 keeps the initializer among that of all of _PyRuntime. */
static int put_published(void)
{
#ifdef _Py_DebugOffsets_INIT
    static const _Py_DebugOffsets table = _Py_DebugOffsets_INIT(_Py_Debug_Cookie);
    return fwrite(&table, sizeof(table), 1, stdout) == 1 ? 0 : 1;
#else
    return 0;
#endif
}

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "published") == 0) {
        return put_published();
    }
    printf("Layout { version: Minor(%d, %d), ", PY_MAJOR_VERSION, PY_MINOR_VERSION);
#ifdef Py_GIL_DISABLED
    PUT("free_threaded: true, ");
#else
    PUT("free_threaded: false, ");
#endif
#if PY_VERSION_HEX < 0x030B0000
    PUT("chain: FrameChain::FrameObjects, ");
#elif PY_VERSION_HEX < 0x030D0000
    printf("chain: FrameChain::CFrame { current_frame: %zu, }, ", offsetof(_PyCFrame, current_frame));
#else
    PUT("chain: FrameChain::CurrentFrame, ");
#endif
    put_runtime();
    put_gil();
    put_interpreter();
    put_thread();
    put_exception();
    put_frame();
    put_code();
    put_objects();
    put_thread_local_bytecode();
    PUT("},\n");
    return 0;
}
