"""Works in every way in which a stop could be noticed, in several threads, and checks each result of its own.

Prints `ready`, works until its stdin is closed, and prints what was injected and what went wrong.
"""

import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

seen = []
wrong = []
done = {}
stopping = threading.Event()


def check(name, holds):
    if not holds and len(wrong) < 20:
        wrong.append(name)


def floats():
    total = 0.0
    for number in range(1, 2000):
        total += math.sin(number) / number * math.sqrt(number)
    return total


def vectors():
    return sum(x * y for x, y in zip([0.1] * 500, [0.3] * 500)), 2.0**0.5, 1e308 * 10, complex(1, 2) ** 3


def recursion(depth):
    return 0 if depth == 0 else 1 + recursion(depth - 1)


def memory():
    pieces = [bytes(size) for size in range(0, 4000, 7)]
    table = {str(number): [number] * 3 for number in range(300)}
    return sum(map(len, pieces)), len(table)


def imports():
    for name in ("json.scanner", "json.decoder", "colorsys", "sndhdr_not_there"):
        sys.modules.pop(name, None)
        try:
            __import__(name)
        except ImportError:
            check("import " + name, name == "sndhdr_not_there")


def sleeps():
    began = time.monotonic()
    time.sleep(0.003)
    check("sleep", time.monotonic() - began >= 0.003)


def polls():
    left, right = socket.socketpair()
    with left, right:
        began = time.monotonic()
        check("select", select.select([left], [], [], 0.003) == ([], [], []))
        check("select's time", time.monotonic() - began >= 0.003)
        poll = select.poll()
        poll.register(left, select.POLLIN)
        began = time.monotonic()
        check("poll", poll.poll(3) == [])
        check("poll's time", time.monotonic() - began >= 0.003)
        left.settimeout(0.003)
        try:
            left.recv(1)
            check("recv", False)
        except socket.timeout:
            pass
        right.sendall(b"word")
        check("recv of a word", left.recv(100) == b"word")
        with select.epoll() as epoll:
            epoll.register(left, select.EPOLLIN)
            began = time.monotonic()
            check("epoll", epoll.poll(0.003) == [])
            check("epoll's time", time.monotonic() - began >= 0.002)


def locks():
    lock = threading.Lock()
    with lock:
        began = time.monotonic()
        check("lock", not lock.acquire(timeout=0.003))
        check("lock's time", time.monotonic() - began >= 0.003)


def children():
    child = subprocess.run([sys.executable, "-S", "-c", "import sys; sys.exit(7)"])
    check("child", child.returncode == 7)


alarms = []


def on_alarm(*_):
    alarms.append(None)


def guarded(name, work):
    """Runs `work` again and again; its result has to be the same each time."""
    first = work()
    rounds = 0
    while not stopping.is_set():
        try:
            check(name, work() == first)
        except Exception as error:
            check("%s: %r" % (name, error), False)
        rounds += 1
    done[name] = rounds


def echo(connection):
    with connection:
        while True:
            word = connection.recv(4096)
            if not word:
                return
            connection.sendall(word)


def talks():
    left, right = socket.socketpair()
    thread = threading.Thread(target=echo, args=(right,))
    thread.start()
    rounds = 0
    with left:
        while not stopping.is_set():
            word = b"%d" % rounds
            left.sendall(word)
            check("echo", left.recv(4096) == word)
            rounds += 1
    thread.join()
    done["talks"] = rounds


def reader():
    sys.stdin.buffer.raw.read()
    stopping.set()


def main():
    signal.alarm(0)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.007, 0.007)
    threads = [
        threading.Thread(target=reader, daemon=True),
        threading.Thread(target=guarded, args=("floats", floats)),
        threading.Thread(target=guarded, args=("sleeps", sleeps)),
        threading.Thread(target=talks),
    ]
    for thread in threads:
        thread.start()
    expected = floats(), vectors(), memory(), recursion(200)
    print("ready", flush=True)
    rounds = 0
    while not stopping.is_set():
        try:
            check("results", (floats(), vectors(), memory(), recursion(200)) == expected)
            imports()
            sleeps()
            polls()
            locks()
            if rounds % 20 == 0:
                children()
        except Exception as error:
            check("main: %r" % error, False)
        rounds += 1
    for thread in threads[1:]:
        thread.join()
    signal.setitimer(signal.ITIMER_REAL, 0)
    done["main"] = rounds
    check("alarms", len(alarms) > 1)
    print(json.dumps({"seen": seen, "wrong": wrong, "done": done}), flush=True)


def on_death():
    # The test that started it is gone.
    os._exit(1)


timer = threading.Timer(600, on_death)
timer.daemon = True
timer.start()
main()
