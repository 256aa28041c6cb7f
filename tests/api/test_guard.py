"""Who may call: Host, Origin, keys; decided before any route is looked up."""

import json

import pytest
from msgspec.structs import replace

from clinvoker.api.guard import Guard
from clinvoker.api.rates import Rates
from clinvoker.budget import Budgets
from clinvoker.config import Secret, ServerSettings, Settings
from tests.api.support import PROMPT, error_of, prompt
from tests.support.daemon import Daemon

ORIGIN = "https://app.example.com"
LISTED = ServerSettings(allowed_hosts=("agents.example", "[fd00::1]"), cors_allowed_origins=(ORIGIN,))
OPEN = Settings(server=LISTED)
KEYED = replace(OPEN, api_keys=(Secret("first-key"), Secret("second-key-é")))


class Asked:
    """What a guarded app answered, and whether it was asked at all."""

    def __init__(self):
        self.reached = False
        self.status = 0
        self.headers = {}
        self.body = b""
        self.closed = None

    @property
    def code(self):
        return json.loads(self.body)["error"]["code"]

    @property
    def param(self):
        return json.loads(self.body)["error"]["param"]


def guarded(app, settings):
    """An app behind the guard, where nobody has a rate."""
    return Guard(app, settings, lambda *_: None, Rates(None, Budgets(None), settings))


async def ask(settings, headers=(), method="GET", path="/api/v1/backends", query="", kind="http"):
    """Ask a guarded app; `headers` may hold one name twice."""
    asked = Asked()

    async def app(scope, receive, send):
        del scope, receive
        asked.reached = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message):
        match message["type"]:
            case "http.response.start":
                asked.status = message["status"]
                asked.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            case "http.response.body":
                asked.body += message["body"]
            case "websocket.close":
                asked.closed = message["code"]

    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if "host" not in dict(pairs):
        pairs.append(("host", "localhost"))
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in pairs],
    }
    await guarded(app, settings)(scope, None, send)
    return asked


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "LocalHost:8080", "localhost.", "localhost.:80"),
        *("127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080"),
        *("127.0.0.2", "127.255.255.254:80", "[0:0:0:0:0:0:0:1]"),
        *("agents.example", "AGENTS.example:443", "agents.example.", "[fd00::1]:1"),
    ],
)
async def test_a_loopback_host_or_a_listed_one_is_let_through(host):
    assert (await ask(OPEN, {"host": host})).reached


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("xlocalhost", "localhost@evil.example", "evil.example@localhost", "agents.example.evil"),
        *("0.0.0.0:1", "192.168.0.1", "10.0.0.1:80", "[::]", "[fd00::2]", "[::ffff:10.0.0.1]", "::1"),
        *(
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "localhost,evil.example",
            "*",
            "127.0.0.1:80:80",
        ),
        *("[::1", "[::1]evil.example", "[localhost]", "[127.0.0.1]", "localhost:evil", " localhost"),
    ],
)
async def test_any_other_host_is_a_403(host):
    asked = await ask(OPEN, {"host": host})
    assert (asked.status, asked.code, asked.param) == (403, "forbidden", "host")
    assert not asked.reached


async def test_no_host_at_all_is_a_403():
    asked = await ask(OPEN, [("host", ""), ("accept", "*/*")])
    assert asked.status == 403


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "http://app.example.com", "https://app.example.com:443", "https://app.example.com/"),
        *("https://APP.example.com", "https://evil.example", "https://app.example.com.evil.example"),
        *(
            "http://localhost",
            "http://127.0.0.1:8080",
            "file://",
            "",
            "*",
            f"{ORIGIN} {ORIGIN}",
            "moz-extension://x",
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "DELETE", "ANY"])
async def test_a_foreign_origin_is_a_403_on_every_method(origin, method):
    asked = await ask(OPEN, {"origin": origin}, method)
    assert (asked.status, asked.code, asked.param) == (403, "forbidden", "origin")
    assert not asked.reached
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_what_another_site_embeds_is_refused_though_it_names_no_origin(kind):
    asked = await ask(OPEN, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, kind=kind)
    assert not asked.reached
    assert kind == "websocket" or (asked.status, asked.param) == (403, "sec-fetch-site")
    for own in ("none", "same-origin", "same-site"):
        assert (await ask(OPEN, {"sec-fetch-site": own})).reached
    assert (await ask(OPEN, {"sec-fetch-site": "cross-site", "origin": ORIGIN})).reached


