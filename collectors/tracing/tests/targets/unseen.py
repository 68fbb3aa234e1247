"""Prints what a program could notice of how it was started."""
import os
import sys

print(os.environ.get("PYTHONPATH"))
print([entry for entry in sys.path if "pystrobe" in entry], [entry for entry in sys.path_importer_cache if "pystrobe" in entry])
print(sorted(name for name in sys.modules if "pystrobe" in name or name == "sitecustomize"))
print(sys.getprofile(), sys.gettrace(), sys.argv[1:], sys.path[0] == os.path.dirname(os.path.abspath(__file__)))
