"""C code calls a function at the foot of a thread, and then a generator that has C code call the same function, in turn.

Answers `alone` and `below_source`, the seconds spent in the function called in the one way and in the other.
"""

import _thread
import collections
import itertools
import time

from handshake import answer, clock, ready, stopped

spent = {"alone": 0.0, "below_source": 0.0}


def work(way):
    began = clock()
    while clock() < began + 0.002:
        pass
    spent[way] += clock() - began


def source():
    while True:
        list(map(work, ["below_source"]))
        yield


turns = zip(map(work, itertools.repeat("alone")), source())
_thread.start_new_thread(collections.deque, (turns, 0))
while not all(spent.values()):
    time.sleep(0.001)
ready()
while not stopped():
    time.sleep(0.01)
answer(**spent)
