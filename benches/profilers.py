"""The profilers that `benches/peers` compares: the command line of each, and what its output says.

A *sample* is one look at all threads that are asked for. Tachyon and pystrobe count those; Austin and py-spy count
stacks, which are divided by the number of threads here. A sample is *lost* if the profiler says that it could not take it.
A stack is *cut* if it does not begin with the function at the base of its thread; pystrobe says that of its stacks too,
but what is used here is the file that each of them wrote. Austin writes what it has of a lost one, so that is both.
"""

import marshal
import pathlib
import re
import typing

# A sample a microsecond: as fast as each of them can.
FULL = 1_000_000

# What the stack of the main thread and that of any other begin with.
BASES = ("<module>", "_bootstrap")


class Failed(Exception):
    """A profiler could not be installed, or did not do its work; the message is what it said."""


class Reading(typing.NamedTuple):
    """What a profiler said of its recording."""

    samples: float
    seconds: float  # for which it sampled
    lost: float  # share of the samples
    cut: float  # share of the stacks
    mended: float = 0.0  # share of the samples that were repaired or truncated; only pystrobe tells


def is_base(function):
    return function.rsplit(".", 1)[-1] in BASES


def found(pattern, told):
    match = re.search(pattern, told)
    if match is None:
        raise Failed("it says: " + gist(told))
    return match


def gist(told):
    """What a program said, in a line: of a traceback the error, else how it began, without colours and banners."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", told).splitlines()]
    lines = [line for line in lines if re.search(r"[A-Za-z]{4}", line)]
    if not lines:
        return "nothing"
    text = lines[-1] if any(line.startswith("Traceback") for line in lines) else " ".join(lines)
    return text if len(text) <= 200 else text[:199] + "…"


def cut_in_pstats(path):
    """The share of time whose stacks have no base; own times add up to all of it, whatever their unit."""
    with open(path, "rb") as file:
        table = marshal.load(file)
    rows = {key: row for key, row in table.items() if isinstance(row, tuple)}  # flavors add marks to the table
    everything = sum(row[2] for row in rows.values())
    based = sum(row[3] for (_, _, function), row in rows.items() if is_base(function))
    return max(0.0, 1 - based / everything) if everything else 0.0


class Profiler:
    """One of them. `command` is what attaches it; without seconds it goes on until SIGINT."""

    # What it prints when it begins, for those who do not say afterwards for how long they sampled.
    begins = None

    def __init__(self, name, lead):
        self.name = name
        self.lead = lead  # seconds from its start to its first sample, generously; made longer when that was too short

    def command(self, target, rate, output, seconds=None):
        raise NotImplementedError

    def reading(self, told, output, threads, seconds):
        """What it did, from what it printed and wrote. `seconds` passed since it printed what `begins` says."""
        raise NotImplementedError


class Pystrobe(Profiler):
    def __init__(self, program):
        super().__init__("pystrobe", 0.3)
        self.program = program

    def command(self, target, rate, output, seconds=None):
        duration = ["-d", "%ds" % seconds] if seconds else []
        return [self.program, "attach", target.pid, "-r", "%dhz" % rate, "-o", output, *duration]

    def reading(self, told, output, threads, seconds):
        said = found(r"(\d+) samples in ([\d.]+) s\b.*", told)
        samples = int(said[1])
        share = {word: int(count) / max(1, samples) for count, word in re.findall(r"(\d+) ([a-z]+)", said[0])}
        return Reading(samples, float(said[2]), share["lost"], cut_in_pstats(output), share["repaired"] + share["truncated"])


class Tachyon(Profiler):
    """`profiling.sampling`; it reads its own minor version only, so it runs in the target's interpreter."""

    def __init__(self):
        super().__init__("Tachyon", 1.0)

    def command(self, target, rate, output, seconds=None):
        everyone = ["-a"] if target.threads > 1 else []
        duration = ["-d", "%d" % seconds] if seconds else []
        return [target.python, "-m", "profiling.sampling", "attach", "-r", str(rate), "--pstats", "-o", output,
                *everyone, *duration, target.pid]

    def reading(self, told, output, threads, seconds):
        said = found(r"Captured ([\d,]+) samples? in ([\d.,]+) seconds", told)
        lost = float(found(r"Error rate: ([\d.]+)", told)[1]) / 100
        return Reading(int(said[1].replace(",", "")), float(said[2].replace(",", "")), lost, cut_in_pstats(output))


