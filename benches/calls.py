"""What `benches/tracing` times: calls of three kinds, as nanoseconds a call, printed as JSON. `calls.py ROUNDS`.

- `recursion`: `fibonacci(16)`, which calls itself 3193 times
- `tiny`: a loop that calls a function with nothing in it
- `builtins`: a loop with a function in C and two methods of builtin types a round
- `yardstick`: additions in a loop in C, which is one call, whoever counts it: what it takes says how fast the processor was

Each is timed ROUNDS times, by itself, and the fastest is printed: what else the machine does only makes it slower. A round
takes a few milliseconds at most, so that some of them are not interrupted.
"""

import json
import sys
import time


def fibonacci(n):
    if n < 2:
        return n
    return fibonacci(n - 1) + fibonacci(n - 2)


def nothing():
    pass


def recursion():
    fibonacci(16)


def tiny():
    for _ in range(3000):
        nothing()


def builtins():
    text, items = "text", []
    for _ in range(1000):
        len(text)
        items.append(text)
        items.pop()


def yardstick():
    sum(range(20_000))


# Each with its calls in a round; the yardstick with its additions.
KINDS = ((recursion, 3193), (tiny, 3000), (builtins, 3000), (yardstick, 20_000))

fastest = {}
for _ in range(int(sys.argv[1])):
    for kind, calls in KINDS:
        began = time.perf_counter()
        kind()
        took = (time.perf_counter() - began) / calls * 1e9
        fastest[kind.__name__] = min(took, fastest.get(kind.__name__, took))
print(json.dumps(fastest))
