"""POST /api/v1/prompt: what is taken, what is refused, and that a refusal names the field at fault."""

import json

import pytest

from actors.errors import Code, Refusal
from clinvoker.api.requests import decode, explain
from clinvoker.chat.structured import MOST
from tests.api.support import PROMPT, error_of, prompt

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = {"media_type": "image/png", "data": PIXEL}

BAD_FIELDS = [
    ("prompt", 1, "prompt"),
    ("prompt", None, "prompt"),
    ("prompt", "", "prompt"),
    ("prompt", "a\0b", "prompt"),
    ("backend", "unknown", "backend"),
    ("backend", 3, "backend"),
    ("backend", "x" * 300, "backend"),
    ("model", "--dangerously-skip-permissions", "model"),
    ("model", "two words", "model"),
    ("model", "sonnet\n", "model"),
    ("model", "é" * 200, "model"),
    ("model", 4, "model"),
    ("workdir", "relative/path", "workdir"),
    ("workdir", "~", "workdir"),
    ("workdir", "/no/such/directory", "workdir"),
    ("workdir", "/bin/sh", "workdir"),
    ("workdir", "/usr\0", "workdir"),
    ("workdir", "/" + "a" * 300, "workdir"),
    ("workdir", "/a" * 3000, "workdir"),
    ("workdir", ["/usr"], "workdir"),
    ("session_id", {}, "session_id"),
    ("system_prompt", "a\0b", "system_prompt"),
    ("system_prompt", False, "system_prompt"),
    ("approval_mode", "yolo", "approval_mode"),
    ("approval_mode", "", "approval_mode"),
    ("sandbox_mode", "off", "sandbox_mode"),
    ("output_format", "xml", "output_format"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", -1, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("max_tokens", "1000", "max_tokens"),
    ("max_tokens", 2**63, "max_tokens"),
    ("max_tokens", True, "max_tokens"),
    ("max_turns", 0, "max_turns"),
    ("max_turns", "3", "max_turns"),
    ("images", "not a list", "images"),
    ("images", [IMAGE, {"media_type": "image/png"}], "images[1].data"),
    ("images", [{**IMAGE, "data": "not base64!"}], "images[0].data"),
    ("images", [{**IMAGE, "data": ""}], "images[0].data"),
    ("images", [{**IMAGE, "media_type": "text/html"}], "images[0].media_type"),
    ("images", [{**IMAGE, "url": "http://169.254.169.254/"}], "images[0].url"),
    ("schema", "object", "schema"),
    ("schema", [], "schema"),
    ("schema", {"type": "zz"}, "schema"),
    ("schema", {"$ref": "http://127.0.0.1:9/"}, "schema"),
    ("schema", {"description": "x" * MOST}, "schema"),
    ("extra", "--verbose", "extra"),
    ("extra", [1], "extra[0]"),
    ("extra", ["--mcp-config=/tmp/evil.json"], "extra[0]"),
    ("extra", ["x" * 300], "extra[0]"),
    ("ephemeral", "yes", "ephemeral"),
    ("verbose", 1, "verbose"),
    ("dry_run", 0, "dry_run"),
    ("stream", "true", "stream"),
    ("temperature", 0.5, "temperature"),
    ("Prompt", "hello", "Prompt"),
]


@pytest.mark.daemon
@pytest.mark.parametrize(("field", "value", "param"), BAD_FIELDS)
async def test_a_bad_field_is_a_400_that_names_it(client, field, value, param):
    answer = await prompt(client, **{"prompt": "hello", "backend": "echo", field: value})
    assert (answer.status, error_of(answer)["param"]) == (400, param)
    assert error_of(answer)["code"] == "invalid_request"
    assert error_of(answer)["type"] == "invalid_request_error"


@pytest.mark.daemon
async def test_a_missing_prompt_is_named(client):
    assert error_of(await prompt(client, backend="echo"))["param"] == "prompt"


@pytest.mark.daemon
async def test_an_unknown_backend_is_refused_with_the_known_ones(client):
    error = error_of(await prompt(client, prompt="hello", backend="unknown"))
    assert error["message"] == (
        "backend 'unknown' is not configured; there are: claude, codex, echo, gemini, kept, other, scripted"
    )


BAD_BODIES = {
    "nothing": b"",
    "not json": b"prompt=hello",
    "cut short": b'{"prompt": "hello"',
    "two values": b'{"prompt": "hello"} {}',
    "single quotes": b"{'prompt': 'hello'}",
    "a trailing comma": b'{"prompt": "hello",}',
    "NaN": b'{"prompt": "hello", "max_tokens": NaN}',
    "not an object": b'["hello"]',
    "a bare string": b'"hello"',
    "null": b"null",
    "invalid UTF-8": b'{"prompt": "a\xff"}',
    "surrogates as UTF-8": b'{"prompt": "a\xed\xa0\x80"}',
    "UTF-16": '{"prompt": "hello"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"prompt": "hello"}',
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"schema":' * 50_000,
    "a raw newline in a string": b'{"prompt": "a\nb"}',
    "a raw NUL": b'{"prompt": "a\0b"}',
}


@pytest.mark.daemon
@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_body_that_is_no_json_object_is_a_400(client, name):
    answer = await client.call("POST", PROMPT, BAD_BODIES[name])
    assert (answer.status, error_of(answer)["code"]) == (400, "invalid_request")


ODD = {
    "invalid UTF-8": b'"\xff"',
    "invalid UTF-8 in a name": b'{"\xff": 1}',
    "a surrogate as UTF-8": b'"\xed\xa0\x80"',
    "half a pair": b'"\\ud800"',
    "deep arrays": b"[" * 5000 + b"]" * 5000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "a number too great": b"1e999",
    "a number of digits": b"1" * 5000,
}
SURFACES = {
    "/api/v1/prompt": b'"backend": "echo", "prompt": "hello"',
    "/openai/v1/chat/completions": b'"model": "echo", "messages": [{"role": "user", "content": "hello"}]',
    "/openai/v1/completions": b'"model": "echo", "prompt": "hello"',
    "/openai/v1/responses": b'"model": "echo", "input": "hello"',
    "/anthropic/v1/messages": (
        b'"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]'
    ),
    "/anthropic/v1/messages/count_tokens": (
        b'"model": "echo", "messages": [{"role": "user", "content": "hello"}]'
    ),
}


@pytest.mark.daemon
@pytest.mark.parametrize("path", SURFACES)
async def test_odd_values_fail_nowhere_inside_in_known_fields_or_unknown_ones(client, path):
    for value in ODD.values():
        for field in (b"unheard_of", b"metadata", b"tools", b"model", b"messages", b"input", b"prompt"):
            answer = await client.call(
                "POST", path, b"{%b, %b: %b}" % (SURFACES[path], b'"%b"' % field, value)
            )
            assert answer.status < 500, (value[:20], field, answer)


@pytest.mark.daemon
@pytest.mark.parametrize("path", ["/anthropic/v1/messages", "/openai/v1/chat/completions"])
async def test_what_the_typed_decode_skips_must_be_text_all_the_same(client, path):
    assert (await client.call("POST", path, b'{%b, "unheard_of": "\xff"}' % SURFACES[path])).status == 400


@pytest.mark.daemon
@pytest.mark.parametrize("escape", [b"\\ud800", b"\\uD83D rest", b"a\\udc00b", b"\\udfff\\ud800"])
async def test_half_a_surrogate_pair_is_a_400_that_says_so(client, escape):
    body = b'{"backend":"echo","prompt":"' + escape + b'"}'
    answer = await client.call("POST", PROMPT, body)
    assert answer.status == 400
    assert "half a surrogate pair" in error_of(answer)["message"]


@pytest.mark.daemon
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "",
        "text/plain; application/json",
        "text/plain, application/json",
        "application/json, text/plain",
        'text/plain; charset="application/json"',
        "multipart/form-data; boundary=application/json",
        "application/jsonp",
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
    ],
)
async def test_a_body_not_declared_as_json_is_a_415(client, content_type):
    body = {"prompt": "hello", "backend": "echo"}
    answer = await client.call("POST", PROMPT, body, headers={"content-type": content_type})
    error = error_of(answer)
    assert (answer.status, error["code"], error["param"]) == (415, "unsupported_media_type", "content-type")


