"""Calls in two threads, and tells how fast: for each line on stdin it prints how many calls each thread makes in half a second of
its own processor time.

Prints `ready`; ends when stdin is closed.
"""

import json
import signal
import sys
import threading
import time

signal.alarm(600)
seen = []
stopping = False
rates = []
wanted = threading.Event()
measured = threading.Semaphore(0)


def callee(number):
    return number + 1


def caller(rounds):
    number = 0
    for _ in range(rounds):
        number = callee(number)
    return number


def rate():
    """Calls in a second of this thread's processor time."""
    began = time.thread_time()
    calls = 0
    while time.thread_time() - began < 0.5:
        calls += caller(20000)
    return calls / (time.thread_time() - began)


def worker():
    while not stopping:
        assert caller(1000) == 1000


def reader():
    global stopping
    for _ in sys.stdin:
        wanted.set()
    stopping = True


threading.Thread(target=reader, daemon=True).start()
other = threading.Thread(target=worker, name="worker")
other.start()
print("ready", flush=True)
while not stopping:
    assert caller(1000) == 1000
    if wanted.is_set():
        wanted.clear()
        print(rate(), flush=True)
other.join()
print(json.dumps({"seen": seen}), flush=True)
