"""Has children of every kind, one after the other, and prints which as JSON: a list of `[kind, pid, seconds]`.

Each works for 50 ms in a function of its own; `seconds` is how long its parent knew it to be there. Those that are
no Python, of which there are some in between, are not told.
"""

import json
import os
import subprocess
import sys
import time

children = []


def spend(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def forked_work():
    spend(0.05)


def executed_work():
    spend(0.05)


def grandchild_work():
    spend(0.05)


def spawned_work():
    spend(0.05)


def note(kind, pid, since):
    children.append([kind, pid, time.perf_counter() - since])


def fork(work):
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    os.waitpid(child, 0)
    return child, began


reader, writer = os.pipe()


def between():
    """Only waits for a child of its own, and passes on which that was."""
    grandchild, began = fork(grandchild_work)
    seconds = time.perf_counter() - began
    os.write(writer, json.dumps(["grandchild_work", grandchild, seconds]).encode())


def fork_twice():
    child, began = fork(between)
    children.append(json.loads(os.read(reader, 1000).decode()))
    note("between", child, began)


def execute(command, kind=None):
    began = time.perf_counter()
    process = subprocess.Popen(command)
    process.wait()
    if kind:
        note(kind, process.pid, began)


def main():
    again = [sys.executable, os.path.abspath(__file__)]
    for _ in range(3):
        note("forked_work", *fork(forked_work))
        execute(["sh", "-c", "sleep 0.02; true"])
        execute(again + ["executed_work"], "executed_work")
        execute(["true"])
        fork_twice()
        began = time.perf_counter()
        process = os.posix_spawn(again[0], again + ["spawned_work"], os.environ)
        os.waitpid(process, 0)
        note("spawned_work", process, began)
    print(json.dumps(children))


if len(sys.argv) > 1:
    globals()[sys.argv[1]]()
else:
    main()
