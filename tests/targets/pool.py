"""Works in child processes, and prints as JSON how many seconds each did, by its pid: `pool.py METHOD`.

METHOD is spawn, forkserver, fork, or executor (a ProcessPoolExecutor with the default method).
"""

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def piece(seconds):
    began = time.perf_counter()
    until = began + seconds
    while time.perf_counter() < until:
        pass
    return os.getpid(), time.perf_counter() - began


def main():
    work = [0.25] * 8
    if sys.argv[1] == "executor":
        with ProcessPoolExecutor(2) as pool:
            results = list(pool.map(piece, work))
    else:
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            results = pool.map(piece, work, chunksize=1)
    seconds = {}
    for pid, took in results:
        seconds[pid] = seconds.get(pid, 0) + took
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
