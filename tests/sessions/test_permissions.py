"""The mode `always`: what the agent asks leave for is put to the caller; silence is a no, and said to be one."""

import trio

from tests.sessions.support import ASKING, check_whole, error_of, streaming
from tests.support.daemon import scripted

SERVER = {"permission_timeout_secs": 0.7, "idle_event_timeout_secs": 0.5}
BACKENDS = {"asking": scripted(spares=1, max_idle=4)}
BACKENDS["asking"]["command"] = ASKING
ASK = "before {{ask}}{{wait:20}}"


async def until(events, kind):
    """Read on to the first event of a kind."""
    while not [event for event in events.events if event["type"] == kind]:
        assert await events.more(), events
    return next(event for event in events.events if event["type"] == kind)


async def answer(client, run, permission, option):
    return await client.call("POST", f"/api/v1/runs/{run}/permissions/{permission}", {"option": option})


async def test_a_permission_that_nobody_answers_is_denied_and_said_so(client):
    with trio.fail_after(5):
        async with streaming(client, ASK, approval_mode="always") as events:
            began = trio.current_time()
            await events.to_end()
    assert 0.6 < trio.current_time() - began < 3
    check_whole(events.events)
    kinds = [event["type"] for event in events.events]
    assert kinds.index("permission") < kinds.index("tool_result")
    [asked] = [event["content"] for event in events.events if event["type"] == "permission"]
    told, *_ = [event["content"] for event in events.events if event["type"] == "tool_result"]
    assert (asked["tool"], asked["options"]) == ("shell", ["allow", "deny"])
    assert (told["id"], told["is_error"]) == (asked["id"], True)
    assert "nobody answered within 0.7 s" in told["output"]
    assert events.last["type"] == "complete"
    assert events.last["content"]["output"].endswith("told n")


async def test_a_permission_is_answered_by_rest_once(client):
    for option, told in [("allow", "told y"), ("deny", "told n")]:
        async with streaming(client, ASK, approval_mode="always") as events:
            asked = (await until(events, "permission"))["content"]["id"]
            run = events.run_id
            assert error_of(await answer(client, run, asked, "allow_always"))[:2] == (400, "invalid_request")
            assert error_of(await answer(client, run, "perm_0", option))[:2] == (404, "not_found")
            given = await answer(client, run, asked, option)
            assert given.json == {"run_id": run, "id": asked, "option": option}
            await events.to_end()
        check_whole(events.events)
        assert events.last["content"]["output"].endswith(told)
        assert error_of(await answer(client, run, asked, option))[:2] == (404, "not_found")
        await trio.sleep(0.7)
        assert error_of(await answer(client, run, asked, option))[:2] == (404, "not_found")


async def test_the_other_modes_ask_nobody(client):
    for mode, told in [("auto", "told y"), ("none", "told n"), ("default", "told n")]:
        async with streaming(client, ASK, approval_mode=mode) as events:
            await events.to_end()
        assert "permission" not in [event["type"] for event in events.events]
        assert events.last["content"]["output"].endswith(told), mode
