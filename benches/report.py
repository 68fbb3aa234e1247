"""The tables of `benches/peers`, in Markdown, and whether pystrobe reached its goals."""

import collections
import statistics

import measure

DEPTHS = (5, 20, 100, 500)
SHAPES = [(depth, 1) for depth in DEPTHS] + [(20, 10), (20, 100)]  # depth, threads
COST_DEPTHS = (20, 100)
RATES = (100, 1_000, 10_000)

OURS = "pystrobe"

# The most of each peer's processor time that pystrobe may use at 1 kHz, 20 frames deep.
GOALS_OF_COST = {"Austin": 1 / 3, "Tachyon": 1 / 10, "py-spy": 1 / 25}


class Results:
    """What was measured: a list over the turns for each case, with None where a profiler failed."""

    def __init__(self):
        self.floor = None  # {"median": nanoseconds, "best": nanoseconds}
        self.speed = collections.defaultdict(list)  # (version, name, depth, threads): runs
        self.cost = collections.defaultdict(list)  # (version, name, depth, rate): runs, each with the speeds kept
        self.start = collections.defaultdict(list)  # (version, name): seconds, processor seconds, KiB

    def of_ours(self):
        """Every recording of pystrobe."""
        runs = [run for key, runs in self.speed.items() if key[1] == OURS for run in runs]
        runs += [came and came[0] for key, cost in self.cost.items() if key[1] == OURS for came in cost]
        return [run for run in runs if run]


def middle(values):
    """The median of those that are there, or None."""
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def each(came, question):
    return [None if one is None else question(one) for one in came]


def shown(value, form):
    return "failed" if value is None else form % value


def share(value):
    """As a percentage; what is not quite nothing does not look like it."""
    if value is None:
        return "failed"
    return "0 %" if value == 0 else "< 0.01 %" if value < 0.0001 else "%.2f %%" % (100 * value)


def number(value):
    return "failed" if value is None else "{:,.0f}".format(value)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| %s |" % " | ".join(line) for line in lines)


def threads_named(threads):
    return "" if threads == 1 else ", %d threads" % threads


def everyone(bench):
    for (_, version), profilers in bench.groups.items():
        for profiler in profilers:
            yield version, profiler.name


def speed(bench):
    cases = bench.results.speed
    head = ["CPython", "profiler"] + ["%d%s" % (depth, threads_named(threads)) for depth, threads in SHAPES]
    rates, bad, peaks = [], [], []
    for version, name in everyone(bench):
        came = [cases[version, name, *shape] for shape in SHAPES]
        rates.append([version, name] + [number(middle(each(runs, lambda run: run.rate))) for runs in came])
        bad.append([version, name] + ["%s / %s" % (
            share(middle(each(runs, lambda run: run.reading.lost))),
            share(middle(each(runs, lambda run: run.reading.cut)))) for runs in came])
        peaks.append([version, name] + [
            shown(middle(each(runs, lambda run: run.peak / 1024)), "%.0f") for runs in came])
    return [
        "Samples a second at full speed, by frames of the busy thread:", table(head, rates),
        "Of these, samples lost / stacks that do not reach their base:", table(head, bad),
        "Peak memory of the profiler meanwhile, MiB:", table(head, peaks),
    ]


def cost(bench):
    cases = bench.results.cost
    depths = [depth for depth in COST_DEPTHS if any(key[2] == depth for key in cases)]
    head = ["CPython", "profiler", "frames"] + ["%s Hz" % number(rate) for rate in RATES]
    use, kept = [], []
    for depth in depths:
        for version, name in everyone(bench):
            came = [(rate, cases[version, name, depth, rate]) for rate in RATES]
            use.append([version, name, str(depth)] + [used(rate, runs) for rate, runs in came])
            kept.append([version, name, str(depth)] + ["%s (%s)" % (
                shown(middle(each(runs, lambda one: 100 * one[1][0])), "%.1f %%"),
                shown(middle(each(runs, lambda one: 100 * one[1][1])), "%.1f %%")) for _, runs in came])
    return [
        "Processor time of the profiler while it samples, of one core (samples a second, where fewer than asked for):",
        table(head, use),
        "Speed that the target keeps (by its own processor time):", table(head, kept),
    ]


def used(rate, runs):
    text = shown(middle(each(runs, lambda one: 100 * one[0].use)), "%.2f %%")
    reached = middle(each(runs, lambda one: one[0].rate))
    return text if reached is None or reached >= 0.98 * rate else "%s (%s)" % (text, number(reached))


def start(bench):
    rows = []
    for version, name in everyone(bench):
        came = bench.results.start[version, name]
        rows.append([
            version, name,
            shown(middle(each(came, lambda one: 1000 * one[0])), "%.0f ms"),
            shown(middle(each(came, lambda one: 1000 * one[1])), "%.0f ms"),
            shown(middle(each(came, lambda one: one[2] / 1024)), "%.0f MiB")])
    return [
        "A whole command that samples for a second at 100 Hz, 20 frames deep:",
        table(["CPython", "profiler", "to the first sample and from the last to the end", "processor time", "peak memory"],
              rows),
    ]


