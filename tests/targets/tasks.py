"""Asyncio tasks that await each other, and time themselves.

`main` awaits two tasks, `Bäcker Ω` and `quick`, which compute through a coroutine each, three units to one, and yield to the
loop after each unit. How it awaits them is the first argument: by `gather`, by a `TaskGroup`, or one after the other (`await`,
each started by a task of its own). A third task, `sleeper`, waits all the time.
With a second argument other than 0 asyncio is imported, and all of this begins, so many seconds after `ready`. With a third
one it ends by itself so many seconds after that.

Answers `slow` and `quick`, the seconds computed in each, and `elapsed`, those since asyncio was imported.
"""

import sys
import time

from handshake import answer, clock, ready, stopped

how = sys.argv[1]
delay, life = (float(word) for word in (*sys.argv[2:], 0, 0)[:2])

if delay:
    ready()
    end = time.monotonic() + delay
    while time.monotonic() < end:
        pass

import asyncio

spent = {"slow": 0.0, "quick": 0.0}
began = clock()


def over():
    return stopped() or 0 < life < clock() - began


def compute(units):
    total = 0
    for i in range(units * 2000):
        total += i * i
    return total


async def unit(kind, units):
    before = clock()
    compute(units)
    spent[kind] += clock() - before
    await asyncio.sleep(0)


async def numbers(kind, units):
    while not over():
        await unit(kind, units)
        yield units


async def slow():
    async for _ in numbers("slow", 3):
        pass


async def quick():
    while not over():
        await unit("quick", 1)


async def nap():
    while not over():
        await asyncio.sleep(0.05)


async def relay(awaitable):
    return await awaitable


async def main():
    if not delay:
        ready()
    named = asyncio.create_task
    sleeper = named(nap(), name="sleeper")
    if how == "gather":
        await asyncio.gather(named(slow(), name="Bäcker Ω"), named(quick(), name="quick"))
    elif how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(slow(), name="Bäcker Ω")
            group.create_task(quick(), name="quick")
    else:
        one = named(slow(), name="Bäcker Ω")
        other = named(quick(), name="quick")
        await asyncio.wait([named(relay(one), name="relay"), named(relay(other), name="relay")])
    await sleeper


asyncio.run(main())
answer(elapsed=clock() - began, **spent)
