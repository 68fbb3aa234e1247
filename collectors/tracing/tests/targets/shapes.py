"""Every way to call something, and to come back from it. No two functions share a line: cProfile would let one overwrite the other."""
import functools


class Base:
    def method(self):
        return 1


class Derived(Base):
    listed = [i for i in range(3)]

    def method(self):
        return super().method() + 1


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def ping(n):
    return pong(n - 1) if n else 0


def pong(n):
    return ping(n - 1) if n else 0


def generator(n):
    for i in range(n):
        try:
            yield i
        except KeyError:
            yield -1


def delegating(n):
    yield from generator(n)


async def leaf(i):
    return i


class Awaitable:
    def __await__(self):
        yield 1
        return 2


async def coroutine(n):
    total = 0
    for i in range(n):
        total += await leaf(i)
        total += await Awaitable()
    return total


def drive(coro):
    try:
        while True:
            coro.send(None)
    except StopIteration as stop:
        return stop.value


def deep(n):
    if n == 0:
        raise ValueError("deep")
    deep(n - 1)


def exceptions():
    for i in range(3):
        try:
            deep(i)
        except ValueError:
            pass
    for wrong in (
        lambda: int("x"),
        lambda: len(5),
        lambda: [].index(3),
        lambda: {}.pop("x"),
        lambda: "".join([1]),
    ):
        try:
            wrong()
        except (ValueError, TypeError, KeyError):
            pass


def thrown_into():
    g = generator(5)
    next(g)
    g.throw(KeyError("caught inside"))
    g.close()
    list(generator(2))
    abandoned = generator(3)
    next(abandoned)
    del abandoned
    for started in (False, True):
        g = generator(3)
        if started:
            next(g)
        try:
            g.throw(ValueError("not caught inside"))
        except ValueError:
            pass


def key(x):
    return -x


def decorator(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


@decorator
def decorated(x):
    return x * 2


def callbacks():
    sorted([3, 1, 2], key=key)
    functools.reduce(lambda a, b: a + b, [1, 2, 3, 4])
    list(map(lambda x: key(x), [1, 2]))
    max([1, 2], key=lambda value: value)
    sorted(["b", "a"], key=str.lower)
    [key(i) for i in range(3)]
    {key(i): 1 for i in range(3)}
    {key(i) for i in range(2)}
    sum(key(i) for i in range(4))


def builtins():
    d = {}
    d.update(a=1)
    d.get("a")
    getattr(d, "get")("a")
    dict.fromkeys("ab")
    "a,b".split(",")
    str.upper("abc")
    "".join(str(i) for i in range(3))
    isinstance(3, int)
    print(end="")
    append = [].append
    append(1)
    list.append([], 2)
    list.sort([3, 2])
    (3).bit_length()
    int.from_bytes(b"a", "big")
    print(*[], end="")
    sorted(*[[2, 1]], **{"reverse": True})


def executed():
    exec("def f():\n    return 3\nfor i in range(3):\n    f()", {})
    eval(compile("[key(i) for i in range(2)]", "<evaluated>", "eval"), {"key": key})

    class Local(Base):
        number = 3

        def length(self):
            return len("abc")

    Local().length()


def library():
    import json
    import re

    json.dumps({"a": [1, 2, {"b": 3}]}, indent=1)
    json.loads('{"a": [1, 2.5]}')
    re.compile("a+b*(c|d)").match("aab")


fib(10)
ping(9)
sum(generator(7))
sum(delegating(5))
drive(coroutine(3))
exceptions()
thrown_into()
decorated(3)
decorated(4)
Derived().method()
callbacks()
builtins()
executed()
library()
