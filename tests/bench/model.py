"""The fake model as a process of its own, so that what it costs is nobody else's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fake_model() -> Iterator[str]:
    """Run it, answering at once, and give its address."""
    command = [sys.executable, "-m", "tests.fake_model", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()
