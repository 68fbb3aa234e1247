"""Four pieces of work in child processes, and the sum of what they bring: `processes.py METHOD`.

METHOD is spawn, forkserver, fork, or executor (a ProcessPoolExecutor with the default method). Prints the sum.
"""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor


def piece(n):
    return sum(i * i for i in range(n * 1000))


def main():
    method = sys.argv[1]
    if method == "executor":
        with ProcessPoolExecutor(2) as pool:
            results = list(pool.map(piece, range(1, 5)))
    else:
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = pool.map(piece, range(1, 5))
    print(sum(results))


if __name__ == "__main__":
    main()
