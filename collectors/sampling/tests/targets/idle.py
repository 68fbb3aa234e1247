"""Says which Python runs it. Runs on every Python from 2.7 on."""

import os
import sys

print("version=%d %d %d" % sys.version_info[:3])
print("python=" + sys.version.split()[0])
print("code_type=%d" % id(type((lambda: None).__code__)))
print("pid=%d" % os.getpid())
for library in sys.argv[1:]:
    import ctypes

    ctypes.CDLL(library)
print("ready")
sys.stdout.flush()
sys.stdin.read()
