"""Ends in the way that it is told to: `ending.py exit CODE`, `_exit CODE`, `raise`, `signal NUMBER`, or `return`.

Works a little before that, in `work`, so that there is something to record.
"""

import os
import sys
import time

clock = getattr(time, "perf_counter", time.time)


def work(seconds):
    until = clock() + seconds
    while clock() < until:
        pass


work(0.05)
print("worked")
sys.stdout.flush()
how = sys.argv[1]
if how == "exit":
    sys.exit(int(sys.argv[2]))
elif how == "_exit":
    os._exit(int(sys.argv[2]))
elif how == "raise":
    raise RuntimeError("as told")
elif how == "signal":
    os.kill(os.getpid(), int(sys.argv[2]))
