"""Has a child that is a copy of it for longer than it takes to notice, and then executes something that is no Python.

It waits in C code, and has no Python frame of its own, as any child that `subprocess` starts on a busy machine.
"""

import functools
import subprocess
import time

subprocess.Popen(["sleep", "0.1"], preexec_fn=functools.partial(time.sleep, 0.3)).wait()
