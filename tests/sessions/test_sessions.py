"""Sessions over REST: listed, filtered, looked at, changed, forked, deleted; and whose they are."""

import pytest
import trio

from tests.sessions.support import (
    begin,
    ended,
    error_of,
    look,
    prompt,
    query,
    session,
    streaming,
)
from tests.support.daemon import become_true

URL = "/api/v1/sessions"
ENV = {"CLINVK_API_KEYS": "one,two"}


@pytest.fixture
def client(daemon):
    """Asks with the first key."""
    return As(daemon.client, "one")


@pytest.fixture
def other(daemon):
    """Asks with the second key."""
    return As(daemon.client, "two")


class As:
    """A client with a key of its own."""

    def __init__(self, client, key):
        self._client = client
        self._key = {"x-api-key": key}

    def open(self, method, path, body=None, headers=None, **options):
        return self._client.open(method, path, body, {**self._key, **(headers or {})}, **options)

    async def call(self, method, path, body=None, headers=None):
        return await self._client.call(method, path, body, headers={**self._key, **(headers or {})})

    async def get(self, path):
        return await self.call("GET", path)


async def listed(client, query=""):
    answer = await client.get(f"{URL}?{query}")
    assert answer.status == 200, answer
    return answer.json


async def ids(client, query):
    return [each["id"] for each in (await listed(client, query))["sessions"]]


async def test_a_session_is_listed_and_found_with_its_turns(client):
    one = await begin(client, "alpha beta", backend="scripted", tags=["t1"], metadata={"k": "v"})
    assert (await prompt(client, "gamma {{error:5,bad luck}}", one)).json["exit_code"] == 1
    found = await session(client, one)
    told = found["session"]
    assert (told["id"], told["backend"], told["status"], told["turns"]) == (one, "scripted", "error", 2)
    assert (told["tags"], told["metadata"], told["title"], told["parent"]) == (["t1"], {"k": "v"}, "", None)
    first, second = found["turns"]
    assert (first["number"], first["prompt"], first["output"], first["error"]) == (
        1,
        "alpha beta",
        "alpha beta",
        None,
    )
    assert (second["number"], second["output"], second["error"]) == (2, "gamma ", "backend_error")
    assert "bad luck" in second["message"]
    assert all(turn["started"] <= turn["ended"] for turn in found["turns"])
    [entry] = [each for each in (await listed(client))["sessions"] if each["id"] == one]
    assert entry == told


async def test_sessions_are_filtered(client):
    tag = "filters"
    one = await begin(client, "the quick brown fox", backend="scripted", tags=[tag, "red"])
    two = await begin(client, "a lazy dog", backend="echo", tags=[tag])
    three = await begin(client, "jumps over", backend="scripted", tags=[tag])
    await prompt(client, "{{error:5,bad}}", three)
    assert await ids(client, f"tag={tag}") == [three, two, one], "the most recently used first"
    assert await ids(client, f"tag={tag}&backend=echo") == [two]
    assert await ids(client, f"tag={tag}&status=error") == [three]
    assert await ids(client, "tag=red") == [one]
    assert await ids(client, f"tag={tag}&q=brown") == [one]
    assert await ids(client, f"tag={tag}&q=brown+dog") == []
    page = await listed(client, f"tag={tag}&limit=1&offset=1")
    assert ([each["id"] for each in page["sessions"]], page["total"]) == ([two], 3)
    assert (page["limit"], page["offset"]) == (1, 1)
    assert (await listed(client))["limit"] == 50


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("colour=red", "colour"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("offset=" + "9" * 5000, "offset"),
        ("status=asleep", "status"),
    ],
)
async def test_a_filter_that_is_none_is_refused_by_name(client, query, param):
    assert error_of(await client.get(f"{URL}?{query}")) == (400, "invalid_request", param)


@pytest.mark.parametrize("text", ["%22", "%22a%22%22b", "%00", "a:b", "NEAR(", "*", "%F0%9F%A6%8A", "-", "+"])
async def test_whatever_is_looked_for_is_answered(client, text):
    assert (await client.get(f"{URL}?q={text}")).status == 200


async def test_a_unique_prefix_is_enough_everywhere(client):
    one = await begin(client, "prefixed", backend="scripted")
    short = one[:16]
    assert (await session(client, short))["session"]["id"] == one
    assert (await prompt(client, "again", short)).json["session_id"] == one
    assert (await client.call("PATCH", f"{URL}/{short}", {"title": "x"})).json["id"] == one
    assert (await client.call("DELETE", f"{URL}/{short}")).json == {"deleted": True, "id": one}


