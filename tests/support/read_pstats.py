"""Reads a pstats file with the `pstats` of the Python that runs this, and prints it as JSON.

The reports that people look at are made too, so that a file that only half works is found out.
"""

import io
import json
import marshal
import pstats
import sys

path = sys.argv[1]
stats = pstats.Stats(path, stream=io.StringIO())
for order in ("cumulative", "tottime", "calls", "nfl"):
    stats.sort_stats(order)
    stats.print_stats()
stats.print_callers()
stats.print_callees()
stats.strip_dirs()

with open(path, "rb") as file:
    assert file.read(1) == b"\xfb", "the first byte lacks marshal's reference flag"
    file.seek(0)
    table = marshal.load(file)
assert type(table) is dict
for key, value in table.items():
    assert [type(part) for part in key] == [str, int, str], key
    assert type(value) is tuple and [type(part) for part in value] == [int, int, float, float, dict], (key, value)
    for caller, edge in value[4].items():
        assert [type(part) for part in caller] == [str, int, str], (key, caller)
        assert type(edge) is tuple and [type(part) for part in edge] == [int, int, float, float], (key, caller, edge)

stats = pstats.Stats(path)
assert stats.stats == table
rows = []
for key, (cc, nc, tt, ct, callers) in stats.stats.items():
    edges = [dict(zip(("key", "nc", "cc", "tt", "ct"), (caller,) + edge)) for caller, edge in callers.items()]
    rows.append([key, dict(cc=cc, nc=nc, tt=tt, ct=ct, callers=edges)])
json.dump({"total_tt": stats.total_tt, "rows": rows}, sys.stdout)
