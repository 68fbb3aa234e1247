"""The main thread rests, a thread named `worker` calls `leaf` three times in each `step`.

Answers `steps`, how many there were, and `left`, what a tracer that is gone has left behind.
"""

import sys
import threading
import time

from handshake import answer, ready, stopped

steps = 0


def leaf():
    pass


def step():
    leaf()
    leaf()
    leaf()


def work():
    global steps
    while not stopped():
        for _ in range(100):
            step()
        steps += 100
        time.sleep(0.0005)


def left():
    found = [name for name in sys.modules if "pystrobe" in name]
    found += [name for name in globals() if "pystrobe" in name or name in ("agent", "imp", "source")]
    if sys.getprofile() or sys.gettrace():
        found.append("a profile function")
    tools = getattr(sys, "monitoring", None)
    if tools:
        found += ["tool %d" % tool for tool in range(6) if tools.get_tool(tool)]
    return found


worker = threading.Thread(target=work, name="worker")
worker.start()
ready()
while not stopped():
    time.sleep(0.3)
worker.join()
answer(steps=steps, left=left())
