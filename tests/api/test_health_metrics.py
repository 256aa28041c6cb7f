"""GET /health and GET /metrics: that what they tell is so, and that nobody can make them grow."""

import json
import re
import socket
import stat
import subprocess
from functools import partial
from urllib.parse import quote

import pytest
import trio

from clinvoker import __version__
from clinvoker.metrics import Metrics
from tests.api.support import PROMPT, eventually, prompt
from tests.support.client import Client
from tests.support.daemon import SCRIPTED, Daemon, become_true, scripted
from tests.support.oracle import look
from tests.support.prometheus import NotInstallableError, ensure_installed

pytestmark = pytest.mark.daemon


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A daemon whose counters nobody else moves."""
    backends = {"echo": {}, "scripted": scripted()}
    with Daemon(tmp_path_factory.mktemp("metrics"), backends=backends, reattach_grace_secs=0.1) as daemon:
        yield daemon


class Moved:
    """What has moved in the series between two looks."""

    def __init__(self, before, after):
        self._before, self._after = before.series, after.series

    def by(self, name, **labels):
        """The growth of a series; its labels are complete."""
        key = name, ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        return self._after.get(key, 0.0) - self._before.get(key, 0.0)


async def moved(daemon, before):
    return Moved(before, await look(daemon))


async def test_health_has_the_documented_shape_and_tells_the_truth(own):
    answer = await own.client.get("/health")
    health = answer.json
    assert answer.status == 200
    assert health.keys() >= {"status", "version", "uptime", "uptime_ms", "backends", "actors"}
    assert (health["status"], health["version"]) == ("ok", __version__)
    assert abs(health["uptime_ms"] - health["uptime"] * 1000) < 2
    assert health["backends"] == [
        {"name": "echo", "available": True},
        {"name": "scripted", "available": True},
    ]
    assert health["actors"]["alive"] >= 5
    assert health["actors"]["restarts"] == 0


async def test_runs_tokens_and_times_are_counted(own):
    before = await look(own)
    for _ in range(3):
        await prompt(own.client, prompt="one two three", backend="echo")
    await prompt(own.client, prompt="{{exit:1}}", backend="scripted")
    await prompt(own.client, prompt="x", backend="scripted", session_id="unknown")
    await prompt(own.client, prompt="", backend="echo")
    after = await moved(own, before)
    assert after.by("runs_total", backend="echo", outcome="complete") == 3
    assert after.by("runs_total", backend="scripted", outcome="backend_crashed") == 1
    assert after.by("runs_running", backend="echo") == 0
    assert after.by("first_event_seconds_count", backend="echo") == 3
    assert after.by("run_duration_seconds_count", backend="echo") == 3
    assert 0 < after.by("run_duration_seconds_sum", backend="echo") < 3
    assert after.by("tokens_total", backend="echo", kind="input") == 9
    assert after.by("tokens_total", backend="echo", kind="output") == 9
    assert after.by("tokens_total", backend="echo", kind="cached") == 0
    assert after.by("tokens_total", backend="echo", kind="reasoning") == 0
    route = {"route": "/api/v1/prompt", "method": "POST"}
    assert after.by("requests_total", **route, status="200") == 4
    assert after.by("requests_total", **route, status="404") == 1
    assert after.by("requests_total", **route, status="400") == 1
    assert after.by("spawns_total", backend="scripted") == 1

    async def its_end_is_counted():
        after = await moved(own, before)
        return after.by("process_ends_total", backend="scripted", reason="died") == 1

    await eventually(its_end_is_counted)


async def test_a_running_turn_is_seen_running(own):
    before = await look(own)
    async with own.client.stream("one {{wait:20}}") as events:
        await events.until("one")
        during = (await look(own)).series
        assert during["runs_running", 'backend="scripted"'] == 1
        assert during["processes", 'backend="scripted",state="busy"'] == 1

    async def it_is_over():
        series = (await look(own)).series
        running = series["runs_running", 'backend="scripted"']
        return not running + series["processes", 'backend="scripted",state="busy"']

    await eventually(it_is_over)
    after = await moved(own, before)
    assert after.by("runs_total", backend="scripted", outcome="cancelled") == 1


async def test_every_series_that_is_promised_is_there(own):
    for backend in ("echo", "scripted"):
        await prompt(own.client, prompt="x", backend=backend)
    text = (await own.client.get("/metrics")).body.decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    promised = {
        "clinvoker_requests_total": "counter",
        "clinvoker_runs_total": "counter",
        "clinvoker_runs_running": "gauge",
        "clinvoker_first_event_seconds": "histogram",
        "clinvoker_run_duration_seconds": "histogram",
        "clinvoker_tokens_total": "counter",
        "clinvoker_processes": "gauge",
        "clinvoker_spawns_total": "counter",
        "clinvoker_actor_restarts_total": "counter",
        "clinvoker_queue_depth": "gauge",
        "clinvoker_event_loop_lag_seconds": "histogram",
    }
    assert {name: types.get(name) for name in promised} == promised
    assert all(name.startswith("clinvoker_") for name in types)
    for state in ("busy", "idle", "spare"):
        assert f'clinvoker_processes{{backend="echo",state="{state}"}}' in text
    for queue in ("runs", "pool_echo", "pool_scripted"):
        assert f'clinvoker_queue_depth{{queue="{queue}"}}' in text


async def test_metrics_are_prometheus_text(own):
    answer = await own.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    sample = re.compile(rb'[a-z_]+(\{([a-z_]+="[^"\\\n]*",?)+\})? [0-9.e+-]+(Inf|NaN)?')
    for line in answer.body.splitlines():
        assert line.startswith(b"#") or sample.fullmatch(line), line


async def statuses(port, requests):
    """Ask on few connections, and return all the statuses there were."""
    seen = set()
    for start in range(0, len(requests), 200):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for request in requests[start : start + 200]:
                await stream.send_all(f"{request} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                answer = b""
                while not answer.endswith(b"}}"):
                    piece = await stream.receive_some(65536)
                    assert piece, (request, answer)
                    answer += piece
                seen.add(int(answer.split()[1]))
    return seen


async def labelled(daemon):
    """All series but those of agents' processes, which come and go by themselves."""
    series = (await look(daemon)).series
    return {key for key in series if not key[0].startswith(("process", "spawn"))}


