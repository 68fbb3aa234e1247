"""Threads that compute with the GIL and without it, wait, and handle exceptions. Knows the processor time of each function."""

import hashlib
import threading
import time

from handshake import answer, ready, stopped

spent = {}


def timed(function):
    """Runs a function and adds the processor time of this thread to what it has spent so far."""
    began = time.thread_time()
    function()
    spent[function.__name__] = spent.get(function.__name__, 0.0) + time.thread_time() - began


def compute():
    n = 0
    for i in range(300000):
        n += i & 7


def nap():
    time.sleep(0.02)


def crunch():
    hashlib.pbkdf2_hmac("sha256", b"password" * 8, b"salt" * 4, 20000)


def pause():
    time.sleep(0.015)


def count():
    for i in range(200000):
        yield i & 7


def mend():
    # A generator has an exception of its own, and stands on that of whoever resumes it.
    sum(count())


def plain():
    sum(count())


def with_gil():
    while not stopped():
        timed(compute)
        nap()


def without_gil():
    while not stopped():
        timed(crunch)
        pause()


def with_exceptions():
    while not stopped():
        try:
            raise ValueError
        except ValueError:
            timed(mend)
        timed(plain)


threads = [threading.Thread(target=work, name=work.__name__) for work in (with_gil, without_gil, with_exceptions)]
for thread in threads:
    thread.start()
ready()
for thread in threads:
    thread.join()
answer(**spent)
