"""Has as many children as its argument says, which wait in `child_waits`. SIGUSR1 ends the first hundred of them."""

import os
import signal
import sys
import time

from handshake import answer, ready, stopped


def child_waits(reader):
    os.read(reader, 1)
    os._exit(0)


def let_go(number):
    for pid, writer in children[:number]:
        os.close(writer)
        os.waitpid(pid, 0)
    del children[:number]


children = []
for _ in range(int(sys.argv[1])):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(writer)
        for _, other in children:
            os.close(other)
        child_waits(reader)
    os.close(reader)
    children.append((child, writer))
signal.signal(signal.SIGUSR1, lambda *_: let_go(100))
ready()
while not stopped():
    time.sleep(0.01)
let_go(len(children))
answer()
