# -*- coding: utf-8 -*-
"""Works in functions whose names and files are the awkward ones that Python allows.

Tells with `ready` what they are, as Python's `ascii` would print them: letters beyond ASCII and beyond the basic
plane, a newline, a tab, a semicolon, a trailing number, markup, a byte that is not UTF-8 (a lone surrogate in
Python's own terms), a name that is empty, and one of 5,000 characters.
"""

from handshake import ready, stopped

NAMES = [
    ("plain.py", "plain"),
    (u"gr\u00f6\u00dfe.py", u"gr\u00f6\u00dfe"),
    (u"\u65e5\u672c\u8a9e.py", u"\u51e6\u7406"),
    (u"rocket \U0001f680.py", u"fly_\U0001f680"),
    ("two\nlines.py", "new\nline"),
    ("tab\tfile.py", "tab\tname"),
    ("semi;colon.py", "semi;colon 123"),
    ("<tag attr=\"1\">&amp;.py", "<b>&'\""),
    ("caf\udce9.py", "broken\udcff"),
    ("nameless.py", ""),
    ("long.py", "n" * 5000),
]


def awkward(file, name):
    """A function that calls what it is given until it is false, under that name and from that file."""
    scope = {}
    exec(compile("def f(more):\n    while more():\n        pass\n", "x.py", "exec"), scope)
    code = scope["f"].__code__
    names = {"co_name": name}
    if hasattr(code, "co_qualname"):
        names["co_qualname"] = name
    scope["f"].__code__ = code.replace(co_filename=file, **names)
    return scope["f"]


def rounds():
    for _ in range(400):
        yield True
    yield False


functions = [awkward(file, name) for file, name in NAMES]
ready()
while not stopped():
    for function in functions:
        function(rounds().__next__)
