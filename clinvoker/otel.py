"""Tracing with OpenTelemetry, over OTLP by HTTP: the extra `clinvoker[otel]`.

Spans are sent by a thread of the SDK's, in batches; a collector that is away costs nothing but its spans. The SDK's own
variables (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, ...) hold as anywhere.
"""

from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import trio
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, Tracer, get_current_span, set_span_in_context, use_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import clinvoker
from actors.errors import Refusal
from actors.messages import Complete, Failed
from clinvoker.api.guard import REQUEST_ID, ROUTE
from clinvoker.http.exchange import App, Receive, Send
from clinvoker.http.inbox import Message
from clinvoker.metrics import METHODS
from clinvoker.tracing import Attributes

CLOSE = 1.0
"""Seconds that the last spans have to be sent when the daemon stops."""

_PROPAGATOR = TraceContextTextMapPropagator()
_PROPAGATED = frozenset({b"traceparent", b"tracestate"})


class OpenTelemetry:
    """Sends spans to a collector at `endpoint`, the base URL of OTLP."""

    def __init__(self, endpoint: str, environ: Mapping[str, str]) -> None:
        named = {
            "service.name": environ.get("OTEL_SERVICE_NAME") or "clinvoker",
            "service.version": clinvoker.__version__,
        }
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer("clinvoker", clinvoker.__version__)

    def here(self) -> Context:
        """The context of the span whose block this is called in."""
        return set_span_in_context(get_current_span())

    @contextmanager
    def span(self, name: str, attributes: Attributes, parent: Context | None = None) -> Generator["OtelSpan"]:
        """A block that is a span."""
        begun = self._tracer.start_span(name, parent, attributes=attributes)
        span = OtelSpan(begun)
        # What an exception says may be the agent's words: only its kind is told.
        with use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except Refusal as refusal:
                span.failed(refusal.code)
                raise
            except trio.Cancelled:
                span.failed("cancelled")
                raise
            except Exception as error:
                span.failed(type(error).__name__)
                raise

    def around(self, app: App) -> "Traced":
        """The app, with a span for each of its requests."""
        return Traced(app, self._tracer)

    async def close(self) -> None:
        """Send what is left, in the time that there is."""
        with trio.move_on_after(CLOSE):
            await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)


class OtelSpan:
    """A span of OpenTelemetry's."""

    def __init__(self, span: Any) -> None:  # noqa: ANN401 - one that is sampled out is of another class
        self._span = span

    def ended(self, outcome: Complete | Failed | None) -> None:
        """Tell how it ended: tokens, or the error's code."""
        if isinstance(outcome, Failed):
            self.failed(outcome.code)
        elif outcome is not None:
            self._span.set_attribute("gen_ai.usage.input_tokens", outcome.token_usage.input_tokens)
            self._span.set_attribute("gen_ai.usage.output_tokens", outcome.token_usage.output_tokens)
            self._span.set_attribute("gen_ai.response.finish_reasons", [outcome.stop_reason])

    def failed(self, kind: str) -> None:
        """Tell what kind of error ended it."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(StatusCode.ERROR)


class Traced:
    """One ASGI callable around another: each request is a span, and `traceparent` comes in and goes out."""

    def __init__(self, app: App, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve an ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        told = {
            name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _PROPAGATED
        }
        method = scope.get("method", "GET")
        method = method if method in METHODS else "_OTHER"
        span = self._tracer.start_span(method, _PROPAGATOR.extract(told, Context()), SpanKind.SERVER)
        span.set_attribute("http.request.method", method)
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                await self._app(scope, receive, _telling(send, span))
            finally:
                route = scope.get(ROUTE, "")
                span.set_attribute("clinvoker.request_id", scope.get(REQUEST_ID, ""))
                if route:
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)


def _telling(send: Send, span: Any) -> Send:  # noqa: ANN401 - as above
    """`send`, with `traceparent` in the answer's headers and its status in the span."""
    told: dict[str, str] = {}
    _PROPAGATOR.inject(told, set_span_in_context(span))
    headers = [(name.encode(), value.encode()) for name, value in told.items()]

    async def sending(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.accept"}:
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.set_attribute("error.type", str(message["status"]))
                span.set_status(StatusCode.ERROR)
        await send(message)

    return sending
