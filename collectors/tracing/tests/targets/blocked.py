"""A main thread that is in C and does not come back: in the way that the first argument names.

Prints `ready`. A line on stdin lets it go on, where that is possible; it then prints what was injected. If the line is `until seen`, it computes until something was.
"""

import json
import signal
import sys
import threading
import time

signal.alarm(600)
how = sys.argv[1]
seen = []
until_seen = False
free = threading.Lock()
free.acquire()


def reader():
    global until_seen
    until_seen = sys.stdin.readline() == "until seen\n"
    free.release()


def count():
    number = 0
    while free.locked():
        number += 1


def announce():
    print("ready", flush=True)


def held():
    # One call of C code that holds the GIL for longer than anybody waits.
    announce()
    sum(range(10**14))


threading.Thread(target=reader, daemon=True).start()
if how == "lock":
    threading.Thread(target=count, daemon=True).start()
    announce()
    free.acquire()
elif how == "sleep":
    announce()
    time.sleep(1000)
elif how == "held":
    held()
for _ in range(1000):
    pass
while until_seen and not seen:
    pass
print(json.dumps({"seen": seen}), flush=True)
