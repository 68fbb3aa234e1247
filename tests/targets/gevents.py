"""Tasks of gevent that compute a while and let the next one on: three `slow_task`, three `quick_task`."""

import gevent

from handshake import answer, clock, ready, stopped

spent = {"slow_task": 0.0, "quick_task": 0.0}


def compute(n):
    total = 0
    for number in range(n):
        total += number
    return total


def slow_task():
    while not stopped():
        began = clock()
        compute(6000)
        spent["slow_task"] += clock() - began
        gevent.sleep(0)


def quick_task():
    while not stopped():
        began = clock()
        compute(2000)
        spent["quick_task"] += clock() - began
        gevent.sleep(0)


tasks = [gevent.spawn(task) for task in (slow_task, quick_task) * 3]
ready()
gevent.joinall(tasks)
answer(**spent)
