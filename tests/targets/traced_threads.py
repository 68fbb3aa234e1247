"""Threads that call functions so and so often, and measure how long that took: prints, as JSON, for each thread by its name
the calls of `leaf` and of `inner`, and the seconds in `spin`, which sleeps as well.

The threads `early-N` run one after the other, the threads `at-once-N` at the same time.
"""

import json
import threading
import time

told = {}


def leaf():
    pass


def inner(times):
    for _ in range(times):
        leaf()


def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        time.sleep(0.001)


def work(leaves, inners, seconds):
    for _ in range(inners):
        inner(leaves)
    before = time.perf_counter()
    spin(seconds)
    after = time.perf_counter()
    told[threading.current_thread().name] = [leaves * inners, inners, after - before]


for number in range(3):
    thread = threading.Thread(target=work, args=(10 + number, 20, 0.02), name="early-%d" % number)
    thread.start()
    thread.join()
threads = [
    threading.Thread(target=work, args=(100 + number, 50 + number, 0.1), name="at-once-%d" % number)
    for number in range(4)
]
for thread in threads:
    thread.start()
work(7, 11, 0.05)
for thread in threads:
    thread.join()
print(json.dumps(told))
