"""A call-heavy recursion alternates with a flat loop; both are timed by the program itself: `alternating.py [ROUNDS]`.

Answers `recursion` and `loop`, the seconds spent in each, after ROUNDS rounds or when it is told to stop.
"""

import sys

from handshake import answer, clock, ready, stopped


def fibonacci(n):
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


def recursion():
    for _ in range(4):
        fibonacci(12)


def loop():
    total = 0
    for i in range(4000):
        total += i * i
    return total


def alternate(rounds):
    spent = {"recursion": 0.0, "loop": 0.0}
    before = clock()
    while rounds and not stopped():
        rounds -= 1
        recursion()
        between = clock()
        loop()
        after = clock()
        spent["recursion"] += between - before
        spent["loop"] += after - between
        before = after
    return spent


ready()
answer(**alternate(int(sys.argv[1]) if len(sys.argv) > 1 else -1))
