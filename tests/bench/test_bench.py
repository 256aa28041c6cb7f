"""The benchmarks still work; how fast is never a test's business."""

from pathlib import Path

import pytest

from tests.bench.backends import echo
from tests.bench.long_answer import DELTAS, prompt_of, through_daemon
from tests.support.daemon import Daemon

pytestmark = pytest.mark.daemon


def test_a_long_answer_is_exact_and_comes_in_batches(tmp_path: Path) -> None:
    with Daemon(tmp_path, backends={"echo": echo()}) as daemon:
        cost = through_daemon(daemon, prompt_of(DELTAS))  # compares the text, and every number
    assert cost.writes < DELTAS / 10
