"""Ends in the way that it is told, after 1000 calls."""
import os
import sys
import time


def leaf():
    pass


def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def in_child():
    for _ in range(50):
        leaf()
    os._exit(0)


def in_process(n):
    for _ in range(n):
        leaf()


def main(how):
    for _ in range(1000):
        leaf()
    if how == "kill":
        spin(0.3)
        os.kill(os.getpid(), 9)
    elif how == "_exit":
        os._exit(5)
    elif how == "exit":
        sys.exit(7)
    elif how == "raise":
        raise ValueError("the end")
    elif how == "fork":
        pid = os.fork()
        if pid == 0:
            in_child()
        os.waitpid(pid, 0)
        leaf()
    elif how in ("mp-fork", "mp-spawn"):
        import multiprocessing

        multiprocessing.set_start_method(how[3:])
        process = multiprocessing.Process(target=in_process, args=(50,))
        process.start()
        process.join()
    elif how == "execute":
        import subprocess

        subprocess.check_call([sys.executable, "-c", "def leaf(): pass\nfor i in range(50): leaf()"])


if __name__ == "__main__":
    main(sys.argv[1])
