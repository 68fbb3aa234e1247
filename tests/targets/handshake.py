"""How a target and its test talk to each other.

The target prints `ready` when it is in the state that the test wants to see, works until SIGTERM, and then prints
one line of JSON: what it knows about itself. An alarm ends a target whose test died before it; TARGET_LIFE says after
how many seconds, where ten minutes are too few.

Runs on every Python from 2.7 on, and imports nothing that would show up as a thread or a child.
"""

import json
import os
import signal
import sys
import time

clock = getattr(time, "perf_counter", time.time)

_stopped = []


def _stop(*_):
    _stopped.append(True)


signal.signal(signal.SIGTERM, _stop)
signal.alarm(int(os.environ.get("TARGET_LIFE", "600")))


def ready(**news):
    """Tell the test that it may look now; `news` is what it has to know."""
    sys.stdout.write("ready %s\n" % json.dumps(news))
    sys.stdout.flush()


def stopped():
    """Whether the test has seen enough."""
    return bool(_stopped)


def answer(**truth):
    """Tell the test what was true."""
    sys.stdout.write(json.dumps(truth) + "\n")
    sys.stdout.flush()
