"""Traces, as a collector gets them: a fake one that takes OTLP by HTTP on loopback."""

import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from trio_websocket import open_websocket_url

from tests.support.daemon import ROOT, Daemon, become_true, scripted

pytestmark = pytest.mark.daemon

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PROMPT = "/api/v1/prompt"
PRIVATE = "a word that nobody may trace"


class Seen:
    """A span as it arrived."""

    def __init__(self, span):
        self.name, self.kind = span.name, span.kind
        self.trace, self.id, self.parent = (
            each.hex() for each in (span.trace_id, span.span_id, span.parent_span_id)
        )
        self.began, self.ended = span.start_time_unix_nano, span.end_time_unix_nano
        self.failed = span.status.code == 2
        self.attributes = {
            each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
        }
        self.events = list(span.events)


class Collector:
    """Takes traces."""

    def __init__(self):
        self.spans = []
        self.paths = set()
        self.raw = b""
        self.resource = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path, body):
        self.paths.add(path)
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += map(Seen, scope.spans)

    def named(self, prefix):
        return [span for span in self.spans if span.name.startswith(prefix)]

    async def wait(self, prefix, number=1):
        """Wait for so many spans whose names begin so."""
        await become_true(lambda: len(self.named(prefix)) >= number, 5)
        return self.named(prefix)

    @contextmanager
    def serving(self):
        with self._server:
            thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield self
            finally:
                self._server.shutdown()
                thread.join()


@pytest.fixture
def collector():
    with Collector().serving() as collector:
        yield collector


@pytest.fixture
def daemon(tmp_path, collector):
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with Daemon(tmp_path, backends={"echo": {}, "scripted": scripted()}, env=environ) as daemon:
        yield daemon


async def test_a_request_its_run_and_its_turn_are_one_trace_under_the_callers_span(daemon, collector):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    asked = {"prompt": f"{PRIVATE} 1 2", "backend": "echo"}
    answer = await daemon.client.call("POST", PROMPT, asked, headers=headers)
    [request] = await collector.wait(f"POST {PROMPT}")
    [run] = await collector.wait("run")
    [turn] = await collector.wait("invoke_agent echo")
    assert request.trace == run.trace == turn.trace == TRACE
    assert (request.parent, run.parent, turn.parent) == (PARENT, request.id, run.id)
    assert request.kind == 2  # SERVER
    assert request.began <= run.began <= turn.began < turn.ended <= run.ended
    assert answer.headers["traceparent"] == f"00-{TRACE}-{request.id}-01"
    told = answer.json
    assert run.attributes["clinvoker.run_id"] == told["run_id"]
    assert turn.attributes["gen_ai.conversation.id"] == told["session_id"]
    assert turn.attributes["gen_ai.usage.output_tokens"] == told["token_usage"]["output_tokens"]
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["http.route"] == PROMPT
    assert request.attributes["clinvoker.request_id"] == answer.headers["x-request-id"]
    assert not any(span.failed for span in (request, run, turn))
    assert collector.paths == {"/v1/traces"}
    assert collector.resource["service.name"] == "clinvoker"


async def test_a_request_without_a_traceparent_begins_a_trace(daemon, collector):
    answers = [await daemon.client.get("/health") for _ in range(2)]
    spans = await collector.wait("GET /health", 2)
    assert {span.parent for span in spans} == {""}
    assert {answer.headers["traceparent"][3:35] for answer in answers} == {span.trace for span in spans}


@pytest.mark.parametrize("bad", ["", "00-0-0-00", f"00-{'0' * 32}-{PARENT}-01", "x" * 5000, "00-é"])
async def test_a_traceparent_that_is_none_is_passed_over(daemon, collector, bad):
    answer = await daemon.client.call("GET", "/health", headers={"traceparent": bad.encode()})
    assert answer.status == 200
    [span] = await collector.wait("GET /health")
    assert span.parent == ""


async def test_what_the_caller_does_not_sample_is_not_sent(daemon, collector):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    await daemon.client.call("GET", "/health", headers=headers)
    await daemon.client.get("/api/v1/backends")
    await collector.wait("GET /api/v1/backends")
    assert not collector.named("GET /health")


async def test_the_runs_of_all_surfaces_are_in_their_requests_traces(daemon, collector):
    message = {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
    for path in ("/openai/v1/chat/completions", "/anthropic/v1/messages"):
        await daemon.client.call("POST", path, message)
        [request] = await collector.wait(f"POST {path}")
        runs = await collector.wait("run", 1)
        assert request.id in {run.parent for run in runs}
        collector.spans.clear()


async def test_the_runs_of_a_websocket_are_in_its_trace(daemon, collector):
    headers = [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())]
    url = f"ws://127.0.0.1:{daemon.client.port}/api/v1/ws"
    async with open_websocket_url(url, extra_headers=headers) as socket:
        for ref in ("a", "b"):
            await socket.send_message(
                json.dumps({"op": "prompt", "ref": ref, "prompt": "x", "backend": "echo"})
            )
        runs = await collector.wait("run", 2)
    [request] = await collector.wait("GET /api/v1/ws")
    assert (request.trace, request.parent) == (TRACE, PARENT)
    assert {run.parent for run in runs} == {request.id}


