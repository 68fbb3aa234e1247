"""Prints the line tables of many code objects and what this Python itself reads from them.

A line of output is a code object: its name, the length of its bytecode, co_firstlineno, the table in hexadecimal, and then
`offset:line` wherever the line changes, with `-` for no line.
"""

import ctypes
import dis
import os
import sys
import types

MODULES = [
    "argparse",
    "asyncio/tasks",
    "configparser",
    "dataclasses",
    "inspect",
    "_pydecimal",
    "tarfile",
    "typing",
]

PIECES = {
    "gap": "def f(x):\n    a = (x +" + "\n" * 700 + "        x.y)\n    return a\n",
    "backwards": "f(\n" + "\n".join("    g%d()," % i for i in range(300)) + "\n)\n",
    "wide": "a = " + " + ".join("name_%d(  argument)" % i for i in range(300)) + "\n",
    "far": "\n" * 100000 + "def f():\n    try:\n        return 1\n    finally:\n        print()\n",
    "flow": (
        "async def f(a):\n"
        "    async with a as b:\n"
        "        async for c in b:\n"
        "            with c, b:\n"
        "                if c: continue\n"
        "        else:\n"
        "            yield c\n"
        "    while True:\n"
        "        try: pass\n"
        "        except (A, B) as e: raise\n"
        "        finally:\n"
        "            break\n"
        "    return\n"
    ),
    "statements": "".join("value_%d = other\n" % (i % 100) for i in range(40000)),
    "empty": "",
}

addr2line = ctypes.pythonapi.PyCode_Addr2Line
addr2line.argtypes = [ctypes.py_object, ctypes.c_int]


def changes(code):
    """The (offset, line) where the line changes, by the interpreter's own reading."""
    length = len(code.co_code)
    if length <= 4000:
        lines = [addr2line(code, offset) for offset in range(0, length, 2)]
        pairs = [(2 * index, None if line < 0 else line) for index, line in enumerate(lines)]
    elif hasattr(code, "co_lines"):
        # Every call of the above starts at the front: not for large code.
        pairs = [(start, line) for start, end, line in code.co_lines() if start < end]
    else:
        pairs = list(dis.findlinestarts(code))
    previous = object()
    for offset, line in pairs:
        if line != previous:
            yield "%d:%s" % (offset, "-" if line is None else line)
        previous = line


def show(code):
    waiting = [code]
    while waiting:
        code = waiting.pop()
        waiting.extend(each for each in code.co_consts if isinstance(each, types.CodeType))
        table = code.co_linetable if hasattr(code, "co_linetable") else code.co_lnotab
        name = code.co_name.replace(" ", "_")
        print(name, len(code.co_code), code.co_firstlineno, table.hex() or "-", *changes(code))


for module in MODULES:
    path = os.path.join(os.path.dirname(os.__file__), module + ".py")
    with open(path, encoding="utf-8") as file:
        show(compile(file.read(), path, "exec"))
for name, source in PIECES.items():
    show(compile(source, name, "exec"))
