/* Prints the offsets in `pending_lock.rs` and `remote_exec.rs`, of the version whose headers it is compiled against:
 *
 *     cc -std=gnu11 -DPy_BUILD_CORE -I$include -I$include/internal layout.c -o layout && ./layout
 */
#include "Python.h"
#include <stddef.h>
#include <stdio.h>

#if PY_VERSION_HEX < 0x03090000
#  include "internal/pycore_pymem.h"
#  include "internal/pycore_pystate.h"
#else
#  include "internal/pycore_interp.h"
#  include "internal/pycore_runtime.h"
#endif
#if PY_VERSION_HEX >= 0x030E0000
#  include "internal/pycore_debug_offsets.h"
#endif

int main(void)
{
    printf("%s: ", PY_VERSION);
#if PY_VERSION_HEX < 0x03090000
    printf("OfRuntime(%zu), finishing %zu\n", offsetof(_PyRuntimeState, ceval.pending.lock),
           offsetof(_PyRuntimeState, ceval.pending.finishing));
#elif PY_VERSION_HEX < 0x030C0000
    printf("OfInterpreter { main: %zu, lock: %zu }\n", offsetof(_PyRuntimeState, interpreters.main),
           offsetof(PyInterpreterState, ceval.pending.lock));
#elif PY_VERSION_HEX < 0x030D0000
    printf("OfRuntime(%zu)\n", offsetof(_PyRuntimeState, ceval.pending_mainthread.lock));
#elif PY_VERSION_HEX < 0x030E0000
    printf("Mutex(%zu)\n", offsetof(_PyRuntimeState, ceval.pending_mainthread.mutex));
#else
    printf("debugger_support %zu, threads_main %zu\n", offsetof(_Py_DebugOffsets, debugger_support),
           offsetof(_Py_DebugOffsets, interpreter_state.threads_main));
#endif
    return 0;
}
