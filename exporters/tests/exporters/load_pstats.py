"""Does with our pstats file what people do with pstats, and prints what it holds.

Arguments: our file, and a place for a file of cProfile.
"""

import cProfile
import io
import json
import pstats
import sys

ours, theirs = sys.argv[1:]
sink = io.StringIO()
stats = pstats.Stats(ours, stream=sink)
rows = []
for key, (cc, nc, tt, ct, callers) in stats.stats.items():
    assert type(key) is tuple and [type(part) for part in key] == [str, int, str], key
    assert type(cc) is int and type(nc) is int and type(tt) is float and type(ct) is float
    for caller, numbers in callers.items():
        assert caller in stats.stats, caller
        assert type(numbers) is tuple
        assert [type(number) for number in numbers] == [int, int, float, float]
    # As text, because JSON readers round floats as they like.
    callers = [list(caller) + list(map(repr, numbers)) for caller, numbers in callers.items()]
    rows.append([list(key), repr(cc), repr(nc), repr(tt), repr(ct), callers])
total = stats.total_tt

sampled = type(stats).__name__ == "SampledStats"
order = "cumulative" if sampled else "calls"
stats.strip_dirs().sort_stats(order).print_stats().print_callers().print_callees()
assert "größe.py:" in sink.getvalue(), sink.getvalue()

if not sampled:
    profiler = cProfile.Profile()
    profiler.runcall(sorted, [3, 1, 2], key=abs)
    profiler.dump_stats(theirs)
    for first, second in ((ours, theirs), (theirs, ours)):
        both = pstats.Stats(first, stream=sink).add(second)
        assert abs(both.total_tt - total) < 1.0, (both.total_tt, total)
        both.sort_stats("cumulative").print_stats().print_callers()
    # Added to itself, everything doubles, and no row more.
    twice = pstats.Stats(ours, ours, stream=sink)
    assert len(twice.stats) == len(rows)
    assert abs(twice.total_tt - 2 * total) < 1e-9
    twice.dump_stats(theirs)
    pstats.Stats(theirs, stream=sink).strip_dirs().print_callers()
json.dump({"sampled": sampled, "rows": rows, "total": total}, sys.stdout)
