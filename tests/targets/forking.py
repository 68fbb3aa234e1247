"""Forks twenty times while it works, and collects its children.

Each child works for a moment in `child_work`, the parent all the time in `parent_work`.
"""

import os

from handshake import answer, clock, ready, stopped


def child_work():
    until = clock() + 0.02
    while clock() < until:
        pass


def parent_work(seconds):
    until = clock() + seconds
    while clock() < until:
        pass


ready()
forks = 0
while not stopped():
    child = os.fork()
    if child == 0:
        child_work()
        os._exit(0)
    parent_work(0.05)
    os.waitpid(child, 0)
    forks += 1
answer(forks=forks)
