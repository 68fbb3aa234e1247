"""At SIGUSR1 has sub-interpreters, one after the other: each works in `inner_work` on a thread of its own, and is destroyed then.

The main thread works in `outer_work` until the last one has ended, says `done`, and goes on in `work_afterwards`. Answers what
each took: `inner` all of the sub-interpreters together, and `afterwards`.
"""

import os
import signal
import threading

from handshake import answer, clock, ready, stopped

try:
    import _interpreters as interpreters
except ImportError:  # 3.12
    import _xxsubinterpreters as interpreters

INNER = """
import os
from time import perf_counter as clock

def inner_work():
    began = clock()
    while clock() < began + 0.15:
        pass
    return clock() - began

os.write(%d, b"%%.9f\\n" %% inner_work())
"""

asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))
reading, writing = os.pipe()


def have_interpreters():
    for _ in range(5):
        inner = interpreters.create()
        interpreters.run_string(inner, INNER % writing)
        interpreters.destroy(inner)
    os.close(writing)


def outer_work(thread):
    while not asked:
        pass
    thread.start()
    while thread.is_alive():
        pass


def work_afterwards():
    began = clock()
    while not stopped():
        pass
    return clock() - began


ready()
outer_work(threading.Thread(target=have_interpreters))
print("done", flush=True)
afterwards = work_afterwards()
with os.fdopen(reading) as times:
    answer(inner=sum(map(float, times)), afterwards=afterwards)
