"""`python -m tests.bench [names...]` prints a Markdown report; without names, all of it.

Exit code 0, however slow: only an answer that is wrong, or none, breaks it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import addition, idle, long_answer, machine, streams, volume, warm
from tests.bench.table import Table
from tests.support.clis import ensure_installed

BENCHES: dict[str, Callable[..., Iterator[Table]]] = {
    "warm": warm.measure,
    "addition": addition.measure,
    "long_answer": long_answer.measure,
    "streams": streams.measure,
    "idle": idle.measure,
    "volume": volume.measure,
}


def main() -> None:
    """Run the benchmarks named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(BENCHES)}; none: all")
    parser.add_argument("--runs", type=int, help="instead of each benchmark's own number of runs")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    ensure_installed()
    runs = {} if asked.runs is None else {"runs": asked.runs}
    _say(f"Measured on {machine.describe()}. Load average before: {machine.load()}.\n\n")
    for name in asked.names or BENCHES:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", ignore_cleanup_errors=True) as place:
            for table in BENCHES[name](Path(place), **runs):
                _say(f"{table}\n\n")
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
    _say(f"Load average after: {machine.load()}.\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
