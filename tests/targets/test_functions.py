"""Runs the test functions of modules, in the order of their names: `test_functions.py MODULE...`."""

import importlib
import sys

for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for test in sorted(vars(module)):
        if test.startswith("test_"):
            vars(module)[test]()
