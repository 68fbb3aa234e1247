"""A call-heavy recursion alternates with a flat loop; both are timed by the program itself.

Answers `recursion` and `loop`, the seconds spent in each.
"""

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


def alternate():
    spent = {"recursion": 0.0, "loop": 0.0}
    before = clock()
    while not stopped():
        recursion()
        between = clock()
        loop()
        after = clock()
        spent["recursion"] += between - before
        spent["loop"] += after - between
        before = after
    return spent


ready()
answer(**alternate())
