"""Prints, as JSON, all that a program can easily tell about how it was started."""

import json
import os
import signal
import sys


def status(*keys):
    with open("/proc/self/status") as lines:
        pairs = (line.split(":", 1) for line in lines)
        return {key: value.strip() for key, value in pairs if key in keys}


def descriptors():
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink("/proc/self/fd/" + name)
        except OSError:  # the one that listed the folder
            continue
        found[name] = target.split(":")[0]
    return found


main = sys.modules["__main__"]
print(
    json.dumps(
        {
            "argv": sys.argv,
            "orig_argv": getattr(sys, "orig_argv", None),
            "path": sys.path,
            "flags": repr(sys.flags),
            "executable": sys.executable,
            "modules": sorted(sys.modules),
            "main": [main.__name__, getattr(main, "__file__", None), getattr(main.__spec__, "name", None)],
            "main dict": sorted(vars(main)),
            "cwd": os.getcwd(),
            "environment": dict(os.environ),
            "descriptors": descriptors(),
            "signals": status("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd"),
            "seccomp": status("NoNewPrivs", "Seccomp", "TracerPid"),
            "umask": status("Umask"),
            "limits": [os.nice(0), os.sched_getaffinity(0) == os.sched_getaffinity(os.getppid())],
            "handlers": {str(s): repr(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)},
            "group leader": os.getpgrp() == os.getpid(),
            "session": os.getsid(0) == os.getsid(os.getppid()),
            "trace": [repr(sys.gettrace()), repr(sys.getprofile())],
            "stdin": sys.stdin.read(),
        },
        sort_keys=True,
    )
)
sys.stderr.write("mirror's stderr\n")
