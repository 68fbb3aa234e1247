"""Two greenlets compute in turn, `heavy` for three times as long as `light`, each from several calls deep.

A turn takes some dozen microseconds, or, `tight`, a few. With `generators` a generator is in the middle of each stack,
resumed by C code, and the switch happens inside it. Only these stacks exist:

    main_loop
    heavy_1 > heavy_2 > [heavy_generator >] heavy_3 > heavy_work | stopped | turn_ends | ready
    light_1 > light_2 > [light_generator >] light_3 > light_work | stopped | turn_ends

Switches to the other one are made in `heavy_3` and `light_3`; `main_loop` below both only starts them.
"""

import sys

import greenlet

from handshake import answer, clock, ready, stopped

UNIT = 5 if "tight" in sys.argv else 200
THROUGH_GENERATORS = "generators" in sys.argv

spent = {"heavy": 0.0, "light": 0.0}
since = clock()


def turn_ends(whose):
    """What comes after this is the other one's: the switch, and what happens on the other side."""
    global since
    now = clock()
    spent[whose] += now - since
    since = now


def heavy_work(n):
    for _ in range(3 * UNIT):
        n += 1
    return n


def light_work(n):
    for _ in range(UNIT):
        n += 1
    return n


def heavy_3():
    ready()
    while not stopped():
        heavy_work(0)
        turn_ends("heavy")
        light.switch()


def light_3():
    while not stopped():
        light_work(0)
        turn_ends("light")
        heavy.switch()


def heavy_generator():
    yield heavy_3()


def light_generator():
    yield light_3()


def heavy_2():
    if THROUGH_GENERATORS:
        list(heavy_generator())
    else:
        heavy_3()


def light_2():
    if THROUGH_GENERATORS:
        list(light_generator())
    else:
        light_3()


def heavy_1():
    heavy_2()


def light_1():
    light_2()


heavy = greenlet.greenlet(heavy_1)
light = greenlet.greenlet(light_1)


def main_loop():
    heavy.switch()


main_loop()
answer(**spent)
