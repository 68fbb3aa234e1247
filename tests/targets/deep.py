"""Goes DEPTH calls deep and works at the bottom: `deep.py DEPTH`.

A thread with a large stack does it, since before 3.11 a Python call needs C stack too.
"""

import sys
import threading

from handshake import ready, stopped


def bottom():
    ready()
    while not stopped():
        for _ in range(1000):
            pass


def down(depth):
    if depth > 1:
        return down(depth - 1)
    return bottom()


depth = int(sys.argv[1])
sys.setrecursionlimit(depth + 1000)
threading.stack_size(512 * 1024 * 1024)
diver = threading.Thread(target=down, args=(depth,), name="diver")
diver.start()
diver.join()
