"""One thread that only computes: no system call, no other thread, nothing that would wake it up.

Prints `ready`; ends when `stop` is injected, and prints what was injected.
"""

import json
import signal

signal.alarm(600)
seen = []
stop = False


def count():
    total = 0
    while not stop:
        for number in range(1000):
            total += number
    return total


print("ready", flush=True)
total = count()
names = sorted(name for name in globals() if not name.startswith("__"))
print(json.dumps({"seen": seen, "names": names, "whole": total % 499500 == 0}), flush=True)
