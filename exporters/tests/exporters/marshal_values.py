"""Reads and writes marshalled values for the tests of pystrobe's marshal.

Prints, for each version that this interpreter writes, one line a value: the marshalled bytes in
hex, a blank, and the value in a notation of the tests. Then loads each line of its input, hex as well,
and prints that value in the same notation.
"""

import binascii
import marshal
import struct
import sys

if sys.version_info[0] >= 3:
    long, unicode = int, str


def hexed(data):
    return binascii.hexlify(data).decode("ascii")


def notation(value):
    if value is None:
        return "N"
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, (int, long)):
        return "i%d" % value
    if isinstance(value, float):
        return "f" + hexed(struct.pack(">d", value))
    if isinstance(value, unicode):
        if sys.version_info[0] >= 3:
            return "s" + hexed(value.encode("utf-8", "backslashreplace"))
        return "s" + hexed(value.encode("utf-8"))
    if isinstance(value, bytes):
        return "b" + hexed(value)
    if isinstance(value, tuple):
        return "(" + ",".join(map(notation, value)) + ")"
    if isinstance(value, list):
        return "[" + ",".join(map(notation, value)) + "]"
    items = [notation(key) + ":" + notation(value[key]) for key in value]
    return "{" + ",".join(items) + "}"


def values():
    shared = ("file.py", 7, "name")
    interned = "interned_name"
    yield None
    yield True
    yield False
    for number in (0, 1, -1, 255, 2**31 - 1, -(2**31), 2**31, 2**40, -(2**62), 2**63 - 1, -(2**63)):
        yield number
    for number in (0.0, -0.0, 1.5, 1e-300, 1e300, 0.1, float("inf"), float("-inf")):
        yield number
    yield u""
    yield u"ascii"
    yield u"x" * 255
    yield u"x" * 256
    yield u"x" * 70000
    yield u"gr\xf6\xdfe \u6f22 \U0001f40d"
    yield b"bytes\xff\x00"
    yield "native"
    yield ()
    yield (1, (2, (3, ())))
    yield tuple(range(300))
    yield [1, [2.5, None], []]
    yield {}
    yield {shared: (1, 2, 0.5, 1.5, {shared: (1, 2, 0.5, 1.5)})}
    yield [shared, shared, interned, interned, interned]
    yield {("a", 1, "f"): (1, 1, 0.0, 0.0, {}), ("__sampled__",): True}
    if sys.version_info[0] >= 3:
        yield u"lone \udc80 surrogate \ud800"


for version in range(marshal.version + 1):
    for value in values():
        data = marshal.dumps(value, version)
        sys.stdout.write(hexed(data) + " " + notation(value) + "\n")
if sys.version_info >= (3, 15):
    value = frozendict({"a": 1})  # noqa: F821
    sys.stdout.write(hexed(marshal.dumps(value)) + " " + notation(value) + "\n")
sys.stdout.write("\n")
for line in sys.stdin:
    value = marshal.loads(binascii.unhexlify(line.strip().encode("ascii")))
    sys.stdout.write(notation(value) + "\n")
