"""A net under the log: what must never be read there is taken out by the name of its field."""

from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, Final, cast

import msgspec

REDACTED: Final = "[redacted]"

_HIDDEN: Final = frozenset(
    {
        "api_key",
        "api_keys",
        "authorization",
        "cookie",
        "env",
        "key",
        "output",
        "password",
        "prompt",
        "secret",
        "text",
        "token",
        "x_api_key",
    }
)
_MAX_DEPTH: Final = 8
_LARGE: Final = 2**64


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Structlog processor: hide fields by name at any depth, and make every value plain data for a renderer."""
    return {key: _field(key, value, 0) for key, value in event.items()}


def _field(name: str, value: object, depth: int) -> object:
    if name.lower().replace("-", "_") in _HIDDEN:
        return REDACTED
    return _plain(value, depth + 1)


def _plain(value: object, depth: int) -> object:
    """Return `value` as text, numbers, lists and dicts. Bytes (headers, bodies) are counted, not shown."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):  # JSON has no NaN, and Python prints no endless integer
        return value if abs(value) < _LARGE else f"[{type(value).__name__}]"
    if isinstance(value, bytes | bytearray):
        return f"[{len(value)} bytes]"
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name, None) for name in value.__struct_fields__}
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _items(cast("Collection[object]", value), depth) if depth <= _MAX_DEPTH else "[too deep]"
    return repr(value)


def _items(value: Collection[object], depth: int) -> object:
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return {str(name): _field(str(name), each, depth) for name, each in fields.items()}
    return [_plain(each, depth + 1) for each in value]
