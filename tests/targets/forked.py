"""Has a child by fork, which works in `crunch`, mostly without the GIL, and tells its process id with `ready`."""

import hashlib
import os
import signal
import time

from handshake import answer, ready, stopped


def crunch():
    while True:
        hashlib.pbkdf2_hmac("sha256", b"password" * 8, b"salt" * 4, 2000)


reader, writer = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.write(writer, b".")
    crunch()
os.read(reader, 1)
ready(child=child)
while not stopped():
    time.sleep(0.01)
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
answer()