async def test_a_listed_origin_may_read_why_it_was_refused():
    asked = await ask(KEYED, {"origin": ORIGIN})
    assert (asked.status, asked.headers["access-control-allow-origin"]) == (401, ORIGIN)


async def test_a_listed_origin_may_send_the_headers_it_asks_for_and_read_all():
    names = "x-stainless-os, anthropic-version"
    headers = {"origin": ORIGIN, "access-control-request-headers": names}
    asked = await ask(OPEN, headers, "OPTIONS")
    assert asked.headers["access-control-allow-headers"] == names
    assert asked.headers["access-control-expose-headers"] == "*"


async def test_a_listed_origin_gets_its_headers():
    asked = await ask(OPEN, {"origin": ORIGIN}, "POST")
    assert asked.reached
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert asked.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in asked.headers


async def test_a_preflight_is_answered_without_a_key_and_without_the_app():
    asked = await ask(KEYED, {"origin": ORIGIN, "access-control-request-method": "POST"}, "OPTIONS")
    assert (asked.status, asked.reached, asked.body) == (204, False, b"")
    assert asked.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert {"authorization", "content-type", "x-api-key"} <= {
        *asked.headers["access-control-allow-headers"].split(", ")
    }


async def test_no_origin_at_all_gets_no_cors_headers():
    asked = await ask(OPEN)
    assert asked.reached
    assert "access-control-allow-origin" not in asked.headers


WAYS = {
    "a bearer": {"headers": {"authorization": "Bearer first-key"}},
    "a bearer in any case": {"headers": {"authorization": "bEARER first-key"}},
    "a bearer with spaces": {"headers": {"authorization": "Bearer   first-key "}},
    "a header": {"headers": {"x-api-key": "first-key"}},
    "a query": {"query": "api_key=first-key"},
    "a query among others": {"query": "a=b&api_key=first-key&c=d"},
    "an encoded query": {"query": "api_key=first%2Dkey"},
    "the second key": {"query": "api_key=second-key-%C3%A9"},
    "the second key as UTF-8 in a header": {"headers": {"x-api-key": "second-key-é"}},
    "a right bearer beside a wrong header": {
        "headers": {"authorization": "Bearer first-key", "x-api-key": "wrong"},
        "query": "api_key=wrong",
    },
    "a right header beside a wrong query": {"headers": {"x-api-key": "first-key"}, "query": "api_key=wrong"},
    "a header beside another scheme": {
        "headers": {"authorization": "Basic Zmlyc3Q=", "x-api-key": "first-key"}
    },
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_key_is_taken_in_each_of_the_three_ways_and_in_their_order(way):
    assert (await ask(KEYED, **WAYS[way])).reached


WRONG = {
    "nothing": {},
    "a wrong bearer": {"headers": {"authorization": "Bearer wrong"}},
    "a bearer without a key": {"headers": {"authorization": "Bearer"}},
    "an empty bearer": {"headers": {"authorization": "Bearer "}},
    "another scheme": {"headers": {"authorization": "Basic first-key"}},
    "a key without a scheme": {"headers": {"authorization": "first-key"}},
    "an empty header": {"headers": {"x-api-key": ""}},
    "a prefix": {"headers": {"x-api-key": "first-ke"}},
    "more than the key": {"headers": {"x-api-key": "first-keyy"}},
    "both keys": {"headers": {"x-api-key": "first-key,second-key-é"}},
    "another case": {"headers": {"x-api-key": "FIRST-KEY"}},
    "a wrong bearer beside a right header": {
        "headers": {"authorization": "Bearer wrong", "x-api-key": "first-key"}
    },
    "a wrong header beside a right query": {"headers": {"x-api-key": "wrong"}, "query": "api_key=first-key"},
    "another parameter": {"query": "key=first-key"},
}


@pytest.mark.parametrize("way", WRONG)
async def test_without_the_key_it_is_a_401_that_repeats_nothing(way):
    asked = await ask(KEYED, **WRONG[way])
    assert (asked.status, asked.code, asked.reached) == (401, "unauthorized", False)
    assert asked.headers["www-authenticate"] == "Bearer"
    assert b"first" not in asked.body
    assert b"wrong" not in asked.body


@pytest.mark.parametrize("path", ["/health/", "/HEALTH", "//health", "/health/../metrics", "/metrics", "/"])
async def test_only_health_itself_is_open(path):
    assert (await ask(KEYED, path="/health")).reached
    assert (await ask(KEYED, path=path)).status == 401


@pytest.mark.parametrize("path", ["/", "/anthropic", "/anthropic/"])
async def test_a_probe_needs_no_key_and_is_only_a_head(path):
    assert (await ask(KEYED, method="HEAD", path=path)).reached
    for method in ("GET", "POST"):
        assert (await ask(KEYED, method=method, path=path)).status == 401
    assert (await ask(KEYED, {"host": "evil.example"}, method="HEAD", path=path)).status == 403


@pytest.mark.parametrize(
    "path", ["/unknown", "/anthropic/v1/models", "/api/v1/backends", "/openai/v1/models"]
)
async def test_no_other_head_is_open(path):
    assert (await ask(KEYED, method="HEAD", path=path)).status == 401


async def test_without_keys_everything_is_open():
    assert (await ask(OPEN)).reached
    assert (await ask(OPEN, {"x-api-key": "any"})).reached


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        (KEYED, {}),
        (KEYED, {"x-api-key": "wrong"}),
        (OPEN, {"host": "evil.example"}),
        (OPEN, {"origin": "https://evil.example"}),
    ],
)
async def test_a_websocket_is_refused_before_its_handshake(settings, headers):
    asked = await ask(settings, headers, kind="websocket")
    assert (asked.closed, asked.reached, asked.status) == (1008, False, 0)


