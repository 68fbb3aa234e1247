"""Executes what it is told to be attached to and detached from, while its own profiler is at work in the main thread and in one beside.

Prints how many calls of `leaf` the profiler of each has seen, and whether it is still the one that was set. The profiler is a function of Python's, or cProfile's.
"""
import cProfile
import os
import pstats
import sys
import threading


def leaf():
    pass


class Function:
    """A profiler by `sys.setprofile`."""

    def __init__(self):
        self.seen = 0

    def __call__(self, frame, event, argument):
        if event == "call" and frame.f_code is leaf.__code__:
            self.seen += 1

    def begin(self):
        sys.setprofile(self)

    def end(self):
        same = sys.getprofile() is self
        sys.setprofile(None)
        return self.seen, same


class Lsprof:
    """One by `_lsprof`."""

    def __init__(self):
        self.profile = cProfile.Profile()

    def begin(self):
        self.profile.enable()

    def end(self):
        same = sys.version_info >= (3, 12) or sys.getprofile() is self.profile
        self.profile.disable()
        rows = pstats.Stats(self.profile).stats
        return sum(row[1] for key, row in rows.items() if key[2] == "leaf"), same


def execute(source):
    exec(source)


def beside(kind, begun, turn):
    profiler = kind()
    profiler.begin()
    leaf()
    begun.set()
    turn.wait()
    for _ in range(100):
        leaf()
    told.append(profiler.end())


told = []


def main():
    kind = {"function": Function, "lsprof": Lsprof}[os.environ["PROFILER"]]
    begun, turn = threading.Event(), threading.Event()
    # From 3.12 on there is one `_lsprof` for all threads.
    alone = kind is Lsprof and sys.version_info >= (3, 12)
    thread = threading.Thread(target=beside, args=(kind, begun, turn))
    if not alone:
        thread.start()
        begun.wait()
    profiler = kind()
    profiler.begin()
    execute(sys.argv[2])
    for _ in range(100):
        leaf()
    turn.set()
    if not alone:
        thread.join()
    execute(sys.argv[1])
    leaf()
    told.append(profiler.end())
    print(told, sys.getprofile())


main()
