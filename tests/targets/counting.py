"""Counts rounds of the same small work, DEPTH frames deep: `counting.py DEPTH [THREADS [moving]]`.

The main thread is the one that works; of THREADS threads (default 1) all others wait. Its stack stands still, which is
easy for a profiler that remembers the stack from sample to sample; one that is `moving` returns from half of its frames
and calls them again in each round.

At each SIGUSR1 prints, as JSON, the rounds so far and the wall and processor seconds at that moment, so that its
speed between two moments can be compared with and without a profiler.
"""

import json
import signal
import sys
import time

from handshake import ready, stopped

rounds = 0


def report(*_):
    news = {"rounds": rounds, "wall": time.perf_counter(), "processor": time.process_time()}
    sys.stdout.write(json.dumps(news) + "\n")
    sys.stdout.flush()


def bottom():
    global rounds
    ready()
    while not stopped():
        total = 0
        for i in range(1000):
            total += i
        rounds += 1


def down(depth, then):
    if depth > 1:
        down(depth - 1, then)
    else:
        then()


def moving(depth):
    ready()
    while not stopped():
        again(depth - 1)


def again(depth):
    global rounds
    if depth > 1:
        again(depth - 1)
    else:
        total = 0
        for i in range(1000):
            total += i
        rounds += 1


def beside(count):
    """Threads that wait until the program ends."""
    # Imported where it is needed, so that a target of one thread is as small as it was.
    import threading

    waiting = threading.Semaphore(0)

    def wait():
        waiting.release()
        threading.Event().wait()

    for _ in range(count):
        threading.Thread(target=wait, daemon=True).start()
    for _ in range(count):
        waiting.acquire()


signal.signal(signal.SIGUSR1, report)
depth, threads = int(sys.argv[1]), int((sys.argv + [1])[2])
if threads > 1:
    beside(threads - 1)
if "moving" in sys.argv:
    down(depth - depth // 2 - 2, lambda: moving(depth // 2))  # the module and the lambda are frames too
else:
    down(depth - 2, bottom)  # the module and `bottom` are frames too
