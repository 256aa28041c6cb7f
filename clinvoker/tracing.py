"""Spans of requests, runs and turns: what the daemon says of its work to a tracer, which most often there is none.

    request (SERVER)  of the surface that took it; its parent is the caller's own, from `traceparent`
      run             from its start to its end
        invoke_agent  one turn of one agent, in the words of OpenTelemetry's conventions for generative AI

No span has a word of a prompt or of an answer. `clinvoker.otel` sends them, and is imported only where it is configured.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from actors.messages import Complete, Failed

Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    """Something that takes time, as long as its block. A `Refusal` that leaves the block is its outcome."""

    def ended(self, outcome: Complete | Failed | None) -> None:
        """Tell how it ended; None says nothing."""


class Tracing(Protocol):
    """Makes spans. A span's parent is the one whose block it is opened in, or the `parent` that is given."""

    def here(self) -> Any:  # noqa: ANN401 - the tracer's own
        """The parent of spans that will be opened elsewhere."""

    def span(self, name: str, attributes: Attributes, parent: Any = None) -> AbstractContextManager[Span]:  # noqa: ANN401
        """A block that is a span."""
        ...


class _Nothing:
    def here(self) -> None:
        """There is no span."""

    def span(self, name: str, attributes: Attributes, parent: Any = None) -> AbstractContextManager[Span]:  # noqa: ANN401
        del name, attributes, parent
        return _NOWHERE

    def ended(self, outcome: Complete | Failed | None) -> None:
        """Nobody is told."""


OFF = _Nothing()
"""No tracing."""

_NOWHERE = nullcontext(OFF)
