"""Runs a program: `plain`, or by cProfile, whose table it then writes to a file as JSON. All that either way would import is imported before."""
import cProfile
import enum
import functools
import json
import os
import pstats
import re
import sys

how, program = sys.argv[1:3]
sys.argv[:] = [program] + sys.argv[3:]
with open(program) as source:
    code = compile(source.read(), program, "exec")
names = {"__name__": "__main__", "__file__": program, "__builtins__": __builtins__}
if how == "plain":
    exec(code, names, names)
else:
    profile = cProfile.Profile()
    profile.runctx(code, names, names)
    profile.create_stats()
    rows = [[key, list(row[:2]), [[caller, list(edge[:2])] for caller, edge in row[4].items()]] for key, row in profile.stats.items()]
    with open(how, "w") as file:
        json.dump(rows, file)
