"""Has a child, which works in `crunch`, mostly without the GIL, and tells its process id with `ready`.

The argument says how the child is made: by `os.fork`, which tells the interpreter, or by the C library's `fork`, as an extension
may do it: then the child goes on to say that its thread is that of its parent.
"""

import ctypes
import hashlib
import os
import signal
import sys
import time

from handshake import answer, ready, stopped


def crunch():
    while True:
        hashlib.pbkdf2_hmac("sha256", b"password" * 8, b"salt" * 4, 2000)


# PyDLL keeps the GIL.
fork = {"os": os.fork, "libc": ctypes.PyDLL(None).fork}[sys.argv[1]]
reader, writer = os.pipe()
child = fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # PR_SET_PDEATHSIG: nobody else would end it if the parent is killed.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.write(writer, b".")
    crunch()
os.read(reader, 1)
ready(child=child)
while not stopped():
    time.sleep(0.01)
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
answer()
