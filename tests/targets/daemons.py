"""Starts daemons as they start themselves: forks a child that forks one and ends at once. Prints their ids as JSON.

Each works for 60 ms in `daemon_work`; half of them begin a session of their own.
"""

import json
import os
import time


def daemon_work():
    until = time.perf_counter() + 0.06
    while time.perf_counter() < until:
        pass


def start(own_session):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if own_session:
            os.setsid()
        if os.fork() == 0:
            os.write(writer, b"%d" % os.getpid())
            daemon_work()
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    daemon = int(os.read(reader, 100))
    # Its end of the pipe closes when it ends.
    os.read(reader, 100)
    os.close(reader)
    return daemon


print(json.dumps([start(number % 2) for number in range(6)]))