@pytest.mark.daemon
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v1/runs/run_x/cancel"),
        ("POST", "/api/v1/runs/run_x/permissions/p"),
        ("POST", "/api/v1/sessions/ses_x/fork"),
        ("PATCH", "/api/v1/sessions/ses_x"),
        ("DELETE", "/api/v1/sessions/ses_x"),
        ("POST", "/openai/v1/chat/completions"),
        ("POST", "/openai/v1/completions"),
        ("POST", "/openai/v1/responses"),
        ("POST", "/anthropic/v1/messages"),
        ("POST", "/anthropic/v1/messages/count_tokens"),
    ],
)
async def test_no_route_takes_an_undeclared_body_not_even_one_that_reads_none(client, method, path):
    for content_type in ("text/plain", "application/x-www-form-urlencoded", None):
        answer = await client.call(method, path, b"{}", headers={"content-type": content_type})
        assert answer.status == 415


@pytest.mark.daemon
async def test_an_encoded_body_is_a_415_that_says_so(client):
    body = {"prompt": "hello", "backend": "echo"}
    answer = await client.call("POST", PROMPT, body, headers={"content-encoding": "gzip"})
    assert (answer.status, error_of(answer)["param"]) == (415, "content-encoding")


@pytest.mark.daemon
@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON"])
async def test_json_may_be_declared_as_http_allows(client, content_type):
    body = {"prompt": "hello", "backend": "echo"}
    answer = await client.call("POST", PROMPT, body, headers={"content-type": content_type})
    assert answer.json["output"] == "hello"


