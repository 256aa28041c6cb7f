"""How often a caller may ask: counted at the gate, and told in each API's words."""

import re
import time
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from actors.limiter import Limiter
from clinvoker.api.guard import CLIENT, COUNT_AGAIN, Guard
from clinvoker.api.rates import Rates, go_duration
from clinvoker.budget import Budgets
from clinvoker.config import KeySettings, Secret, ServerSettings, Settings
from clinvoker.tree import run_limits
from tests.actors.support import Records, running
from tests.api.test_guard import Asked
from tests.test_keys import hashed

LIMITED = Settings(server=ServerSettings(rate_limit_enabled=True, rate_limit_rps=2, rate_limit_burst=3))
KEYED = replace(
    LIMITED,
    keys={
        "fast": KeySettings(hash=hashed("fast-key"), rate=100, burst=50, daily_tokens=1000),
        "usual": KeySettings(hash=hashed("usual-key")),
    },
    api_keys=(Secret("plain-key"),),
)


class Gate:
    """A guarded app, and how it is asked."""

    def __init__(self, ref, settings):
        self.rates = Rates(ref, Budgets(None), settings)
        self.guard = Guard(self.app, settings, lambda *_: None, self.rates)
        self.scopes = []

    async def app(self, scope, _receive, send):
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    async def ask(self, path="/api/v1/backends", key="", client="10.0.0.1", kind="http", **headers):
        asked = Asked()

        async def send(message):
            if message["type"].endswith("response.start"):
                asked.status = message["status"]
                asked.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                asked.body += message["body"]

        named = {"host": "localhost", **headers, **({"x-api-key": key} if key else {})}
        scope = {
            "type": kind,
            "method": "GET",
            "path": path,
            "query_string": b"",
            "client": (client, 1234) if client else None,
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
            "extensions": {"websocket.http.response": {}},
        }
        await self.guard(scope, None, send)
        return asked

    async def statuses(self, number, **how):
        return [(await self.ask(**how)).status for _ in range(number)]


@pytest.fixture
async def gate(autojump_clock):
    async with running(Limiter(run_limits(LIMITED), Records())) as one:
        yield Gate(one.ref, LIMITED)


@pytest.fixture
async def keyed(autojump_clock):
    async with running(Limiter(run_limits(KEYED), Records())) as one:
        yield Gate(one.ref, KEYED)


async def test_more_than_the_burst_is_a_429_that_says_when(gate):
    assert await gate.statuses(3) == [200] * 3
    refused = await gate.ask()
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["retry-after-ms"] == "500"
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert len(gate.scopes) == 3


async def test_every_answer_says_how_the_caller_stands(gate):
    told = [(await gate.ask()).headers for _ in range(4)]
    assert [each["x-ratelimit-limit"] for each in told] == ["3"] * 4
    assert [each["x-ratelimit-remaining"] for each in told] == ["2", "1", "0", "0"]
    assert all(0 <= int(each["x-ratelimit-reset"]) - time.time() <= 3 for each in told)


async def test_openai_is_told_in_go_durations(gate):
    headers = (await gate.ask("/openai/v1/models")).headers
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "2"
    assert headers["x-ratelimit-reset-requests"] == "500ms"
    assert "anthropic-ratelimit-requests-limit" not in headers
    assert "x-ratelimit-limit-tokens" not in headers, "there is no limit of tokens to tell of"


async def test_anthropic_is_told_in_rfc_3339(gate):
    headers = (await gate.ask("/anthropic/v1/models")).headers
    assert headers["anthropic-ratelimit-requests-limit"] == "3"
    assert headers["anthropic-ratelimit-requests-remaining"] == "2"
    reset = headers["anthropic-ratelimit-requests-reset"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reset)
    assert 0 <= (datetime.fromisoformat(reset) - datetime.now(UTC)).total_seconds() <= 3
    assert headers["x-ratelimit-limit"] == "3"


async def test_a_429_is_said_in_each_dialect(gate):
    await gate.statuses(3)
    assert '"type":"rate_limit_error"' in (await gate.ask("/anthropic/v1/models")).body.decode()
    assert '"code":"rate_limit_exceeded"' in (await gate.ask("/openai/v1/models")).body.decode()


async def test_a_key_with_a_budget_is_told_of_its_tokens(keyed):
    headers = (await keyed.ask("/openai/v1/models", key="fast-key")).headers
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("1000", "1000")
    assert re.fullmatch(r"(\d+h)?(\d+m)?[\d.]+m?s", headers["x-ratelimit-reset-tokens"])
    headers = (await keyed.ask("/anthropic/v1/models", key="fast-key")).headers
    assert headers["anthropic-ratelimit-tokens-limit"] == "1000"


async def test_health_and_metrics_are_outside_the_limit(gate):
    for path in ("/health", "/metrics"):
        assert await gate.statuses(20, path=path) == [200] * 20
    assert "x-ratelimit-limit" not in (await gate.ask("/health")).headers
    assert await gate.statuses(3) == [200] * 3


