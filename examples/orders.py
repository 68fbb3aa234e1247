"""A small shop that is slower than it should be: something to try pystrobe on.

It reads orders, checks them on two threads and prints what was sold. It takes some three seconds.
"""

import json
import re
import sys
import threading
import time


def make_orders(count):
    """Orders as a web shop would receive them, one JSON document each."""
    return [
        json.dumps({"id": n, "customer": "c%d@example.org" % (n % 997), "lines": [n % 7, n % 11, n % 13]})
        for n in range(count)
    ]


def valid(address):
    # Compiled anew for every order: the cache of `re` hides it from a reader, not from a profiler.
    re.purge()
    return re.compile(r"^[a-z0-9.]+@[a-z0-9.]+\.[a-z]{2,}$").match(address) is not None


def parse(document):
    order = json.loads(document)
    if not valid(order["customer"]):
        raise ValueError(order["customer"])
    return order


def price(line, depth=6):
    """The price of an article: a discount on a discount on a discount."""
    if depth == 0:
        return 100 + line
    return price(line, depth - 1) - price(line, depth - 1) // 10


def check(orders, until):
    total = 0
    while time.monotonic() < until:
        for document in orders:
            order = parse(document)
            total += sum(price(line) for line in order["lines"])
            if time.monotonic() >= until:
                break
    return total


def main(seconds):
    orders = make_orders(500)
    until = time.monotonic() + seconds
    helper = threading.Thread(target=check, args=(orders, until), name="checker")
    helper.start()
    total = check(orders, until)
    helper.join()
    print("checked until the shop closed" if total else "no orders")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
