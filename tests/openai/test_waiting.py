"""What a client hears while its turn waits for a place."""

import pytest

from tests.openai.support import CHAT, ask
from tests.support.daemon import Daemon, scripted

RESPONSES = "/openai/v1/responses"
MESSAGES = "/anthropic/v1/messages"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A daemon with one place."""
    limits = {"heartbeat_secs": 0.2, "max_concurrent_runs": 1}
    with Daemon(tmp_path_factory.mktemp("full"), backends={"scripted": scripted()}, **limits) as daemon:
        yield daemon


@pytest.fixture
async def taken(full):
    """The same with its place taken, until the run is cancelled."""
    held = await full.client.call("POST", "/api/v1/prompt", {"prompt": "{{wait:30}}", "detach": True})
    run = held.json["run_id"]

    async def let_go():
        await full.client.call("POST", f"/api/v1/runs/{run}/cancel", {})

    yield full.client, let_go
    await let_go()


@pytest.mark.parametrize(
    ("path", "wish", "sign"),
    [
        (CHAT, {"messages": ask("finally"), "stream": True}, b": ka\n"),
        (CHAT, {"messages": ask("finally")}, b" "),
        (RESPONSES, {"input": "finally", "stream": True}, b"response.in_progress"),
        (RESPONSES, {"input": "finally"}, b" "),
        (MESSAGES, {"messages": ask("finally"), "max_tokens": 9, "stream": True}, b"event: ping\n"),
        (MESSAGES, {"messages": ask("finally"), "max_tokens": 9}, b" "),
    ],
)
async def test_signs_of_life_come_while_it_waits_and_the_answer_after_that(taken, path, wish, sign):
    client, let_go = taken
    async with client.open("POST", path, {"model": "scripted", **wish}) as incoming:
        heard = b""
        while heard.count(sign) < 2:
            assert (chunk := await incoming.chunk())
            heard += chunk
        assert b"finally" not in heard
        await let_go()
        rest = (await incoming.whole()).body
    assert b"finally" in rest


async def test_a_response_in_the_background_is_promised_at_once(taken):
    client, let_go = taken
    answer = await client.call("POST", RESPONSES, {"model": "scripted", "input": "later", "background": True})
    assert (answer.status, answer.json["status"]) == (200, "in_progress")
    await let_go()