async def test_without_a_limit_the_headers_are_there_and_nothing_is_counted(autojump_clock):
    gate = Gate(None, Settings())
    for _ in range(30):
        headers = (await gate.ask()).headers
        assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("20", "20")


async def test_a_key_counts_wherever_it_comes_from_and_an_address_without_one(gate, keyed):
    assert await keyed.statuses(2, key="usual-key", client="10.0.0.1") == [200, 200]
    assert await keyed.statuses(2, key="usual-key", client="10.0.0.2") == [200, 429]
    assert await keyed.statuses(4, key="plain-key", client="10.0.0.2") == [200, 200, 200, 429]
    assert await gate.statuses(4, client="10.0.0.1") == [200, 200, 200, 429]
    assert await gate.statuses(4, client="10.0.0.2") == [200, 200, 200, 429]


async def test_a_key_has_its_own_rate_also_where_others_have_none(autojump_clock):
    settings = Settings(
        keys={"slow": KeySettings(hash=hashed("slow-key"), rate=1, burst=2)}, api_keys=(Secret("other"),)
    )
    async with running(Limiter(run_limits(settings), Records())) as one:
        gate = Gate(one.ref, settings)
        assert await gate.statuses(3, key="slow-key") == [200, 200, 429]
        assert await gate.statuses(30, key="other") == [200] * 30


async def test_a_wrong_key_counts_against_the_address_it_comes_from(keyed):
    assert await keyed.statuses(5, key="wrong") == [401, 401, 401, 429, 429]
    assert await keyed.statuses(1, key="usual-key") == [200]


async def test_an_ipv6_caller_is_its_network(gate):
    assert await gate.statuses(2, client="2001:db8::1") == [200, 200]
    assert await gate.statuses(2, client="2001:db8::ffff") == [200, 429]
    assert await gate.statuses(1, client="2001:db8:0:1::1") == [200]
    assert await gate.statuses(2, client="::ffff:10.0.0.9") == [200, 200]
    assert await gate.statuses(2, client="10.0.0.9") == [200, 429]


FORWARDED = {
    "nobody trusted": ((), "10.0.0.1", "1.1.1.1", "10.0.0.1"),
    "a stranger's word": (("10.0.0.0/8",), "11.0.0.1", "1.1.1.1", "11.0.0.1"),
    "a proxy's word": (("10.0.0.0/8",), "10.0.0.1", "1.1.1.1", "1.1.1.1"),
    "what the client made up": (("10.0.0.1",), "10.0.0.1", "9.9.9.9, 1.1.1.1", "1.1.1.1"),
    "two proxies": (("10.0.0.0/8",), "10.0.0.1", "9.9.9.9, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
    "nonsense": (("10.0.0.0/8",), "10.0.0.1", "evil", "10.0.0.1"),
    "nothing": (("10.0.0.0/8",), "10.0.0.1", "", "10.0.0.1"),
    "a Unix socket": (("10.0.0.0/8",), "", "1.1.1.1", "unix"),
}


@pytest.mark.parametrize("name", FORWARDED)
async def test_only_a_trusted_proxy_says_where_a_request_comes_from(name, autojump_clock):
    trusted, peer, told, address = FORWARDED[name]
    gate = Gate(None, Settings(server=ServerSettings(trusted_proxies=trusted)))
    await gate.ask(client=peer, x_forwarded_for=told)
    assert gate.scopes[0][CLIENT] == address


async def test_a_websocket_counts_once_and_again_for_each_run_on_it(gate):
    await gate.ask(kind="websocket", path="/api/v1/ws")
    count_again = gate.scopes[0][COUNT_AGAIN]
    await count_again()
    await count_again()
    with pytest.raises(Exception, match="rate limit exceeded"):
        await count_again()
    assert (await gate.ask(kind="websocket", path="/api/v1/ws")).status == 429


async def test_a_websocket_is_refused_with_the_status_that_says_why(keyed):
    assert (await keyed.ask(kind="websocket", key="wrong")).status == 401
    assert (await keyed.ask(kind="websocket", key="fast-key", host="evil.example")).status == 403


async def test_a_limiter_that_is_gone_lets_nobody_through(autojump_clock):
    async with running(Limiter(run_limits(LIMITED), Records())) as one:
        gate = Gate(one.ref, LIMITED)
    assert (await gate.ask()).status == 503
    assert gate.scopes == []


async def test_the_gate_costs_far_less_than_a_fifth_of_a_millisecond(keyed):
    keyed.rates.reconfigure(KEYED)
    await keyed.ask("/anthropic/v1/models", key="fast-key")
    began = time.process_time()
    for _ in range(2000):
        await keyed.ask("/anthropic/v1/models", key="fast-key")
    assert (time.process_time() - began) / 2000 < 0.0002


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((0, "0s"), (0.0004, "1ms"), (0.012, "12ms"), (1, "1s"), (1.5, "1.5s"), (59.25, "59.25s")),
        *((60, "1m0s"), (360, "6m0s"), (3600, "1h0m0s"), (86399.5, "23h59m59.5s")),
    ],
)
def test_durations_are_written_as_go_does(seconds, told):
    assert go_duration(seconds) == told
