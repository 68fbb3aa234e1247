"""Two generators alternate, each with a helper of its own: every few microseconds, or, `tight`, in half a one.

Only these stacks exist below `alternate`: itself, `ping` or `pong`, and the helper of the one that runs.
"""

import sys

from handshake import answer, ready, stopped

WORK = 0 if "tight" in sys.argv else 30


def ping_helper(n):
    for _ in range(WORK):
        n += 1
    return n + 1


def pong_helper(n):
    for _ in range(WORK):
        n -= 1
    return n - 1


def ping():
    n = 0
    while True:
        n = ping_helper(n)
        n = ping_helper(n)
        yield n


def pong():
    n = 0
    while True:
        n = pong_helper(n)
        n = pong_helper(n)
        yield n


def alternate():
    first, second = ping(), pong()
    while not stopped():
        for _ in range(1000):
            next(first)
            next(second)


ready()
alternate()
answer()
