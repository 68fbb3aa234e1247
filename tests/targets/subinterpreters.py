"""Works in the main interpreter (`outer_work`) and, on a thread, in a second one (`inner_work`).

Both give the other one its turn by a sleep of no length: from 3.9 to 3.11, a thread that waits for the GIL asks for it in
its own interpreter only, and may wait for ever.
"""

import os
import threading
import time

from handshake import ready, stopped

try:
    import _interpreters as interpreters
except ImportError:  # before 3.13
    import _xxsubinterpreters as interpreters

INNER = """
import os
import time

def inner_work(until):
    while time.time() < until:
        for _ in range(1000):
            pass
        time.sleep(0)

inner_work(time.time() + 0.05)
if not told:
    os.write(%d, b".")
    told = True
"""

reading, writing = os.pipe()
second = interpreters.create()
interpreters.run_string(second, "told = False")


def inner():
    while not stopped():
        interpreters.run_string(second, INNER % writing)


def outer_work():
    while not stopped():
        for _ in range(1000):
            pass
        time.sleep(0)


thread = threading.Thread(target=inner, name="second interpreter")
thread.start()
os.read(reading, 1)
ready()
outer_work()
thread.join()
interpreters.destroy(second)
