"""Writes pstats files with this interpreter's own profilers, and prints what they hold.

Arguments: where to write the file of cProfile, and the one of profile.
"""

import cProfile
import json
import marshal
import profile
import sys


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def main():
    fib(10)
    even(20)
    return sorted([len("x"), 3, 2], key=lambda x: -x)


def exact(numbers):
    """JSON readers round floats as they like."""
    return [repr(number) if isinstance(number, float) else number for number in numbers]


def rows(path):
    with open(path, "rb") as file:
        stats = marshal.load(file)
    found = []
    for key in stats:
        cc, nc, tt, ct, callers = stats[key]
        flat = []
        for caller in callers:
            numbers = callers[caller]
            numbers = numbers if isinstance(numbers, tuple) else [numbers]
            flat.append(list(caller) + exact(numbers))
        found.append([list(key)] + exact([cc, nc, tt, ct]) + [flat])
    return found


result = []
for module, path in ((cProfile, sys.argv[1]), (profile, sys.argv[2])):
    profiler = module.Profile()
    profiler.runcall(main)
    profiler.dump_stats(path)
    result.append(rows(path))
json.dump(result, sys.stdout)
