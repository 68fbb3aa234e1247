"""Says which signals reach it.

`signals.py polite` ends at the first SIGINT or SIGTERM, after it has said which; `signals.py default` leaves
Python's own handlers in place; `signals.py stubborn` says what came and goes on.
"""

import signal
import sys
import time

how = sys.argv[1]
came = []


def note(number, _frame):
    came.append(number)
    sys.stdout.write("got %d\n" % number)
    sys.stdout.flush()


if how != "default":
    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, note)
signal.alarm(600)


def wait_for_signal():
    sys.stdout.write("ready {}\n")
    sys.stdout.flush()
    while not came or how == "stubborn":
        time.sleep(0.01)


try:
    wait_for_signal()
except KeyboardInterrupt:
    print("KeyboardInterrupt")
    sys.exit(42)
sys.exit(10 + came[0])
