"""Calls in threads, each as often as its name says."""
import threading


def leaf():
    pass


def work(n):
    for _ in range(n):
        leaf()


def nested(n):
    inner = threading.Thread(target=work, args=(n,), name="inner-%d" % n)
    inner.start()
    inner.join()
    work(n + 1)


threads = [threading.Thread(target=work, args=(1000 * n,), name="worker-%d" % (1000 * n)) for n in range(1, 5)]
threads.append(threading.Thread(target=nested, args=(7,), name="outer-8"))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
work(3)
