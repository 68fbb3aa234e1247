"""Executes what it is told to be attached to and detached from, with threads beside that make one call whenever it is their turn.

It is their turn in the midst of the loops by which the agent measures its cost, and again when the recording has begun, after the first call of the main
thread: each is met by both recordings, in another order.
"""
import builtins
import sys
import threading

numbers = range
ending = False
threads = []


def leaf():
    pass


def aside():
    pass


def locked():
    lock = threading.Lock()  # In C: what is written in Python may call what is exchanged here.
    lock.acquire()
    return lock


def beside(turn, done):
    turn.acquire()
    while not ending:
        aside()
        done.release()
        turn.acquire()


def take_turns():
    for _, turn, done in threads:
        turn.release()
        done.acquire()


def range_with_turns(end):
    take_turns()
    return numbers(end)


def execute(source):
    exec(source)


def main():
    global ending
    detach = sys.argv[1]
    for _ in numbers(3):
        turn, done = locked(), locked()
        thread = threading.Thread(target=beside, args=(turn, done), name="beside")
        threads.append((thread, turn, done))
        thread.start()
    for attach in sys.argv[2:]:
        builtins.range = range_with_turns
        execute(attach)
        builtins.range = numbers
        leaf()
        take_turns()
        leaf()
        execute(detach)
    ending = True
    for thread, turn, _ in threads:
        turn.release()
        thread.join()


main()