async def test_a_websocket_with_a_key_is_let_through():
    assert (await ask(KEYED, {"x-api-key": "first-key"}, kind="websocket")).reached


async def test_the_lifespan_is_the_apps_own():
    reached = []

    async def app(scope, _receive, _send):
        reached.append(scope["type"])

    await guarded(app, KEYED)({"type": "lifespan"}, None, None)
    assert reached == ["lifespan"]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A daemon with keys."""
    env = {"CLINVK_API_KEY": "key-one", "CLINVK_API_KEYS": "key-two,key-three"}
    with Daemon(tmp_path_factory.mktemp("keyed"), env=env) as daemon:
        yield daemon


@pytest.mark.daemon
async def test_the_daemon_asks_for_one_of_its_keys(keyed):
    body = {"prompt": "hello"}
    for key in ("key-one", "key-two", "key-three"):
        headers = {"authorization": f"Bearer {key}"}
        assert (await keyed.client.call("POST", PROMPT, body, headers=headers)).status == 200
    assert (await keyed.client.call("POST", f"{PROMPT}?api_key=key-two", body)).status == 200
    for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": "key-two,key-three"}):
        answer = await keyed.client.call("POST", PROMPT, body, headers=headers)
        assert (answer.status, error_of(answer)["code"]) == (401, "unauthorized")
    for path in ("/metrics", "/api/v1/backends", "/unknown", "/api/v1/ws"):
        assert (await keyed.client.get(path)).status == 401
    assert (await keyed.client.get("/health")).status == 200
    for path, status in (("/", 404), ("/anthropic", 200)):
        answer = await keyed.client.call("HEAD", path)
        assert (answer.status, answer.body) == (status, b"")


@pytest.mark.daemon
async def test_a_key_is_not_in_the_log_nor_in_an_agents_environment(keyed):
    headers = {"x-api-key": "key-one"}
    await keyed.client.call("POST", f"{PROMPT}?api_key=key-two", {"prompt": "hello"}, headers=headers)
    for agent in keyed.agents():
        with open(f"/proc/{agent.pid}/environ", "rb") as file:  # noqa: PTH123, ASYNC230 - short
            environ = file.read()
        assert b"key-" not in environ
        assert b"CLINVK_API" not in environ
    assert "key-" not in keyed.log


@pytest.mark.daemon
async def test_without_keys_the_daemon_is_open_on_loopback(client):
    assert (await prompt(client, prompt="hello", backend="echo")).status == 200


@pytest.mark.daemon
async def test_a_rebound_name_gets_nothing(client):
    for headers in ({"host": "evil.example:8080"}, {"origin": "http://evil.example"}, {"origin": "null"}):
        answer = await client.call("POST", PROMPT, {"prompt": "hello", "backend": "echo"}, headers=headers)
        assert (answer.status, error_of(answer)["code"]) == (403, "forbidden")