async def test_a_thousand_random_paths_methods_models_and_backends_add_no_series(own):
    await own.client.call("BREW", "/coffee")
    await own.client.get("/api/v1/nothing")
    await prompt(own.client, prompt="x", backend="unknown")
    await own.client.call("POST", "/api/v1/runs/run_0/cancel")
    chat = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    await own.client.call("POST", "/openai/v1/chat/completions", chat)
    await own.client.call("POST", "/anthropic/v1/messages", chat)
    await own.client.get("/openai/v1/models/m")
    before = await labelled(own)
    paths = [f"GET /api/v1/{number}" for number in range(1000)]
    methods = [f"BREW{number} /coffee" for number in range(100)]
    with trio.fail_after(20):
        assert await statuses(own.client.port, paths) == {404}
        assert await statuses(own.client.port, methods) <= {404, 405}
    for number in range(20):
        await prompt(own.client, prompt="x", backend=f"b{number}", model=f"m{number}")
        await own.client.call("POST", f"/api/v1/runs/run_{number}/cancel")
        chat = {"model": f"m{number}", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
        await own.client.call("POST", "/openai/v1/chat/completions", chat)
        await own.client.call("POST", "/anthropic/v1/messages", chat)
        await own.client.get(f"/openai/v1/models/m{number}")
    assert await labelled(own) == before


@pytest.fixture(scope="session")
def prometheus():
    """A real Prometheus."""
    try:
        return ensure_installed()
    except NotInstallableError as reason:
        pytest.skip(str(reason))


async def test_promtool_finds_nothing_wrong_with_the_series(own, prometheus):
    await prompt(own.client, prompt="x", backend="echo")
    await prompt(own.client, prompt="{{exit:1}}", backend="scripted")
    text = (await own.client.get("/metrics")).body
    done = await trio.run_process(
        [prometheus.promtool, "check", "metrics"],
        stdin=text,
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.slow
async def test_a_real_prometheus_scrapes_the_daemon_with_a_key(tmp_path, prometheus):
    key = "scraper"
    with Daemon(tmp_path / "own", backends={"echo": {}}, env={"CLINVK_API_KEYS": f"other,{key}"}) as own:
        for _ in range(3):
            asked = {"prompt": "one two", "backend": "echo"}
            assert (
                await own.client.call("POST", PROMPT, asked, headers={"x-api-key": "wrong"})
            ).status == 401
            assert (await own.client.call("POST", PROMPT, asked, headers={"x-api-key": key})).status == 200
        scrape = {
            "job_name": "clinvoker",
            "authorization": {"credentials": key},
            "static_configs": [{"targets": [f"127.0.0.1:{own.client.port}"]}],
        }
        configuration = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [scrape],
        }
        file = tmp_path / "prometheus.yml"
        file.write_text(json.dumps(configuration))  # YAML, too
        port = free_port()
        command = [
            prometheus.server,
            f"--config.file={file}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        with (tmp_path / "log").open("wb") as log:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(trio.run_process, command, stdout=log, stderr=log, check=False))
                scraped = Client(port)

                async def value(query):
                    """What Prometheus says a query is; None before it knows."""
                    try:
                        answer = await scraped.get(f"/api/v1/query?query={quote(query)}")
                    except OSError:
                        return None
                    found = answer.json["data"]["result"] if answer.status == 200 else []
                    return float(found[0]["value"][1]) if found else None

                async def counted():
                    return await value('clinvoker_runs_total{backend="echo",outcome="complete"}') == 3

                await eventually(counted, 20)
                assert await value("up") == 1
                assert (
                    await value(
                        'histogram_quantile(0.5, clinvoker_run_duration_seconds_bucket{backend="echo"})'
                    )
                    > 0
                )
                assert await value('clinvoker_requests_total{route="refused",status="401"}') == 3
                nursery.cancel_scope.cancel()


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_metrics_can_be_switched_off(tmp_path):
    with Daemon(tmp_path, metrics_enabled=False) as daemon:
        assert (await daemon.client.get("/metrics")).status == 404
        assert (await daemon.client.get("/health")).status == 200


@pytest.mark.slow
async def test_a_backend_that_keeps_dying_at_start_says_why_and_comes_back(tmp_path):
    program = tmp_path / "agent"

    def install(text):
        new = tmp_path / "new"
        new.write_text(f"#!/bin/sh\n{text}\n")
        new.chmod(new.stat().st_mode | stat.S_IXUSR)
        new.replace(program)

    install("echo cannot go on >&2; exit 7")
    backend = {**scripted(spares=1), "command": [str(program)]}
    with Daemon(tmp_path / "daemon", backends={"sick": backend}) as daemon:

        async def described():
            return (await daemon.client.get("/api/v1/backends")).json["backends"][0]

        async def unavailable():
            return not (await described())["available"]

        async def available():
            return (await described())["available"]

        await eventually(unavailable, 10)
        sick = await described()
        assert sick["reason"] == "sick ended with exit code 7: cannot go on"
        health = await daemon.client.get("/health")
        assert (health.status, health.json["status"]) == (200, "degraded")
        assert health.json["backends"] == [{"name": "sick", "available": False}]
        refused = await prompt(daemon.client, prompt="x", backend="sick")
        assert (refused.status, refused.json["error"]["code"]) == (503, "backend_unavailable")
        assert "exit code 7" in refused.json["error"]["message"]
        install(f"exec {' '.join(SCRIPTED)}")
        await eventually(available, 10)
        assert (await described())["reason"] is None
        assert (await prompt(daemon.client, prompt="x", backend="sick")).json["output"] == "x"
        assert (await daemon.client.get("/health")).json["status"] == "ok"


async def test_what_is_installed_while_the_daemon_runs_is_found(tmp_path):
    program = tmp_path / "agent"
    backend = {**scripted(), "command": [str(program)]}
    with Daemon(tmp_path / "daemon", backends={"late": backend}) as daemon:

        async def described():
            return (await daemon.client.get("/api/v1/backends")).json["backends"][0]

        late = await described()
        assert (late["available"], late["version"]) == (False, None)
        assert late["reason"] == f"{program} is not installed"
        refused = await prompt(daemon.client, prompt="x", backend="late")
        assert (refused.status, refused.json["error"]["code"]) == (503, "backend_not_installed")
        program.write_text(f'#!/bin/sh\nexec {" ".join(SCRIPTED)} "$@"\n')
        program.chmod(0o755)
        assert (await prompt(daemon.client, prompt="x", backend="late")).json["output"] == "x"
        assert (await described())["available"]
        program.unlink()
        await become_true(lambda: not daemon.agents(), 3)
        assert not (await described())["available"]


async def test_the_lag_of_the_event_loop_is_measured(autojump_clock):
    metrics = Metrics()
    with trio.move_on_after(5.25):
        await metrics.watch_loop()
    assert b"clinvoker_event_loop_lag_seconds_count 10.0" in metrics.render()


async def test_what_the_guard_and_the_http_ground_refuse_is_counted_too(own):
    before = await look(own)
    assert (await own.client.call("GET", "/health", headers={"host": "evil.example"})).status == 403
    assert (await own.client.call("POST", "/api/v1/prompt", {"prompt": "x" * 11_000_000})).status == 413
    after = await moved(own, before)
    for method, status in (("GET", "403"), ("POST", "413")):
        assert after.by("requests_total", route="refused", method=method, status=status) == 1
