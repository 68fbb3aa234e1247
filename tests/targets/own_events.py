"""Counts its own events in one of the ways that Python has for it, and prints the counts as JSON: `own_events.py HOW`.

HOW is `setprofile`, `settrace`, `threading` or `monitoring`. After that it calls `after` a hundred times.
"""

import json
import sys
import threading

events = {}


def note(name, what):
    # Whether the call that sets a profiler returns to it depends on whether somebody else has set one before.
    if name == "setprofile":
        return
    key = "%s of %s" % (what, name)
    events[key] = events.get(key, 0) + 1


def profiler(frame, event, argument):
    name = argument.__name__ if event.startswith("c_") else frame.f_code.co_name
    note(name, event)


def tracer(frame, event, argument):
    note(frame.f_code.co_name, event)
    return tracer


def callee(number):
    return len([number])


def generator():
    yield 1
    yield 2


def raising():
    raise ValueError("expected")


def work():
    for number in range(10):
        callee(number)
    list(generator())
    try:
        raising()
    except ValueError:
        pass


def by_setprofile():
    sys.setprofile(profiler)
    work()
    assert sys.getprofile() is profiler
    sys.setprofile(None)


def by_settrace():
    sys.settrace(tracer)
    work()
    sys.settrace(None)


def by_threading():
    threading.setprofile(profiler)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    threading.setprofile(None)


def by_monitoring():
    monitoring = sys.monitoring
    tool = monitoring.PROFILER_ID
    monitoring.use_tool_id(tool, "own")
    seen = monitoring.events
    monitoring.register_callback(tool, seen.PY_START, lambda code, offset: note(code.co_name, "start"))
    monitoring.register_callback(tool, seen.PY_RETURN, lambda code, offset, value: note(code.co_name, "return"))
    monitoring.register_callback(tool, seen.PY_UNWIND, lambda code, offset, error: note(code.co_name, "unwind"))
    monitoring.set_events(tool, seen.PY_START | seen.PY_RETURN | seen.PY_UNWIND)
    work()
    monitoring.set_events(tool, 0)
    monitoring.free_tool_id(tool)


def after():
    pass


globals()["by_" + sys.argv[1]]()
for _ in range(100):
    after()
print(json.dumps(events, sort_keys=True))
