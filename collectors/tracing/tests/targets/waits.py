"""Waits in the main thread in every way that the kernel restarts in a way of its own, and checks that each wait is as long as it
should be and gives what it should.

Prints `ready`, and at the end what was injected and what went wrong.
"""

import asyncio
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time

signal.alarm(600)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
TIME = 0.2
seen = []
wrong = []

left, right = socket.socketpair()
reader, writer = os.pipe()
lock = threading.Lock()
lock.acquire()


def later(work):
    timer = threading.Timer(TIME, work)
    timer.start()
    return timer


def with_timeout():
    left.settimeout(TIME)
    try:
        left.recv(1)
    except socket.timeout:
        return "timeout"
    finally:
        left.settimeout(None)


def from_other_thread(wait, work):
    timer = later(work)
    try:
        return wait()
    finally:
        timer.join()


def empty_queue():
    try:
        queue.Queue().get(timeout=TIME)
    except queue.Empty:
        return "empty"


def epoll():
    with select.epoll() as one:
        one.register(left, select.EPOLLIN)
        return one.poll(TIME)


def poll():
    one = select.poll()
    one.register(left, select.POLLIN)
    return one.poll(TIME * 1000)


def child():
    return subprocess.run([sys.executable, "-S", "-c", "import time; time.sleep(%s)" % TIME]).returncode


WAITS = [
    ("sleep", lambda: time.sleep(TIME), None),
    ("select", lambda: select.select([left], [], [], TIME), ([], [], [])),
    ("poll", poll, []),
    ("epoll", epoll, []),
    ("recv with a timeout", with_timeout, "timeout"),
    ("recv", lambda: from_other_thread(lambda: left.recv(9), lambda: right.send(b"word")), b"word"),
    ("read", lambda: from_other_thread(lambda: os.read(reader, 9), lambda: os.write(writer, b"word")), b"word"),
    ("lock with a timeout", lambda: lock.acquire(timeout=TIME), False),
    ("lock", lambda: from_other_thread(lock.acquire, lock.release), True),
    ("queue", empty_queue, "empty"),
    ("child", child, 0),
    ("sigtimedwait", lambda: signal.sigtimedwait([signal.SIGUSR1], TIME), None),
    ("asyncio", lambda: asyncio.run(asyncio.sleep(TIME, "slept")), "slept"),
    ("event", lambda: threading.Event().wait(TIME), False),
]

print("ready", flush=True)
for name, wait, expected in WAITS:
    began = time.monotonic()
    try:
        found = wait()
        if found != expected:
            wrong.append("%s: %r" % (name, found))
    except BaseException as error:
        wrong.append("%s: %r" % (name, error))
    passed = time.monotonic() - began
    # The clocks of the kernel and of the poll family have their own grain.
    if passed < TIME * 0.98:
        wrong.append("%s: %s s" % (name, passed))
print(json.dumps({"seen": seen, "wrong": wrong}), flush=True)
