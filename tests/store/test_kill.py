"""SIGKILL at any moment: what was acknowledged is there, what was running has ended, the database is whole."""

import json
import random
import subprocess
import sys
import time
from contextlib import closing

import pytest

from clinvoker.store import Database
from clinvoker.store.events import events_after
from clinvoker.store.runs import get_run
from clinvoker.store.turns import turns_of
from tests.store.support import Clock, a_session


def write_until_killed(directory, number, seconds):
    command = [sys.executable, "-m", "tests.store.writing", str(directory), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        said = first + process.stdout.read()
    return [line.split() for line in said.decode().splitlines(keepends=True) if line.endswith("\n")]


def check(connection, said):
    acknowledged = 0
    for word, number, *rest in said:
        run, session = f"run_{number}", a_session(int(number)).id
        lines = events_after(connection, run, 0, 1000)
        seqs = list(range(1, len(lines) + 1))
        kinds = [json.loads(line)[0] for line in lines]
        texts = [json.loads(line)[1]["text"] for line in lines[:-1]]
        assert texts == [f"w{seq}" for seq in seqs[:-1]]
        if word == "session":
            continue
        acknowledged += 1
        stored = get_run(connection, run, "me")
        ends = [kind for kind in kinds if kind in {"error", "complete"}]
        assert ends == kinds[-1:]
        assert stored.status == ends[0]
        [turn] = turns_of(connection, session)
        assert turn.ended is not None
        if word == "events":
            assert len(seqs) > int(rest[0])
        if word == "done":
            assert (stored.status, turn.output, len(seqs)) == ("complete", "done", 31)
    return acknowledged


def kill_and_check(directory, rounds, seed):
    dice = random.Random(seed)  # noqa: S311 - moments
    said, acknowledged = [], 0
    for number in range(rounds):
        said = write_until_killed(directory, number, dice.uniform(0, 0.15))
        database = Database(directory, Clock())
        assert database.prepare() == ""
        with closing(database.open()) as connection:
            acknowledged += check(connection, said)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            running = connection.execute("SELECT count(*) FROM runs WHERE status = 'running'")
            assert running.fetchone() == (0,)
    assert acknowledged > rounds


def test_nothing_acknowledged_is_lost_by_a_kill(disk_path):
    kill_and_check(disk_path / "state", 3, 1)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_twenty_kills(disk_path):
    kill_and_check(disk_path / "state", 20, 2)