def goals(bench):
    """Rows: what, goal, reached, whether it is met. The worst case counts."""
    results = bench.results
    rows = []

    def goal(what, wanted, cases, form, met, worst):
        """`cases` are pairs of a value and the case that it comes from."""
        cases = [case for case in cases if case[0] is not None]
        if not cases:
            rows.append([what, wanted, "not measured", ""])
            return
        value, where = worst(cases, key=lambda case: case[0])
        rows.append([what, wanted, "%s%s" % (form % value, " (%s)" % where if where else ""), "yes" if met(value) else "no"])

    versions = [version for _, version in bench.groups]
    peers = {version: [profiler.name for profiler in profilers[1:]] for (_, version), profilers in bench.groups.items()}

    def ours(version, *case):
        return results.speed[version, OURS, *case]

    def to_best_peer(version, depth):
        ratios = []
        for turn, run in enumerate(ours(version, depth, 1)):
            others = [results.speed[version, name, depth, 1][turn] for name in peers[version]]
            rates = [other.rate for other in others if other]
            if run and rates:
                ratios.append(run.rate / max(rates))
        return middle(ratios)

    for depth in DEPTHS:
        goal("full speed, %d frames: times the best peer" % depth, "at least 4",
             [(to_best_peer(version, depth), "CPython %s: %s" % (version, ", ".join(peers[version])))
              for version in versions],
             "%.1f", lambda value: value >= 4, min)

    def to_floor(version, depth):
        rate = middle(each(ours(version, depth, 1), lambda run: run.rate))
        return rate and results.floor and 1e9 / rate / results.floor["median"]

    for depth in (5, 20):
        goal("a sample at full speed, %d frames: times the floor" % depth, "at most 2.5",
             [(to_floor(version, depth), "CPython %s" % version) for version in versions],
             "%.2f", lambda value: value <= 2.5, max)

    def to_peer(version, peer):
        """Processor time for a sample: at 1 kHz not all reach 1 kHz. Of its modes the cheapest, turn by turn."""
        names = [name for name in peers[version] if name.startswith(peer)]
        ratios = []
        for turn, mine in enumerate(results.cost[version, OURS, 20, 1_000]):
            theirs = [results.cost[version, name, 20, 1_000][turn] for name in names]
            uses = [other[0].use / other[0].rate for other in theirs if other]
            if mine and uses:
                ratios.append(mine[0].use / mine[0].rate / min(uses))
        return middle(ratios)

    for peer, most in GOALS_OF_COST.items():
        goal("processor time of a sample at 1 kHz, 20 frames: of %s's" % peer, "at most 1/%d" % round(1 / most),
             [(share and 1 / share, "") for share in (to_peer(version, peer) for version in versions)],
             "1/%.1f", lambda value, most=most: value >= 1 / most, min)

    for rate, least in ((1_000, 0.99), (10_000, 0.98)):
        goal("target's speed kept at %s Hz" % number(rate), "at least %.0f %%" % (100 * least),
             [(middle(each(results.cost[version, OURS, depth, rate], lambda one: 100 * one[1][0])),
               "CPython %s, %d frames" % (version, depth)) for version in versions for depth in COST_DEPTHS],
             "%.1f %%", lambda value, least=least: value >= 100 * least, min)

    runs = results.of_ours()
    goal("samples lost", "none", [(100 * run.reading.lost, "the worst of %d recordings" % len(runs)) for run in runs],
         "%.3f %%", lambda value: value == 0, max)
    goal("samples repaired or truncated", "under 0.5 %",
         [(100 * run.reading.mended, "the worst of %d recordings" % len(runs)) for run in runs],
         "%.2f %%", lambda value: value < 0.5, max)

    def for_a_thread(version):
        few, many = (middle(each(ours(version, 20, threads), lambda run: 1e6 / run.rate)) for threads in (1, 100))
        return few and many and (many - few) / 99

    goal("99 idle threads beside a busy one: a thread and sample", "at most 1 µs",
         [(for_a_thread(version), "CPython %s" % version) for version in versions],
         "%.2f µs", lambda value: value <= 1, max)
    goal("peak memory", "under 30 MB",
         [(run.peak * 1024 / 1e6, "the worst of %d recordings" % len(runs)) for run in runs],
         "%.1f MB", lambda value: value < 30, max)
    return [table(["pystrobe", "goal", "reached", "met"], rows)]


def markdown(bench):
    options, results = bench.options, bench.results
    parts = ["%s. %s stack; %g s a recording; median of %d turns at full speed, of %d for the cost.%s" % (
        measure.machine(), "A moving" if options.moving else "A still", options.seconds, options.turns, options.pairs,
        " A short run." if options.quick else "")]
    if results.floor:
        parts.append("The floor, one `process_vm_readv` of 8 bytes: %.2f µs in the median, %.2f µs at best." % (
            results.floor["median"] / 1000, results.floor["best"] / 1000))
    for name, tables in (("speed", speed), ("cost", cost), ("start", start)):
        if getattr(results, name):
            parts += tables(bench)
    parts += goals(bench)
    if bench.reasons:
        parts.append("What failed:")
        parts.append("\n".join(
            "- %s%s" % (reason.replace("\n", " "), " (%d times)" % times if times > 1 else "")
            for reason, times in bench.reasons.items()))
    return "\n\n".join(parts)
