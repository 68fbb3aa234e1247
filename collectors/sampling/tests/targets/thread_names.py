"""Threads with names of every kind: says for each its identifier, its kernel id and its name."""

import sys
import threading

count = int(sys.argv[1])
over = threading.Event()
said = threading.Semaphore(0)
facts = []


class Subclass(threading.Thread):
    """Has attributes before and behind those of `Thread`, and more than instances share keys for."""

    def __init__(self, **kwargs):
        self.first = 1
        super().__init__(**kwargs)
        for number in range(40):
            setattr(self, "attribute_%d" % number, number)


class WithSlots(threading.Thread):
    __slots__ = ("one", "two")


class Seen(threading.Thread):
    """Its attributes were looked at as a dict."""

    def run(self):
        assert self.__dict__
        super().run()


def wait():
    facts.append((threading.get_ident(), threading.get_native_id(), threading.current_thread()))
    said.release()
    over.wait()


def renamed():
    threading.current_thread().name = "renamed"
    wait()


def native(start):
    import _thread

    _thread.start_new_thread(start, ())


threads = [
    threading.Thread(target=wait, name="plain"),
    threading.Thread(target=wait),
    threading.Thread(target=wait, name=""),
    threading.Thread(target=wait, name="caf\xe9 \u0442\u0435\u043a\u0441\u0442 \U0001f600"),
    threading.Thread(target=wait, name="line\nbreak"),
    threading.Thread(target=renamed, name="before"),
    Subclass(target=wait, name="subclass"),
    WithSlots(target=wait, name="with slots"),
    Seen(target=wait, name="seen"),
]
threads += [threading.Thread(target=wait, name="worker %03d" % n, daemon=True) for n in range(count)]
for thread in threads:
    thread.start()
# A thread that `threading` did not start, and has met: a `_DummyThread`.
native(wait)
for _ in range(len(threads) + 1):
    said.acquire()
facts.append((threading.get_ident(), threading.get_native_id(), threading.main_thread()))
for ident, native_id, thread in facts:
    print("thread", ident, native_id, thread.name.encode("utf-8").hex())
print("ready", flush=True)
sys.stdin.read()