class Austin(Profiler):
    def __init__(self, start):
        super().__init__("Austin", 0.3)
        self.start = start

    def command(self, target, rate, output, seconds=None):
        duration = ["-x", "%d" % seconds] if seconds else []
        return [*self.start, "-i", "%d" % (FULL // rate), "-o", output, *duration, "-p", target.pid]

    def reading(self, told, output, threads, seconds):
        told = re.sub(r"\x1b\[[0-9;]*m", "", told)
        duration = found(r"Total duration[ .]*([\d.]+)(\w*)", told)
        errors, stacks = map(int, found(r"Error rate[ .]*(\d+)/(\d+)", told).groups())
        unit = {"s": 1, "ms": 1e-3, "us": 1e-6, "μs": 1e-6}[duration[2]]
        return Reading(stacks / threads, float(duration[1]) * unit, errors / max(1, stacks), self.cut(output))

    # The events of its format, MOJO 3, as its documentation has them: a number ends with the first byte below 0x80.
    NUMBER = rb"[\x80-\xff]*[\x00-\x7f]"
    TEXT = rb"[^\0]*\0"
    META = rb"\x01" + 2 * TEXT
    # The name of a string and what it is; the name of a frame, its file, its function and four positions.
    NEWS = rb"\x0b(%b)(%b)|\x03(%b)%b(%b)%b" % (NUMBER, TEXT, NUMBER, NUMBER, NUMBER, 4 * NUMBER)
    # What is new in it, the frame at its base, and whether a frame could not be read; it ends with its time.
    STACK = rb"\x02%b%b((?:\x0b%b%b|\x03%b)*)(?:\x05(%b))?(?:\x05%b|(\x04)|\x06%b|[\x07\x08]|\x0c%b)*\x09%b" % (
        2 * NUMBER, TEXT, NUMBER, TEXT, 7 * NUMBER, NUMBER, NUMBER, TEXT, NUMBER, NUMBER)

    def cut(self, output):
        content = pathlib.Path(output).read_bytes()
        if content[:4] != b"MOJ\x03":
            raise Failed("it wrote %r, not MOJO 3" % content[:4])
        event = re.compile(b"(?:%b)*%b" % (self.META, self.STACK), re.DOTALL)
        strings, bases = {}, set()
        stacks = cut = 0
        position = 4
        while match := event.match(content, position):
            position = match.end()
            news, base, invalid = match.groups()
            for string, text, frame, name in re.findall(self.NEWS, news, re.DOTALL):
                if string:
                    strings[string] = text.rstrip(b"\0").decode()
                elif is_base(strings.get(name, "")):
                    bases.add(frame)
            stacks += 1
            cut += base not in bases or invalid is not None
        # The last stack may be incomplete where it was interrupted.
        if len(content) - position > 100_000:
            raise Failed("its output cannot be read from byte %d on" % position)
        return cut / max(1, stacks)


class PySpy(Profiler):
    begins = "Sampling process"

    def __init__(self, program, nonblocking):
        super().__init__("py-spy, non-blocking" if nonblocking else "py-spy", 0.3)
        self.program, self.nonblocking = program, nonblocking

    def command(self, target, rate, output, seconds=None):
        options = ["--nonblocking"] if self.nonblocking else []
        options += ["--idle"] if target.threads > 1 else []
        # Its duration is a number of samples, however long they take; so full speed has to be ended by SIGINT.
        options += ["-d", "%d" % seconds] if seconds else []
        return [self.program, "record", "-r", str(rate), "-f", "raw", "-o", output, *options, "-p", target.pid]

    def reading(self, told, output, threads, seconds):
        said = found(r"Samples: (\d+) Errors: (\d+)", told)
        samples, errors = int(said[1]) / threads, int(said[2])
        stacks = cut = 0
        with open(output, encoding="utf-8") as lines:
            for line in lines:
                stack, _, count = line.rpartition(" ")
                stacks += int(count)
                if not is_base(stack.partition(" (")[0]):
                    cut += int(count)
        return Reading(samples, seconds, errors / max(1, samples + errors), cut / max(1, stacks))