async def test_an_ambiguous_prefix_and_an_unknown_id_are_refused(client):
    await begin(client, "one")
    await begin(client, "two")
    for method, path, body in [
        ("GET", "", None),
        ("PATCH", "", {"title": "x"}),
        ("DELETE", "", None),
        ("POST", "/fork", None),
    ]:
        for asked, status, code in [
            ("ses_", 400, "invalid_request"),
            ("ses_zzz", 404, "not_found"),
            ("ses", 404, "not_found"),
        ]:
            answer = await client.call(method, f"{URL}/{asked}{path}", body)
            assert error_of(answer) == (status, code, "session_id"), (method, asked)
    assert error_of(await prompt(client, "x", "ses_"))[:2] == (400, "invalid_request")
    assert error_of(await prompt(client, "x", "ses_zzz"))[:2] == (404, "not_found")


async def test_another_key_finds_nothing(client, other):
    one = await begin(client, "mine only", backend="scripted", tags=["mine"])
    run = (await session(client, one))["turns"][0]["run_id"]
    for method, path, body in [
        ("GET", f"{URL}/{one}", None),
        ("GET", f"{URL}/{one[:16]}", None),
        ("PATCH", f"{URL}/{one}", {"title": "theirs"}),
        ("DELETE", f"{URL}/{one}", None),
        ("POST", f"{URL}/{one}/fork", None),
        ("POST", "/api/v1/prompt", {"prompt": "x", "session_id": one}),
        ("GET", f"/api/v1/runs/{run}", None),
        ("GET", f"/api/v1/runs/{run}/events", None),
        ("POST", f"/api/v1/runs/{run}/cancel", None),
        ("POST", f"/api/v1/runs/{run}/permissions/p", {"option": "allow"}),
    ]:
        assert (await other.call(method, path, body)).status == 404, (method, path)
    assert (await listed(other, "tag=mine"))["total"] == 0
    assert (await session(client, one))["session"]["title"] == ""


async def test_another_key_finds_no_run_that_is_going(client, other):
    async with streaming(client, "w{{wait:30}}", backend="scripted") as events:
        await events.until("w")
        run = events.run_id
        for method, path, body in [
            ("GET", "", None),
            ("GET", "/events", None),
            ("POST", "/cancel", None),
            ("POST", "/permissions/p", {"option": "allow"}),
        ]:
            assert (await other.call(method, f"/api/v1/runs/{run}{path}", body)).status == 404
        assert (await look(client, run))["status"] == "running"
        assert (await client.call("POST", f"/api/v1/runs/{run}/cancel")).json["cancelled"] is True
        await events.to_end()
    assert events.code == "cancelled"


async def test_title_and_tags_are_changed_and_nothing_else(client):
    one = await begin(client, "patched", backend="scripted", tags=["old"])
    before = (await session(client, one))["session"]
    changed = (await client.call("PATCH", f"{URL}/{one}", {"title": "A title", "tags": ["new"]})).json
    assert changed == {**before, "title": "A title", "tags": ["new"]}
    assert one in await ids(client, "tag=new")
    assert one not in await ids(client, "tag=old")
    assert (await client.call("PATCH", f"{URL}/{one}", {"tags": []})).json["title"] == "A title"
    for body, param in [
        ({"title": "a\nb"}, "title"),
        ({"tags": [""]}, "tags[...]"),
        ({"status": "idle"}, None),
    ]:
        answer = await client.call("PATCH", f"{URL}/{one}", body)
        assert error_of(answer)[:2] == (400, "invalid_request"), (body, param)


@pytest.mark.parametrize("field", ["tags", "metadata", "model", "workdir"])
async def test_what_was_settled_when_the_session_began_is_refused_later(client, field):
    one = await begin(client, backend="scripted")
    value = {"tags": ["x"], "metadata": {"a": "b"}, "model": "m", "workdir": "/tmp"}[field]
    assert error_of(await prompt(client, "x", one, **{field: value}))[:2] == (400, "invalid_request")


async def test_a_fork_has_the_history_and_leaves_the_original_alone(client):
    one = await begin(client, "s1.1", backend="remembering", tags=["kin"])
    await prompt(client, "s1.2", one)
    before = await session(client, one)
    answer = await client.call("POST", f"{URL}/{one}/fork")
    fork = answer.json["id"]
    assert (answer.json["parent"], answer.json["turns"], answer.json["tags"]) == (one, 2, ["kin"])
    assert (await prompt(client, "s1.3", fork)).json["output"] == "s1.1 s1.2 s1.3"
    assert (await prompt(client, "s1.4", one)).json["output"] == "s1.1 s1.2 s1.4"
    assert (await prompt(client, "s1.5", fork)).json["output"] == "s1.1 s1.2 s1.3 s1.5"
    after = await session(client, one)
    assert after["turns"][:2] == before["turns"]
    assert [turn["prompt"] for turn in after["turns"]] == ["s1.1", "s1.2", "s1.4"]
    assert [turn["prompt"] for turn in (await session(client, fork))["turns"]] == [
        "s1.1",
        "s1.2",
        "s1.3",
        "s1.5",
    ]


