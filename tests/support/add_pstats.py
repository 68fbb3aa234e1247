"""Adds a sampled profile to cProfile's of the same program, both ways round, and prints what is wrong with that.

    add_pstats.py CPROFILE SAMPLED SCRIPT
"""

import io
import pstats
import sys

traced_path, sampled_path, script = sys.argv[1:]
traced = pstats.Stats(traced_path)
sampled = pstats.Stats(sampled_path)


def of_script(stats):
    return {key for key in stats.stats if key[0] == script}


strangers = of_script(sampled) - of_script(traced)
assert not strangers, "cProfile does not know %r; it knows %r" % (strangers, of_script(traced))
common = of_script(sampled) & of_script(traced)
assert {key[2] for key in common} >= {"<module>", "work"}, common

for first, second in ((traced_path, sampled_path), (sampled_path, traced_path)):
    stream = io.StringIO()
    both = pstats.Stats(first, stream=stream)
    both.add(second)
    for key in traced.stats.keys() | sampled.stats.keys():
        parts = [stats.stats[key] for stats in (traced, sampled) if key in stats.stats]
        for index in range(4):
            summed = sum(part[index] for part in parts)
            assert abs(both.stats[key][index] - summed) < 1e-9, (key, index, both.stats[key][:4], parts)
    names = [key[2] for key in of_script(both)]
    assert len(names) == len(set(names)), "more than one row for a function: %r" % sorted(names)
    both.sort_stats("cumulative").print_stats()
    both.print_callers()
    both.print_callees()
    assert "work" in stream.getvalue()
