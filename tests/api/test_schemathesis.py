"""schemathesis reads /openapi.json and asks the daemon thousands of things that fit it, and that do not.

It runs as the program that it is: the coverage of every keyword of the schemas first, then what Hypothesis thinks of.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.support.daemon import Daemon

ROOT = Path(__file__).parents[2]
KEY = "a-key-for-schemathesis"

# Which schemas fit is only half of what a request must be: a session must exist, a picture must be one.
NOT_PROMISED = "positive_data_acceptance"

PARTS = {"native": ("--include-path-regex", "^/api/"), "others": ("--exclude-path-regex", "^/api/")}
"""What is asked side by side: every operation is in one of them."""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A daemon of its own, which has a key and no agent but echo."""
    absent = {name: {"enabled": False} for name in ("claude", "codex", "gemini")}
    environ = {"CLINVK_API_KEY": KEY, "CLINVK_BACKEND": "echo"}
    with Daemon(tmp_path_factory.mktemp("schemathesis"), backends={"echo": {}, **absent}, env=environ) as own:
        yield own


async def ask(port, home, part):
    """What schemathesis says of a part of the operations, which must be no fault."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json", *part),
        *("--header", f"Authorization: Bearer {KEY}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "60", "--seed", "6"),
        *("--exclude-checks", NOT_PROMISED, "--continue-on-failure", "--request-timeout", "20"),
    ]
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
        "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
    }
    home.mkdir()
    done = await trio.run_process(
        command, cwd=home, env=environ, capture_stdout=True, stderr=subprocess.STDOUT, check=False
    )
    report = done.stdout.decode()
    assert done.returncode == 0, report
    return report


@pytest.mark.daemon
@pytest.mark.slow
@pytest.mark.timeout(300)  # 25 s where nothing else runs
async def test_whatever_is_asked_is_answered_as_documented_and_never_with_a_5xx(own, tmp_path):
    reports = []

    async def ask_part(name):
        reports.append(await ask(own.client.port, tmp_path / name, PARTS[name]))

    with trio.fail_after(280):
        async with trio.open_nursery() as nursery:
            for name in PARTS:
                nursery.start_soon(ask_part, name)
    counted = [re.search(r"(\d+) generated, (\d+) passed", report) for report in reports]
    assert all(counted), reports
    assert sum(int(each[2]) for each in counted) > 3000
    assert not own.logged("a request failed")
    assert not own.logged("actor crashed")
    health = (await own.client.get("/health")).json
    assert (health["status"], health["actors"]["restarts"]) == ("ok", 0)
    series = (
        await own.client.call("GET", "/metrics", headers={"authorization": f"Bearer {KEY}"})
    ).body.decode()
    runs = re.search(r'clinvoker_runs_total\{backend="echo",outcome="complete"\} (\S+)', series)
    assert runs
    assert float(runs[1]) > 100  # the agent was reached