async def test_failures_are_told_by_their_code(daemon, collector):
    await daemon.client.call("POST", PROMPT, {"prompt": "{{exit:1}}", "backend": "scripted"})
    [turn] = await collector.wait("invoke_agent scripted")
    [run] = await collector.wait("run")
    assert turn.failed
    assert run.failed
    assert turn.attributes["error.type"] == run.attributes["error.type"] == "backend_crashed"


async def test_a_run_whose_reader_leaves_is_told_as_cancelled(daemon, collector):
    async with daemon.client.stream("one {{wait:20}}") as events:
        await events.until("one")
    [run] = await collector.wait("run")
    assert run.failed
    assert run.attributes["error.type"] == "cancelled"


async def test_no_span_has_a_prompt_an_answer_a_key_or_a_query(tmp_path, collector):
    key = "caller-key-that-is-secret"
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "CLINVK_API_KEY": key,
    }
    with Daemon(tmp_path / "own", backends={"scripted": scripted()}, env=environ) as daemon:
        for prompt in (PRIVATE, f"{PRIVATE} {{{{exit:1}}}}"):
            asked = {"prompt": prompt, "backend": "scripted", "system_prompt": "", "tags": ["tagged"]}
            await daemon.client.call("POST", f"{PROMPT}?api_key={key}", asked)
        await collector.wait("run", 2)
        await collector.wait("POST", 2)
    for hidden in (key, PRIVATE, "nobody", "tagged"):
        assert hidden.encode() not in collector.raw


async def test_unknown_methods_and_paths_give_no_names_of_their_own(daemon, collector):
    await daemon.client.call("BREW", "/coffee/17")
    await daemon.client.get("/tea/18")
    await become_true(lambda: len(collector.spans) >= 2, 5)
    assert {span.name for span in collector.spans} == {"_OTHER none", "GET none"}


async def test_the_last_spans_are_sent_when_the_daemon_stops(tmp_path, collector):
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with Daemon(tmp_path / "own", backends={"echo": {}}, env=environ) as daemon:
        await daemon.client.get("/health")
        assert not collector.spans
        daemon.signal(15)
        assert await daemon.wait_ended() == 0
    assert collector.named("GET /health")


async def test_a_collector_that_is_away_delays_neither_answers_nor_the_stop(tmp_path):
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))  # bound and deaf: whoever connects is refused
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        with Daemon(tmp_path / "own", backends={"echo": {}}, env=environ) as daemon:
            with trio.fail_after(5):
                for _ in range(5):
                    assert (await daemon.client.ask("hello", "echo")).status == 200
            began = trio.current_time()
            daemon.signal(15)
            assert await daemon.wait_ended() == 0
            assert trio.current_time() - began < 6


async def test_the_endpoint_can_stand_in_the_configuration(tmp_path, collector):
    with Daemon(tmp_path / "own", backends={"echo": {}}, wait=False) as daemon:
        daemon.process.kill()
        daemon.process.wait()
        daemon.document["telemetry"] = {"otlp_endpoint": f"{collector.url}/"}
        daemon.write_config()
        daemon.start()
        daemon.wait_listening()
        await daemon.client.get("/health")
        daemon.signal(15)
        assert await daemon.wait_ended() == 0
    assert collector.named("GET /health")


async def test_without_an_endpoint_nothing_is_imported_and_nothing_is_told(tmp_path):
    with Daemon(tmp_path, backends={"echo": {}}) as daemon:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        answer = await daemon.client.call("GET", "/health", headers=headers)
        assert "traceparent" not in answer.headers
    code = (
        "import sys, clinvoker.cli, clinvoker.daemon; print([n for n in sys.modules if 'opentelemetry' in n])"
    )
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True, cwd=ROOT)
    assert done.stdout.strip() == b"[]"


async def test_without_the_extra_the_daemon_says_what_is_missing(tmp_path):
    hiding = tmp_path / "opentelemetry"
    hiding.mkdir()
    (hiding / "__init__.py").write_text("raise ImportError('not installed')")
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": str(tmp_path)}
    with Daemon(tmp_path / "own", backends={"echo": {}}, env=environ, wait=False) as daemon:
        assert await daemon.wait_ended() == 2
        assert "pip install clinvoker[otel]" in daemon.log
        assert "Traceback" not in daemon.log
