"""Ten million calls of every kind, and what is different after them: references, Python's blocks and objects, and memory of the process. As JSON.

`leaks.py SHARE` makes that share of the calls; before them, a fifth of that as warm-up: CPython keeps pools of what it frees.
"""
import gc
import json
import os
import sys
import threading


def function(number):
    return number


def through(depth):
    if depth == 0:
        raise KeyError
    through(depth - 1)


def yielding(many):
    for number in range(many):
        yield number


class Thing:
    def method(self):
        return self


thing = Thing()
values = [3]


def functions(many):
    for number in range(many):
        function(number)


def builtins(many):
    for _ in range(many):
        len(values)


def builtin_methods(many):
    for _ in range(many):
        values.count(3)


def methods(many):
    for _ in range(many):
        thing.method()


def bound_methods(many):
    for _ in range(many):
        bound = thing.method
        bound()


def closures(many):
    for number in range(many):
        (lambda: number)()


def generators(many):
    for _ in yielding(many):
        pass


def exceptions(many):
    for _ in range(many // 10):
        try:
            through(8)
        except KeyError:
            pass


def code(many):
    for number in range(many // 2):
        names = {}
        exec("def made(): pass\nmade()", names)


def threads(many):
    for _ in range(many // 100):
        thread = threading.Thread(target=functions, args=(100,))
        thread.start()
        thread.join()


# How often, of ten million.
KINDS = [
    (functions, 2200000),
    (builtins, 2000000),
    (builtin_methods, 1000000),
    (methods, 1400000),
    (bound_methods, 500000),
    (closures, 1000000),
    (generators, 1500000),
    (exceptions, 300000),
    (code, 30000),
    (threads, 100000),
]


def work(share):
    for kind, many in KINDS:
        kind(int(many * share))


def anonymous_kilobytes():
    with open("/proc/self/statm") as file:
        _, resident, shared = file.read().split()[:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE") // 1024


HELD = {
    "function": function,
    "code": function.__code__,
    "through": through.__code__,
    "yielding": yielding.__code__,
    "len": len,
    "count": list.count,
    "values": values,
    "thing": thing,
    "Thing": Thing,
    "method": Thing.method,
    "KeyError": KeyError,
    "name": function.__code__.co_filename,
    "None": None,
    "True": True,
}


def state():
    gc.collect()
    references = {name: sys.getrefcount(held) for name, held in HELD.items()}
    return references, sys.getallocatedblocks(), len(gc.get_objects()), anonymous_kilobytes()


def main():
    share = float(sys.argv[1])
    work(share / 5)
    state()
    before = state()
    work(share)
    after = state()
    references = {name: after[0][name] - before[0][name] for name in HELD}
    print(json.dumps({"references": references, "blocks": after[1] - before[1], "objects": after[2] - before[2], "kilobytes": after[3] - before[3]}))


main()
