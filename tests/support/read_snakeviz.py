"""Does to a pstats file what snakeviz does to it, with snakeviz's own code, and prints the result as JSON."""

import json
import pstats
import sys

from snakeviz.stats import json_stats, table_rows

stats = pstats.Stats(sys.argv[1])
json.dump({"rows": table_rows(stats), "graph": json_stats(stats)}, sys.stdout)
