"""Defines a function by exec again and again, calls it for about half a millisecond, and drops it.

Code objects come and go at the same addresses. File, first line and name of each follow from one number N:
`<gen N>`, N % 100 + 1 and `f_N`, so that a mixed-up one shows. Answers `defined`, how many there were.
"""

from handshake import answer, clock, ready, stopped

SOURCE = """%sdef f_%05d(clock):
    until = clock() + 0.0005
    n = 0
    while clock() < until:
        n += 1
    return n
"""


def redefine(number):
    namespace = {}
    source = SOURCE % ("\n" * (number % 100), number)
    exec(compile(source, "<gen %05d>" % number, "exec"), namespace)
    namespace["f_%05d" % number](clock)


ready()
number = 0
while not stopped():
    redefine(number)
    number += 1
answer(defined=number)
