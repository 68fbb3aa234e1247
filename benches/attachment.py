"""One profiler attached to one target for a while, and what that cost both."""

import itertools
import os
import resource
import signal
import subprocess
import time
import typing

import measure
from profilers import Failed, Reading, gist

# How long a profiler may take to end after it was asked to: some have a lot to write.
PATIENCE = 60

numbers = itertools.count()


class Run(typing.NamedTuple):
    """What came of a recording, and what it cost while it went on."""

    reading: Reading
    use: float  # processor seconds of the profiler a second
    speeds: tuple  # of the target, as `measure.speed` has them
    peak: int  # KiB

    @property
    def rate(self):
        return self.reading.samples / self.reading.seconds


class Attachment:
    """A profiler's process, which ends with the `with` block whatever happens in it."""

    def __init__(self, profiler, target, rate, folder, seconds=None):
        self.profiler, self.target = profiler, target
        # pystrobe chooses the format by the name; the others do not look at it.
        self.output = os.path.join(folder, "%d.pstats" % next(numbers))
        self.peak, self.sampling_since = 0, None
        self.log = open(self.output + ".log", "w+b")
        self.process = subprocess.Popen(
            profiler.command(target, rate, self.output, seconds),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            # One that stops its target for each sample may have died in between.
            self.target.process.send_signal(signal.SIGCONT)
        self.log.close()
        for path in (self.output, self.output + ".log"):
            if os.path.exists(path):
                os.unlink(path)

    def told(self):
        with open(self.log.name, "rb") as log:
            return log.read().decode(errors="replace")

    def look(self):
        """Reads its peak of memory. `ru_maxrss` would be simpler, but begins with that of the process that started it."""
        try:
            self.peak = max(self.peak, measure.status(self.process.pid, "VmHWM"))
        except (OSError, StopIteration):
            pass  # it is ending

    def wait_until_it_samples(self):
        begins = self.profiler.begins
        while self.sampling_since is None or time.monotonic() < self.started + self.profiler.lead:
            if self.process.poll() is not None:
                raise Failed(gist(self.told()))
            if time.monotonic() > self.started + PATIENCE:
                raise Failed("it did not begin within %d s" % PATIENCE)
            if self.sampling_since is None and (begins is None or begins in self.told()):
                self.sampling_since = time.monotonic()
            time.sleep(0.005)

    def interrupt(self):
        """Asks it to end. Returns for how long it sampled, if it said when it began."""
        if self.process.poll() is not None:
            raise Failed(gist(self.told()))
        self.process.send_signal(signal.SIGINT)
        return time.monotonic() - self.sampling_since

    def wait(self, patience=PATIENCE):
        until = time.monotonic() + patience
        while self.process.poll() is None:
            if time.monotonic() > until:
                raise Failed("it did not end within %d s" % patience)
            self.look()
            time.sleep(0.005)


def window(target, seconds, pid=None):
    """The target's speeds, and the share of a core that the process `pid` uses meanwhile."""
    began, spent = time.monotonic(), measure.processor_seconds(pid) if pid else 0
    before = target.moment()
    time.sleep(seconds)
    speeds = measure.speed(before, target.moment())
    use = (measure.processor_seconds(pid) - spent) / (time.monotonic() - began) if pid else 0
    return speeds, use


def run(profiler, target, rate, seconds, folder):
    """Attaches a profiler, lets it sample for `seconds` at least, and ends it."""
    for attempt in range(4):
        with Attachment(profiler, target, rate, folder) as attachment:
            attachment.wait_until_it_samples()
            try:
                speeds, use = window(target, seconds, attachment.process.pid)
            except OSError:  # it has no clock any more
                raise Failed(gist(attachment.told())) from None
            sampled = attachment.interrupt()
            attachment.wait()
            try:
                reading = profiler.reading(attachment.told(), attachment.output, target.threads, sampled)
            except (Failed, OSError, ValueError) as error:
                if attempt == 3:
                    raise Failed(str(error)) from error
                reading = None
            if reading and reading.seconds >= seconds:
                if not reading.samples:
                    raise Failed("it took no samples")
                return Run(reading, use, speeds, attachment.peak)
        # Interrupted before it was ready, or sampling for a part of the window only: it needs more time to begin.
        profiler.lead *= 1.5
    raise Failed("it sampled for %.2f s of %.2f" % (reading.seconds, seconds))


def whole(profiler, target, folder):
    """A whole command that samples for a second: the seconds it took beside that one, its processor seconds, its peak.

    One second at 100 Hz is the shortest recording that each of them can make.
    """
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Attachment(profiler, target, 100, folder, seconds=1) as attachment:
        attachment.sampling_since = attachment.started
        attachment.wait()
        took = time.monotonic() - attachment.started
        reading = profiler.reading(attachment.told(), attachment.output, target.threads, 1)
        if not reading.samples:
            raise Failed("it took no samples: " + gist(attachment.told()))
        peak = attachment.peak
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took - 1, now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime, peak
