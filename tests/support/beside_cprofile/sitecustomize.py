"""Makes a program begin alike under cProfile and under pystrobe, so that both have the same calls to count.

- What cProfile imports for itself is imported before either begins.
- `python -m cProfile` leaves the folder that it was started in on `sys.path`, where every import looks for modules; it is taken out.
- Where several functions have the same file, line and name, cProfile lets the last one replace the others; here they are added up.
"""

import cProfile
import importlib.machinery
import importlib.util
import io
import marshal
import optparse
import os
import pstats
import runpy
import sys

try:
    from profiling.tracing import __main__, _utils
except ImportError:
    import profile as _utils


def key(code):
    if isinstance(code, str):
        return ("~", 0, code)
    return (code.co_filename, code.co_firstlineno, code.co_name)


def add(table, key, numbers):
    table[key] = tuple(map(sum, zip(table.get(key, (0, 0, 0.0, 0.0)), numbers)))


def added_up(entries):
    rows = {}
    callers = {}
    for entry in entries:
        function = key(entry.code)
        primitive = entry.callcount - entry.reccallcount
        add(rows, function, (primitive, entry.callcount, entry.inlinetime, entry.totaltime))
        for called in entry.calls or ():
            primitive = called.callcount - called.reccallcount
            edges = callers.setdefault(key(called.code), {})
            add(edges, function, (called.callcount, primitive, called.inlinetime, called.totaltime))
    return {function: numbers + (callers.get(function, {}),) for function, numbers in rows.items()}


def runctx(self, statement, globals, locals, filename, sort):
    assert sys.path[1] == os.getcwd(), sys.path
    del sys.path[1]
    profiler = self.profiler()
    try:
        profiler.runctx(statement, globals, locals)
    except SystemExit:
        pass
    finally:
        with open(filename, "wb") as file:
            marshal.dump(added_up(profiler.getstats()), file)


_utils._Utils.runctx = runctx
