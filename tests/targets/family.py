"""Has two children, one of which has one in turn, each in `child_work`, and a `sleep`. Says which with `ready`."""

import os
import signal
import subprocess
import time

from handshake import answer, ready, stopped


def child_work():
    while True:
        sum(range(1000))


def fork(work):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work(writer)
        os._exit(0)
    os.close(writer)
    pids = [child] + [int(pid) for pid in os.read(reader, 100).split()]
    os.close(reader)
    return pids


def only_work(writer):
    os.write(writer, b" ")
    child_work()


def have_a_child(writer):
    (child,) = fork(only_work)
    os.write(writer, b"%d" % child)
    child_work()


sleep = subprocess.Popen(["sleep", "600"])
pids = fork(only_work) + fork(have_a_child)
ready(pids=pids, sleep=sleep.pid)
while not stopped():
    time.sleep(0.01)
for pid in pids + [sleep.pid]:
    os.kill(pid, signal.SIGTERM)
answer()
