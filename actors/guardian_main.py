"""The guardian's own program: waits for the daemon's end and cleans up after it.

    python -S -E -P guardian_main.py PREFIX

Its standard input is a pipe whose other end only the daemon holds, so end of file means that the daemon is gone, however
it died. Then everything that carries a marker beginning with PREFIX is ended. It writes one byte when it is ready.

A bare interpreter, 10 MB small: nothing but the standard library.
"""

import contextlib
import os
import signal
import sys
import time

# Appended, so that nothing installed next to us can stand in for the standard library.
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - no pathlib

from actors.sweep import Sweep

_TERM_S = 0.5
_QUIET_S = 0.15
"""An agent that was just being started when the daemon died has no marker before its `exec`: look for a while."""
_LIMIT_S = 10.0


def main(prefix: str) -> None:
    """Guard until end of file, clean up, return."""
    # What ends the daemon must not end the one who cleans up after it.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"\n")
    while os.read(0, 4096):
        pass
    sweep = Sweep(
        lambda found: found.marker.startswith(prefix), term_s=_TERM_S, quiet_s=_QUIET_S, limit_s=_LIMIT_S
    )
    for pause in sweep:
        time.sleep(pause)


if __name__ == "__main__":
    main(sys.argv[1])
