"""Compiles all files of a folder, as `python -m compileall` does: `compile_all.py FOLDER`."""

import compileall
import sys

sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, force=True))
