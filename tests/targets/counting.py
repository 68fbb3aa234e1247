"""Counts rounds of the same small work, DEPTH frames deep: `counting.py DEPTH`.

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


def down(depth):
    if depth > 1:
        down(depth - 1)
    else:
        bottom()


signal.signal(signal.SIGUSR1, report)
down(int(sys.argv[1]) - 2)  # the module and `bottom` are frames too
