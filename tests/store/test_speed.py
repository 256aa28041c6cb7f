"""The numbers that the store promises, on a database of 100,000 sessions."""

import random
import time

import pytest
import trio

from actors.messages import Entry, Message
from clinvoker.store import BeginRun, PutSession, SessionFilter, batch
from tests.store.support import MOMENT, NOW, Clock, a_run, a_session, fresh, open_store

SESSIONS = 100_000

pytestmark = pytest.mark.slow


def build(connection, owner="me", first=NOW):
    dice = random.Random(1)  # noqa: S311 - words
    words = [f"word{number}" for number in range(5000)]
    connection.execute("BEGIN")
    connection.executemany(
        f"INSERT INTO sessions VALUES ({', '.join('?' * 16)})",  # noqa: S608 - placeholders
        (
            (
                key,
                f"ses_{dice.randbytes(16).hex()}",
                owner,
                ("claude", "codex", "gemini")[key % 3],
                b"{}",
                "/w",
                "m",
                "title",
                b'["all"]',
                b"{}",
                ("idle", "running", "error")[key % 7 % 3],
                None,
                None,
                1 + key % 3,
                NOW,
                first + dice.random() * 1e6,
            )
            for key in range(1, SESSIONS + 1)
        ),
    )
    connection.execute(
        "INSERT INTO session_tags SELECT owner, 'all', updated, key, backend, status FROM sessions"
    )
    connection.execute(
        "INSERT INTO session_tags SELECT owner, 'some', updated, key, backend, status FROM sessions WHERE key % 10 = 0"
    )
    connection.executemany(
        "INSERT INTO turns (key, session, run, prompt, output, started, ended) VALUES (?, ?, 'run', ?, ?, 0, 1)",
        (
            (
                key << 20 | number,
                key,
                " ".join(dice.choices(words, k=8)),
                "common " + " ".join(dice.choices(words, k=15)),
            )
            for key in range(1, SESSIONS + 1)
            for number in range(1, 2 + key % 3)
        ),
    )
    connection.execute(
        "INSERT INTO turn_words (rowid, prompt, output) SELECT key, prompt, output FROM turns ORDER BY key"
    )
    connection.execute("COMMIT")


async def best_ms(call, times=5):
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - began) * 1000)
    return min(taken)


PAGES = [
    {},
    {"offset": 99_900},
    {"backend": "codex", "offset": 30_000},
    {"status": "idle", "backend": "codex"},
    {"tag": "all", "offset": 90_000},
    {"tag": "some", "status": "error"},
]
SEARCHES = [
    {"q": "word7"},
    {"q": "word7 word9"},
    {"q": '"word7 word9"'},
    {"q": "common"},
    {"q": "common", "offset": 90_000},
    {"q": "common", "tag": "all", "backend": "claude"},
]


async def test_pages_and_searches_over_100_000_sessions(disk_path):
    with fresh(disk_path) as connection:
        build(connection)
    began = time.perf_counter()
    async with open_store(disk_path, clock=Clock()) as store:
        print(f"open {time.perf_counter() - began:.2f} s")  # noqa: T201 - figures for people
        for wanted, most in [(page, 50) for page in PAGES] + [(search, 200) for search in SEARCHES]:
            took = await best_ms(lambda wanted=wanted: store.sessions(SessionFilter(owner="me", **wanted)))
            print(f"{took:6.1f} ms {wanted}")  # noqa: T201 - figures for people
            assert took < most
        session = (await store.sessions(SessionFilter(owner="me"))).sessions[0]
        took = await best_ms(lambda: store.session(session.id[:12], "me"))
        print(f"{took:6.1f} ms by prefix")  # noqa: T201 - figures for people
        assert took < 20
        took = await best_ms(store.counts)
        print(f"{took:6.1f} ms counts")  # noqa: T201 - figures for people
        assert took < 50


async def test_a_long_answer_costs_little(disk_path):
    run = a_run()
    events = [
        Entry("message", "claude", Message("word "), MOMENT, run.id, seq, "ses_1") for seq in range(1, 50_001)
    ]
    batches = [batch(events[start : start + 4096]) for start in range(0, len(events), 4096)]
    async with open_store(disk_path) as store:
        await store.write(BeginRun(run))
        began = time.process_time()
        for one in batches:
            await store.write(one)
        took = time.process_time() - began
        print(f"{took * 1000:.0f} ms of CPU for 50,000 events")  # noqa: T201 - figures for people
        assert took < 0.1


async def test_many_writers_share_the_wait_for_the_disk(disk_path):
    async def write_fifty(store, writer):
        for number in range(50):
            await store.write(PutSession(a_session(writer * 100 + number)))

    async with open_store(disk_path) as store:
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for writer in range(64):
                nursery.start_soon(write_fifty, store, writer)
        rate = 3200 / (time.perf_counter() - began)
        print(f"{rate:.0f} acknowledged writes/s")  # noqa: T201 - figures for people
        assert rate > 500
