"""Computes until it is killed. Prints `ready`."""

import signal

signal.alarm(600)
print("ready", flush=True)
while True:
    pass
