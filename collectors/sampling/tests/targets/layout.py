"""Says what is in its interpreter's structures, and waits inside a garbage collection."""

import ctypes
import gc
import sys
import threading


def say(**facts):
    for name, value in facts.items():
        print(name + "=" + str(value))


def hold(phase, info):
    if phase != "start":
        return
    frame = sys._getframe()
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    # The innermost frame is going to be where it waits.
    lines = [WAITING] + [frame.f_lineno for frame in stack[1:]]
    say(codes=" ".join(str(id(frame.f_code)) for frame in stack))
    say(lines=" ".join(map(str, lines)))
    # On one line, so that it does not matter how far it has come when it is read.
    print("ready", flush=True), sys.stdin.read()


WAITING = hold.__code__.co_firstlineno + 13


def collect(
    depth,
):
    if depth:
        return collect(depth - 1)
    more = 0

    gc.collect()
    return more


def generator():
    yield collect(2)


class Named:
    def method(self):
        return [each for each in generator()]


gc.disable()
gc.callbacks.append(hold)
threading.Thread(target=threading.Event().wait, daemon=True).start()
code = Named.method.__code__
say(
    runtime=ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime")),
    modules=id(sys.modules),
    main_thread=threading.get_ident(),
    native_thread=threading.get_native_id(),
    code=id(code),
    filename=code.co_filename,
    name=code.co_name,
    qualname=Named.method.__qualname__,
    first_line=code.co_firstlineno,
    flags=code.co_flags,
    line_table=(code.co_linetable if hasattr(code, "co_linetable") else code.co_lnotab).hex(),
)
list(map(Named.method, [Named()]))
