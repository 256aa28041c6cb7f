"""Setting up structlog: what becomes of an event between `log.info(...)` and the line."""

import contextlib
import json
import logging
import os
import sys
from collections.abc import Generator, Mapping, MutableMapping
from typing import Any, Final, Literal, cast

from .redact import redact
from .writer import HasFileno, LineWriter

Level = Literal["debug", "info", "warning", "error"]


@contextlib.contextmanager
def _as_if_missing(*names: str) -> Generator[None]:
    """Hide packages that are not imported yet: structlog would import them for prettiness (rich: 10 MB, 0.1 s)."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue] - None means missing
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _as_if_missing("rich", "better_exceptions", "twisted"):
    import structlog
    from structlog.dev import ConsoleRenderer, plain_traceback
    from structlog.typing import FilteringBoundLogger

_LINE_OF_A_FAILURE: Final = "a log line could not be written"


def configure(level: Level, stream: HasFileno | None, *, colors: bool = True) -> LineWriter:
    """Send every log line of the process to `stream`: for people if it is a terminal, otherwise one JSON object a line.

    The library's own logging (hypercorn, quart, warnings) joins in from `warning` upwards. Logging neither waits nor
    raises from here on; `stream` may be closed, None or full. Returns the writer, whose `dropped` counts lost lines.
    """
    writer = LineWriter(stream)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Renderer(
                ConsoleRenderer(colors=colors, exception_formatter=plain_traceback)
                if _is_terminal(stream)
                else None
            ),
        ],
        logger_factory=lambda *_args: _Lines(writer),
        cache_logger_on_first_use=False,  # so that a reload can change the level
    )
    set_level(level)
    root = logging.getLogger()
    root.handlers[:] = [_FromLogging()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    return writer


def set_level(level: Level) -> None:
    """Drop what is less than `level` from now on, for loggers that exist already too."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger whose lines carry `logger_name`. May be called before `configure`."""
    return cast("FilteringBoundLogger", structlog.get_logger(logger_name=name))


def _is_terminal(stream: HasFileno | None) -> bool:
    try:
        return stream is not None and os.isatty(stream.fileno())
    except (OSError, ValueError):
        return False


class _Renderer:
    """The last processor: redacts, then renders for people or as JSON. Never raises."""

    def __init__(self, console: ConsoleRenderer | None) -> None:
        self._console = console

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        try:
            fields = redact(logger, method, structlog.processors.format_exc_info(logger, method, event))
            if self._console is None:
                return _json(fields)
            return self._console(logger, method, cast("dict[str, Any]", _escaped(fields)))
        except Exception as error:  # noqa: BLE001 - a strange value must not end the work that logged it
            return _json({"event": _LINE_OF_A_FAILURE, "level": "error", "error": type(error).__name__})


def _json(fields: Mapping[str, Any]) -> str:
    """Encode as ASCII: whatever a terminal or a pager would act on is escaped."""
    first = {name: fields[name] for name in ("timestamp", "level", "event") if name in fields}
    return json.dumps({**first, **fields}, separators=(",", ":"), default=repr)


def _escaped(value: object, keep: str = "") -> object:
    """Escape control characters in every text within `value`, but those in `keep`; a traceback keeps its lines."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in value)
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {
            str(_escaped(name)): _escaped(each, "\n" if name == "exception" else "")
            for name, each in fields.items()
        }
    if isinstance(value, list):
        return [_escaped(each) for each in cast("list[object]", value)]
    return value


class _Lines:
    """What structlog calls a logger: takes the rendered line, whatever its level."""

    def __init__(self, writer: LineWriter) -> None:
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = writer.line


class _FromLogging(logging.Handler):
    """Turns the records of stdlib logging into lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass `record` on; one whose arguments do not fit its text is passed on by its text alone."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's mistake in a log call
            text = str(record.msg)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # structlog knows the round levels only
        get_logger(record.name).log(max(level, logging.DEBUG), text, exc_info=record.exc_info)
