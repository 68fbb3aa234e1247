"""Computes for a while and then collects garbage, in turn, beside a thread that sleeps. Knows the share of each."""

import gc
import threading
import time

from handshake import answer, clock, ready, stopped


def compute():
    n = 0
    for i in range(60000):
        n += i & 7
    return n


def collect():
    gc.collect()


def nap():
    while not stopped():
        time.sleep(0.01)


gc.disable()
held = [[i] for i in range(300000)]
sleeper = threading.Thread(target=nap, name="sleeper")
sleeper.start()
collect()
ready()
computed = collected = 0.0
while not stopped():
    began = clock()
    compute()
    between = clock()
    collect()
    computed += between - began
    collected += clock() - between
sleeper.join()
answer(computed=computed, collected=collected)