NUMBERS = [
    "/api/v1/sessions?limit=",
    "/api/v1/sessions?offset=",
    "/api/v1/runs/run_1/events?after=",
    "/openai/v1/responses/resp_1?starting_after=",
    "/anthropic/v1/models?limit=",
]


@pytest.mark.daemon
@pytest.mark.parametrize("path", NUMBERS)
@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "%D9%A3", "-1", "1.0", "1e3", "0x1", "%201", "1_0", "%C2%B2"],
    ids=lambda value: value[:6],
)
async def test_a_number_in_the_query_that_is_none_is_a_400_that_names_it(client, path, value):
    answer = await client.get(path + value)
    param = path.partition("?")[2].removesuffix("=")
    assert answer.status == 400
    assert answer.json["error"]["message"].startswith(param)
    assert answer.json["error"].get("param", param) == param


@pytest.mark.daemon
async def test_a_body_beyond_the_limit_is_a_413(client):
    answer = await client.call("POST", PROMPT, {"prompt": "x" * (5 << 20), "backend": "echo"})
    assert (answer.status, error_of(answer)["code"]) == (413, "request_too_large")


@pytest.mark.daemon
async def test_of_a_field_given_twice_the_last_counts(client):
    body = b'{"backend": "echo", "prompt": "first", "prompt": "second"}'
    assert (await client.call("POST", PROMPT, body)).json["output"] == "second"


PASSING = {
    "a slash": "/help me",
    "a dash": "-p",
    "two dashes": "--version",
    "an at sign": "@/etc/passwd",
    "a lone space": " ",
    "newlines": "\r\n a \n\n b \r",
    "line separators": "a\u2028b\u2029c\x85d",
    "emoji": "\U0001f642 \U0001f469\u200d\U0001f469\u200d\U0001f467",
    "control characters": "a\x01\x1b[31mb\x7f",
    "quotes": '"\\" \\u0041 </tag> ${HOME} `id`',
    "not a character": "\ufffe\uffff\U0010ffff",
    "an event of ours": 'data: {"type":"complete"}\n\n',
}


@pytest.mark.daemon
@pytest.mark.parametrize("name", PASSING)
async def test_a_prompt_is_text_whatever_it_looks_like(client, name):
    answer = await prompt(client, prompt=PASSING[name], backend="echo")
    assert answer.json["output"] == PASSING[name]
    events = await client.read(PASSING[name], "echo")
    assert events.text == events.last["content"]["output"] == PASSING[name]


@pytest.mark.daemon
async def test_a_pair_of_surrogates_is_one_character(client):
    answer = await client.call("POST", PROMPT, b'{"backend":"echo","prompt":"\\ud83d\\ude42"}')
    assert answer.json["output"] == "\U0001f642"


