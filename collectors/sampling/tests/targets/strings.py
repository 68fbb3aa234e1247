"""Says where strings of every kind are, and what should be read there."""

import os
import sys


class Sub(str):
    pass


texts = [
    "",
    "a",
    "plain ascii",
    "\xe9",
    "caf\xe9 latin-1",
    "\u0442\u0435\u043a\u0441\u0442",
    "smile \U0001f600",
    os.fsdecode(b"caf\xe9.py") if sys.getfilesystemencoding() == "utf-8" else "caf\udce9.py",
    "\ud83d\ude00",
    "\U0001f600 and \udfff",
    "x" * 4096,
    "y" * 4097,
    "\u20ac" * 70000,
]
kept = list(texts) + [Sub(text) for text in texts]
kept.append(sys.intern("interned " + str(len(texts))))
kept.append(compile("", "name of \u20ac file", "exec").co_filename)

long_name = "T" * 300
kinds = [str, dict, type(sys._getframe()), Sub, type(long_name, (), {})]


def cut(text, limit):
    return text if len(text) <= limit else text[:limit] + "\u2026"


for text in kept:
    # What UTF-8 cannot hold is written out.
    print("str", id(text), cut(str(text), 4096).encode("utf-8", "backslashreplace").hex())
for kind in kinds:
    print("type", id(kind), cut(kind.__name__, 256).encode("utf-8").hex())
print("ready", flush=True)
sys.stdin.read()
