"""What the tests of sessions and runs share."""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import trio

from tests.support.client import TERMINAL, Answer, Client, Events
from tests.support.daemon import PYTHON, Daemon, scripted

PROMPT = "/api/v1/prompt"
REMEMBERING = [PYTHON, "-S", "-E", str(Path(__file__).with_name("remembering_agent.py"))]
ASKING = [PYTHON, "-S", "-E", str(Path(__file__).parents[1] / "api" / "asking_agent.py")]
BACKENDS: dict[str, Any] = {
    "scripted": scripted(spares=1, max_idle=4),
    "remembering": {"protocol": "acp", "command": REMEMBERING, "spares": 1},
    "echo": {"spares": 0},
}


async def prompt(client: Client, text: str, session: str = "", **fields: Any) -> Answer:
    """Prompt, in a session if one is named."""
    where = {"session_id": session} if session else {}
    headers = fields.pop("headers", {})
    return await client.call("POST", PROMPT, {"prompt": text, **where, **fields}, headers=headers)


async def begin(client: Client, text: str = "hello", **fields: Any) -> str:
    """Begin a session; return its id."""
    answer = await prompt(client, text, **fields)
    assert answer.status == 200, answer
    assert "error" not in answer.json, answer
    return answer.json["session_id"]


@asynccontextmanager
async def streaming(client: Client, text: str, session: str = "", **fields: Any):
    """Prompt, and read the answer as it comes."""
    where = {"session_id": session} if session else {}
    headers = fields.pop("headers", {})
    body = {"prompt": text, "stream": True, **where, **fields}
    async with client.open("POST", PROMPT, body, headers=headers) as incoming:
        events = Events(incoming)
        if incoming.status != 200:
            events.refusal = await incoming.whole()
        yield events


@asynccontextmanager
async def following(client: Client, run: str, after: int | None = None, **headers: str):
    """Follow a run."""
    query = "" if after is None else f"?after={after}"
    async with client.open("GET", f"/api/v1/runs/{run}/events{query}", headers=headers) as incoming:
        events = Events(incoming)
        if incoming.status != 200:
            events.refusal = await incoming.whole()
        yield events


async def replay(client: Client, run: str, after: int | None = None, **headers: str) -> list[dict[str, Any]]:
    """A run's events to their end."""
    async with following(client, run, after, **headers) as events:
        assert events.status == 200, events.refusal
        return (await events.to_end()).events


def check_whole(events: list[dict[str, Any]], first: int = 1) -> None:
    """Numbers without a gap, each once, and exactly one terminal event: the last."""
    assert [event["seq"] for event in events] == list(range(first, first + len(events))), events
    assert [event["type"] in TERMINAL for event in events] == [False] * (len(events) - 1) + [True], events


async def session(client: Client, session_id: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/sessions/{session_id}")
    assert answer.status == 200, answer
    return answer.json


async def look(client: Client, run: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/runs/{run}")
    assert answer.status == 200, answer
    return answer.json


async def ended(client: Client, run: str, within: float = 5.0) -> dict[str, Any]:
    """Wait for a run's end."""
    with trio.fail_after(within):
        while (found := await look(client, run))["status"] == "running":
            await trio.sleep(0.02)
    return found


def query(daemon: Daemon, sql: str) -> list[tuple[Any, ...]]:
    """Ask the database itself."""
    with closing(sqlite3.connect(f"file:{daemon.state}/state.db?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def is_sound(daemon: Daemon) -> bool:
    return query(daemon, "PRAGMA integrity_check") == [("ok",)]


def error_of(answer: Answer) -> tuple[int, str, str | None]:
    error = json.loads(answer.body)["error"]
    return answer.status, error["code"], error["param"]
