"""Works in `before`, and turns into another program at SIGTERM: `becomes.py PROGRAM ARGUMENTS...`."""

import os
import sys

from handshake import ready, stopped


def before():
    while not stopped():
        for _ in range(1000):
            pass


ready()
before()
os.execv(sys.argv[1], sys.argv[1:])