@pytest.mark.daemon
async def test_a_prompt_of_a_megabyte_goes_through(client):
    text = "word " * 200_000
    assert (await prompt(client, prompt=text, backend="echo")).json["output"] == text


# Working directories.


@pytest.mark.daemon
async def test_the_agent_works_in_the_directory_asked_for(daemon):
    directory = daemon.home / "outside"
    link = daemon.home / "link"
    link.symlink_to(directory)
    for path in (directory, link, f"{directory}/../outside/"):
        answer = await prompt(daemon.client, prompt="x", backend="echo", workdir=str(path), dry_run=True)
        assert answer.json["workdir"] == str(directory)
    events = await daemon.client.read("x", "echo", workdir=str(link))
    assert events.events[0]["content"]["workdir"] == str(directory)


@pytest.mark.daemon
async def test_a_blocked_directory_is_a_403_also_behind_a_link(daemon):
    blocked = daemon.home / "blocked"
    link = daemon.home / "innocent"
    link.symlink_to(blocked)
    for path in (blocked, link, f"{daemon.home}/outside/../blocked"):
        answer = await prompt(daemon.client, prompt="x", backend="echo", workdir=str(path))
        error = error_of(answer)
        assert (answer.status, error["code"], error["param"]) == (403, "forbidden", "workdir")


# What an agent cannot do.

ALL_FIELDS = {
    "model": {"model": "some-model"},
    "system_prompt": {"system_prompt": "be brief"},
    "max_turns": {"max_turns": 3},
    "max_tokens": {"max_tokens": 100},
    "images": {"images": [IMAGE]},
    "schema": {"schema": {"type": "object"}},
    "read-only": {"sandbox_mode": "read-only"},
    "workspace": {"sandbox_mode": "workspace"},
    "full": {"sandbox_mode": "full"},
    "auto": {"approval_mode": "auto"},
    "none": {"approval_mode": "none"},
    "always": {"approval_mode": "always"},
}
ACP_CANNOT = {"max_turns", "max_tokens", "schema", "read-only", "workspace"}
CANNOT = {
    "claude": {"workspace"},
    "codex": {"max_turns", "max_tokens"},
    "gemini": ACP_CANNOT,
    "other": ACP_CANNOT | {"system_prompt"},
    "echo": ACP_CANNOT | {"system_prompt", "model", "images"},
}
PAIRS = [(backend, what) for backend in CANNOT for what in ALL_FIELDS]


@pytest.mark.daemon
@pytest.mark.parametrize(("backend", "what"), PAIRS)
async def test_what_an_agent_cannot_do_is_refused_by_name_before_anything_starts(daemon, backend, what):
    if backend == "echo":
        await prompt(daemon.client, prompt="x", backend="echo")  # an ACP agent is known by its first session
    agents = {agent.pid for agent in daemon.agents()}
    fields = ALL_FIELDS[what]
    answer = await prompt(daemon.client, prompt="x", backend=backend, **fields, dry_run=True)
    if what not in CANNOT[backend]:
        assert answer.status == 200, answer
        return
    for dry_run in (True, False):
        answer = await prompt(daemon.client, prompt="x", backend=backend, **fields, dry_run=dry_run)
        error = error_of(answer)
        assert (answer.status, error["code"]) == (400, "unsupported_parameter")
        assert [error["param"]] == list(fields)
        assert backend in error["message"]
    assert {agent.pid for agent in daemon.agents()} <= agents


@pytest.mark.daemon
@pytest.mark.parametrize("what", ["images", "model"])
async def test_what_only_the_live_agent_knows_that_it_cannot_is_refused_by_name_too(client, what):
    for stream in (False, True):
        answer = await prompt(client, prompt="x", backend="echo", **ALL_FIELDS[what], stream=stream)
        error = error_of(answer)
        assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", what)


@pytest.mark.daemon
@pytest.mark.parametrize(
    ("backend", "flag"),
    [("claude", "--effort=high"), ("claude", "--fallback-model=x"), ("codex", "-c=model_verbosity=low")],
)
async def test_a_listed_flag_reaches_the_command(client, backend, flag):
    answer = await prompt(client, prompt="x", backend=backend, extra=[flag], dry_run=True)
    assert answer.status == 200, answer


