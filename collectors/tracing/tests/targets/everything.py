"""A little of everything that a tracer meets: threads, forks, generators, coroutines, exceptions, C functions, code that comes and goes."""
import asyncio
import functools
import os
import sys
import threading


def leaf(number):
    return len(str(number)) + abs(-number)


def yielding(many):
    try:
        for number in range(many):
            yield leaf(number)
    finally:
        leaf(0)


def raising(depth):
    if depth == 0:
        raise ValueError("expected")
    raising(depth - 1)


class Thing:
    def __init__(self):
        self.values = []

    def __repr__(self):
        return "thing of %d" % len(self.values)

    def method(self, number):
        self.values.append(number)
        return repr(self)


async def waiting(number):
    await asyncio.sleep(0)
    return leaf(number)


async def together():
    return await asyncio.gather(*(waiting(number) for number in range(5)))


def work():
    thing = Thing()
    for number in range(20):
        bound = thing.method
        bound(number)
        names = {}
        exec("def made(a):\n    return (lambda: a)()\n", names)
        names["made"](number)
    sorted(range(20), key=lambda number: -number)
    functools.reduce(lambda a, b: a + b, range(20))
    sum(yielding(20))
    half_way = yielding(20)
    next(half_way)
    del half_way
    thrown = yielding(20)
    next(thrown)
    for doomed in (lambda: thrown.throw(KeyError("expected")), lambda: raising(20), lambda: int("x"), lambda: [].pop()):
        try:
            doomed()
        except (KeyError, ValueError, IndexError):
            pass


def in_threads():
    for _ in range(3):
        threads = [threading.Thread(target=work, name="worker-%d" % number) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def forked():
    child = os.fork()
    if child == 0:
        work()
        in_threads()
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status


def with_own_profiler():
    seen = []
    sys.setprofile(lambda frame, event, argument: seen.append(event))
    work()
    sys.setprofile(None)
    assert seen


def main():
    work()
    in_threads()
    asyncio.run(together())
    with_own_profiler()
    forked()
    work()
    sys.stdout.write("worked\n")


if __name__ == "__main__":
    main()
