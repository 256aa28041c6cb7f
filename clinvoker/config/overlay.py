"""Laying one source's values over settings, key by key, so that a mistake is named by its own key.

(`msgspec.convert` of the whole document would say `$.backends[...].port` and stop short of the name.)
"""

import difflib
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec.structs import fields, replace

from .errors import ConfigError
from .settings import BackendSettings, KeySettings, Port, Settings, Table

T = TypeVar("T", bound=Table)

BackendName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[a-z][a-z0-9_-]{0,31}\Z",
        description="a name of at most 32 of a-z, 0-9, _ and -, beginning with a letter",
    ),
]

KeyName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z",
        description="a name of at most 64 letters, digits, _ and -",
    ),
]

# Keys of Settings that no document may set.
_NOT_CONFIGURED = frozenset({"api_keys", "keys_needed", "config_file"})

# Longer numbers are not worth a line (and Python refuses to print some).
_SHOWN = 10**18


def overlay(base: Settings, document: Mapping[str, Any], where: str) -> Settings:
    """Return `base` with the keys of `document` (nested tables, as TOML reads them) changed. Raises ConfigError."""
    rest = {key: value for key, value in document.items() if key not in {"backends", "keys"}}
    changed = _overlay_table(base, rest, "", where)
    tables = _expect_table(document.get("backends", {}), "backends", where)
    backends = {name: _overlay_backend(base, name, table, where) for name, table in tables.items()}
    tables = _expect_table(document.get("keys", {}), "keys", where)
    keys = {name: _overlay_key(base, name, table, where) for name, table in tables.items()}
    return replace(changed, backends={**base.backends, **backends}, keys={**base.keys, **keys})


def parse(text: object, kind: object, key: str, where: str) -> Any:  # noqa: ANN401 - `kind` says what it is
    """Turn a word of the environment or the command line into a `kind`. Raises ConfigError that names `key`."""
    is_number = isinstance(text, str) and re.fullmatch(r"-?[0-9]{1,18}", text)
    value = int(str(text)) if kind is Port and is_number else text
    return _convert(value, kind, key, where)


def _overlay_backend(base: Settings, name: str, raw: object, where: str) -> BackendSettings:
    path = f"backends.{name}"
    _convert(name, BackendName, path, where)
    table = _expect_table(raw, path, where)
    known = base.backends.get(name)
    if table.get("command") == [] and (known is None or known.command):
        raise ConfigError(where, f"{path}.command: expected a program and its arguments, got an empty array")
    if known is None:
        for key in ("protocol", "command"):
            if key not in table:
                raise ConfigError(
                    where, f"{path}.{key}: missing; a backend of your own needs protocol and command"
                )
        known = BackendSettings(protocol="acp", command=())
    return _overlay_table(known, table, path, where)


def _overlay_key(base: Settings, name: str, raw: object, where: str) -> KeySettings:
    path = f"keys.{name}"
    _convert(name, KeyName, path, where)
    if name in base.keys:
        raise ConfigError(where, f"{path}: there is such a key already, in the configuration file")
    table = dict(_expect_table(raw, path, where))
    if "hash" not in table:
        raise ConfigError(
            where, f"{path}.hash: missing; `clinvoker keys add` makes a key and writes its hash"
        )
    if isinstance(expires := table.get("expires"), date):  # of which a datetime is one
        table["expires"] = expires.isoformat()
    return _overlay_table(KeySettings(hash=""), table, path, where)


def _overlay_table(base: T, table: Mapping[str, Any], path: str, where: str) -> T:
    kinds = {field.name: field.type for field in fields(base) if field.name not in _NOT_CONFIGURED}
    changes: dict[str, Any] = {}
    for name, value in table.items():
        key = f"{path}.{name}" if path else name
        if name not in kinds:
            raise ConfigError(where, f"{key}: unknown key{_suggest(name, kinds)}")
        inner = getattr(base, name)
        if isinstance(inner, Table):
            changes[name] = _overlay_table(inner, _expect_table(value, key, where), key, where)
        elif get_origin(kinds[name]) is Mapping:
            changes[name] = {**inner, **_mapping(kinds[name], _expect_table(value, key, where), key, where)}
        else:
            changes[name] = _convert(value, kinds[name], key, where)
    return replace(base, **changes)


def _mapping(kind: object, table: Mapping[str, Any], path: str, where: str) -> dict[str, Any]:
    key_kind, value_kind = get_args(kind)
    for name, value in table.items():
        _convert(name, key_kind, f"{path}.{name}", where)
        _convert(value, value_kind, f"{path}.{name}", where)
    return dict(table)


def _expect_table(value: object, key: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(where, f"{key}: expected a table, got {_type_name(value)}")
    return cast("dict[str, Any]", value)


def _convert(value: object, kind: object, key: str, where: str) -> Any:  # noqa: ANN401 - as `kind` says
    try:
        return msgspec.convert(value, cast("Any", kind))
    except msgspec.ValidationError as error:
        message, _, at = str(error).partition(" - at `$")
        raise ConfigError(where, f"{key}{at.rstrip('`')}: {_problem(message, value, kind)}") from None


def _problem(message: str, value: object, kind: object) -> str:
    """Say msgspec's `message` in the file's own words. Text is never repeated, for it may be a key."""
    if get_origin(kind) is Literal:
        return f"expected one of {', '.join(map(str, get_args(kind)))}"
    if "matching regex" in message:
        return f"expected {_description(kind)}"
    words = message.replace("`", "").replace(" | null", "").replace("object", "table")
    shown = (
        f", got {value}"
        if isinstance(value, int | float) and abs(value) < _SHOWN and "got" not in words
        else ""
    )
    return words[0].lower() + words[1:] + shown


def _description(kind: object) -> str:
    """Find what a pattern stands for: the description of the first Meta that has one inside `kind`."""
    if isinstance(kind, msgspec.Meta):
        return kind.description or ""
    inner: tuple[object, ...] = get_args(kind)
    return next((text for part in inner if (text := _description(part))), "")


def _suggest(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _type_name(value: object) -> str:
    return "array" if isinstance(value, list) else type(value).__name__