@pytest.mark.daemon
@pytest.mark.parametrize(
    ("backend", "flag"),
    [
        ("claude", "--dangerously-skip-permissions"),
        ("claude", "--settings=/tmp/evil.json"),
        ("claude", "--add-dir=/"),
        ("claude", "hello"),
        ("claude", ""),
        ("claude", "--effort\0=high"),
        ("codex", "--dangerously-bypass-approvals-and-sandbox"),
        ("gemini", "--yolo"),
        ("echo", "--delay-ms=3"),
    ],
)
async def test_a_flag_that_is_not_listed_is_refused_by_its_place(client, backend, flag):
    fine = {"claude": ["--effort=high"], "codex": ["-c=model_verbosity=low"]}.get(backend, [])
    answer = await prompt(client, prompt="x", backend=backend, extra=[*fine, flag])
    assert (answer.status, error_of(answer)["param"]) == (400, f"extra[{len(fine)}]")


# Sessions.


@pytest.mark.daemon
async def test_an_unknown_session_is_a_404(client):
    for dry_run in (True, False):
        answer = await prompt(client, prompt="x", session_id="ses_unknown", dry_run=dry_run)
        error = error_of(answer)
        assert (answer.status, error["code"], error["param"]) == (404, "not_found", "session_id")


@pytest.mark.daemon
async def test_a_session_goes_on_in_the_same_process_while_it_is_live(client):
    first = (await prompt(client, prompt="{{pid}}", backend="kept")).json
    again = {"session_id": first["session_id"]}
    second = (await prompt(client, prompt="{{pid}}", **again)).json
    assert (second["session_id"], second["output"]) == (first["session_id"], first["output"])
    assert second["run_id"] != first["run_id"]
    assert (await prompt(client, prompt="x", **again, backend="kept")).status == 200
    assert (await prompt(client, prompt="x", **again, dry_run=True)).json["backend"] == "kept"


@pytest.mark.daemon
async def test_a_session_takes_no_other_backend_and_no_other_options(client):
    session = (await prompt(client, prompt="x", backend="echo")).json["session_id"]
    other = await prompt(client, prompt="x", session_id=session, backend="claude")
    assert (other.status, error_of(other)["param"]) == (400, "backend")
    options = await prompt(client, prompt="x", session_id=session, model="m")
    assert (options.status, error_of(options)["param"]) == (400, "session_id")


@pytest.mark.daemon
async def test_a_session_with_a_turn_in_hand_is_a_409(client):
    async with client.stream("one {{wait:20}}", ephemeral=False) as events:
        await events.until("one")
        answer = await prompt(client, prompt="x", session_id=events.events[0]["session_id"])
        error = error_of(answer)
        assert (answer.status, error["code"], error["param"]) == (409, "session_busy", "session_id")
        assert answer.headers["retry-after"] == "1"


@pytest.mark.daemon
async def test_an_ephemeral_session_is_gone_after_its_turn(client):
    session = (await prompt(client, prompt="x", backend="echo", ephemeral=True)).json["session_id"]
    assert (await prompt(client, prompt="x", session_id=session)).status == 404


# Decoding alone.


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Expected `str`, got `int` - at `$.prompt`", ("prompt: Expected `str`, got `int`", "prompt")),
        ("Expected `str`, got `int` - at `$.tasks[3].workdir`", (None, "tasks[3].workdir")),
        ("Object missing required field `prompt`", (None, "prompt")),
        ("Object contains unknown field `x` - at `$.tasks[0]`", (None, "tasks[0].x")),
        ("Expected `str`, got `int` - at `key in $.metadata`", (None, "metadata")),
        ("Expected `object`, got `array`", ("Expected `object`, got `array`", None)),
    ],
)
def test_the_field_at_fault_is_read_from_the_decoders_message(message, expected):
    what, param = explain(message)
    assert param == expected[1]
    assert expected[0] in {None, what}


def test_deep_nesting_is_refused_and_does_no_harm():
    for body in (b"[" * 1_000_000, b'{"a":' * 1_000_000):
        with pytest.raises(Refusal) as refused:
            decode(body, object)
        assert refused.value.code is Code.INVALID_REQUEST
    assert decode(json.dumps({"a": 1}).encode(), dict) == {"a": 1}
