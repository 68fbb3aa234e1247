"""COUNT threads that wait, named `waiter-000` and so on, and one that works: `threads.py COUNT`.

The main thread is the one that works, in `work`.
"""

import sys
import threading

from handshake import ready, stopped

count = int(sys.argv[1])
started = threading.Semaphore(0)
over = threading.Event()


def wait():
    started.release()
    over.wait()


def work():
    while not stopped():
        for _ in range(1000):
            pass


threads = [threading.Thread(target=wait, name="waiter-%03d" % n) for n in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    started.acquire()
ready()
work()
over.set()
for thread in threads:
    thread.join()
