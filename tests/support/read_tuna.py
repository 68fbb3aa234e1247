"""Reads a file as tuna does, which tries whether it is an import-time log first, and prints its tree as JSON."""

import json
import sys

from tuna.main import read, render

sys.setrecursionlimit(10000)
tree = read(sys.argv[1])
assert "alternat" in render(tree, sys.argv[1])
json.dump(tree, sys.stdout)
