"""What `benches/cost` and `benches/peers` share: the target, the program, the clocks, and what the machine is."""

import datetime
import json
import os
import pathlib
import platform
import select
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A target that is stopped for each sample answers late; one that does not answer for so long is stuck.
PATIENCE = 60


class Stuck(Exception):
    """A target did not answer."""


class Target:
    """A running `tests/targets/counting.py`, which ends with the `with` block whatever happens in it."""

    def __init__(self, python, depth, threads=1, moving=False):
        self.python, self.depth, self.threads = python, depth, threads
        self.process = subprocess.Popen(
            [python, "-B", str(ROOT / "tests/targets/counting.py"), str(depth), str(threads)]
            + ["moving"] * moving,
            env=dict(os.environ, TARGET_LIFE="3600"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.line()
        assert line.startswith("ready"), line

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def pid(self):
        return str(self.process.pid)

    def line(self):
        # It never prints a second line before it was asked, so nothing waits in the reader's buffer.
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            self.process.kill()
            raise Stuck("the target did not answer for %d s" % PATIENCE)
        return self.process.stdout.readline()

    def moment(self):
        self.process.send_signal(signal.SIGUSR1)
        return json.loads(self.line())


def speed(before, after):
    """Rounds per second of wall time, and per second of processor time."""
    rounds = after["rounds"] - before["rounds"]
    return rounds / (after["wall"] - before["wall"]), rounds / (after["processor"] - before["processor"])


def status(pid, key, task=None):
    """A number of `/proc/PID/status`; memory is in KiB there."""
    with open("/proc/%d/%s" % (pid, "task/%s/status" % task if task else "status")) as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key))


def processor_seconds(pid):
    """User and system seconds of a process, all its threads, to the nanosecond; `/proc/PID/stat` has hundredths."""
    # The number of another process's clock, as clock_getcpuclockid(3) makes it (CPUCLOCK_SCHED is 2).
    return time.clock_gettime(~pid << 3 | 2)


def build(program):
    """The program that was named, else the one of this tree, built in release mode."""
    if program is not None:
        return program
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    return str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/pystrobe")


def floor(pid):
    """What `benches/floor.rs` measures beside a process: nanoseconds of a read ("median", "best") and of a "sleep"."""
    bench = ["cargo", "bench", "--quiet", "--bench", "floor"]
    subprocess.run([*bench, "--no-run"], cwd=ROOT, check=True, stdin=subprocess.DEVNULL)
    printed = subprocess.run(
        [*bench, "--", pid], cwd=ROOT, check=True, timeout=120,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def version_of(python):
    """As in `3.12.1`."""
    return subprocess.run(
        [python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
        check=True, capture_output=True, text=True).stdout.strip()


def pythons():
    """Each one that `tests/interpreters` lists, oldest version first."""
    return subprocess.run(
        [ROOT / "tests/interpreters", "list"], check=True, capture_output=True, text=True).stdout.split()


def minor(version):
    """`(3, 12)` for `3.12.1`."""
    return tuple(map(int, version.split(".")[:2]))


def machine():
    """The date and the machine, in a line."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return "%s, %d cores of %s (%s), Linux %s" % (
        datetime.date.today().isoformat(), os.cpu_count(), model, platform.machine(), platform.release())