async def test_a_session_with_a_turn_in_hand_can_be_forked_without_it(client):
    one = await begin(client, "first", backend="scripted")
    async with streaming(client, "w{{wait:0.5}}", one) as events:
        await events.until("w")
        fork = (await client.call("POST", f"{URL}/{one}/fork")).json
        assert (fork["turns"], fork["status"]) == (1, "idle")
        assert (await prompt(client, "beside", fork["id"])).json["exit_code"] == 0
        await events.to_end()
    assert events.last["type"] == "complete"


async def test_deleting_a_session_ends_its_turn_and_all_that_is_stored(client, daemon):
    one = await begin(client, "to be deleted", backend="scripted")
    async with streaming(client, "w{{wait:30}}", one) as events:
        await events.until("w")
        run = events.run_id
        assert (await client.call("DELETE", f"{URL}/{one}")).status == 200
        with trio.fail_after(3):
            await events.to_end()
    assert events.code == "cancelled"
    assert [event["seq"] for event in events.events] == list(range(1, len(events.events) + 1))
    assert (await client.get(f"{URL}/{one}")).status == 404
    with trio.fail_after(3):
        while (await client.get(f"/api/v1/runs/{run}")).status != 404:
            await trio.sleep(0.05)
    assert error_of(await prompt(client, "x", one))[:2] == (404, "not_found")
    assert (one,) not in query(daemon, "SELECT id FROM sessions UNION SELECT session FROM runs")
    assert query(daemon, "SELECT count(*) FROM turns WHERE prompt = 'to be deleted'") == [(0,)]


async def test_a_turn_that_waits_in_line_is_cancelled_with_its_session(client):
    one = await begin(client, "x", backend="scripted")
    refused = []
    async with streaming(client, "w{{wait:30}}", one) as events, trio.open_nursery() as nursery:
        await events.until("w")

        async def wait_in_line():
            refused.append(await prompt(client, "waiting", one, queue=True))

        nursery.start_soon(wait_in_line)
        await trio.sleep(0.2)
        await client.call("DELETE", f"{URL}/{one}")
        await events.to_end()
    assert error_of(refused[0])[:2] == (409, "cancelled")


async def test_deleting_while_turns_arrive_leaves_nothing_and_fails_cleanly(client, daemon):
    answers = []
    for number in range(6):
        one = await begin(client, "x", backend="scripted")

        async def ask(one=one):
            answers.append(await prompt(client, "{{wait:0.05}}late", one, queue=True))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask)
            await trio.sleep(0.02 * number)
            assert (await client.call("DELETE", f"{URL}/{one}")).status == 200
        assert (one,) not in query(daemon, "SELECT id FROM sessions")
    assert {answer.code or "complete" for answer in answers} <= {"complete", "cancelled", "not_found"}
    await become_true(
        lambda: query(daemon, "SELECT count(*) FROM runs WHERE status = 'running'") == [(0,)], 3
    )


async def test_what_is_refused_is_not_stored(client, daemon):
    before = query(daemon, "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM sessions)")
    one = await begin(client, "x", backend="scripted")
    async with streaming(client, "w{{wait:30}}", one) as events:
        await events.until("w")
        assert error_of(await prompt(client, "busy", one)) == (409, "session_busy", "session_id")
        await client.call("POST", f"/api/v1/runs/{events.run_id}/cancel")
        await events.to_end()
    [(runs, sessions)] = query(daemon, "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM sessions)")
    assert (runs, sessions) == (before[0][0] + 2, before[0][1] + 1)


async def test_an_ephemeral_turn_leaves_nothing_in_the_store(client, daemon):
    count = (
        "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM turns), (SELECT count(*) FROM runs), "
        "(SELECT count(*) FROM events), (SELECT count(*) FROM session_tags)"
    )
    before = query(daemon, count)
    answer = await prompt(client, "a secret word", backend="scripted", ephemeral=True)
    assert answer.json["output"] == "a secret word"
    with trio.fail_after(5):
        while (await client.get(f"/api/v1/runs/{answer.json['run_id']}")).status != 404:
            await trio.sleep(0.05)
    assert query(daemon, count) == before
    found = b"".join(path.read_bytes() for path in daemon.state.iterdir() if path.is_file())
    assert b"a secret word" not in found
    assert error_of(await prompt(client, "x", answer.json["session_id"]))[:2] == (404, "not_found")


async def test_a_detached_run_that_is_refused_is_found_with_its_refusal(client):
    one = await begin(client, "x", backend="scripted")
    async with streaming(client, "w{{wait:30}}", one) as events:
        await events.until("w")
        answer = await prompt(client, "busy", one, detach=True)
        assert answer.status == 200
        told = await ended(client, answer.json["run_id"])
        assert (told["status"], told["outcome"]["code"]) == ("error", "session_busy")
        await client.call("POST", f"/api/v1/runs/{events.run_id}/cancel")
