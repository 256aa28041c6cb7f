"""The sources besides the file: the environment and the command line, told apart in every error."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

from .errors import ConfigError
from .gopass import GOPASS_SHOW, gopass_keys
from .overlay import parse
from .secret import Secret
from .settings import Endpoint, GopassPath, Host, LogLevel, Model, Port, Settings, Text

ENVIRONMENT: Final = "environment"
COMMAND_LINE: Final = "command line"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line may say, as typed; None where it says nothing."""

    config: str | None = None
    host: str | None = None
    port: int | str | None = None
    backend: str | None = None
    state_dir: str | None = None
    log_level: str | None = None


OTLP: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""OpenTelemetry's own variable, which `telemetry.otlp_endpoint` stands for."""

GOPASS: Final = "api_keys_gopass_path"

# Name of the option and ending of the variable -> (path in the settings, what it must be).
_KEYS: Final[Mapping[str, tuple[tuple[str, ...], object]]] = {
    "host": (("server", "host"), Host),
    "port": (("server", "port"), Port),
    "backend": (("default_backend",), str),
    "state_dir": (("state_dir",), Text),
    "log_level": (("log", "level"), LogLevel),
    GOPASS: (("server", GOPASS), GopassPath),
}


def from_environment(environ: Mapping[str, str], settings: Settings) -> dict[str, Any]:
    """Return the document that the `CLINVK_*` variables amount to. An empty variable counts as unset.

    `settings` says which backends exist: each has its `CLINVK_<BACKEND>_MODEL`. Raises ConfigError.
    """
    document: dict[str, Any] = {}
    for name in _KEYS:
        variable = f"CLINVK_{name.upper()}"
        if text := environ.get(variable):
            _put(document, name, text, variable, ENVIRONMENT)
    if text := environ.get(OTLP):
        document["telemetry"] = {"otlp_endpoint": parse(text, Endpoint, OTLP, ENVIRONMENT)}
    models: dict[str, Any] = {}
    for backend in settings.backends:
        variable = f"CLINVK_{backend.upper().replace('-', '_')}_MODEL"
        if text := environ.get(variable):
            models[backend] = {"model": parse(text, Model, variable, ENVIRONMENT)}
    return {**document, "backends": models}


def from_options(options: Options) -> dict[str, Any]:
    """Return the document that the command line amounts to. Raises ConfigError."""
    document: dict[str, Any] = {}
    for name, value in asdict(options).items():
        if name != "config" and value is not None:
            _put(document, name, value, f"--{name.replace('_', '-')}", COMMAND_LINE)
    return document


def api_keys(environ: Mapping[str, str], gopass_path: str) -> tuple[Secret, ...]:
    """Collect the callers' keys, each once: of `CLINVK_API_KEY`, `CLINVK_API_KEYS` (separated by commas), and gopass.

    Raises ConfigError for a key that no HTTP header can carry, without showing it, and for a gopass that fails: whoever
    asks for keys must not get a daemon that is open.
    """
    keys: dict[str, None] = {}
    for source, texts in (
        ("CLINVK_API_KEY", [environ.get("CLINVK_API_KEY", "")]),
        ("CLINVK_API_KEYS", environ.get("CLINVK_API_KEYS", "").split(",")),
        (GOPASS, gopass_keys(gopass_path, environ) if gopass_path else []),
    ):
        for text in filter(None, map(str.strip, texts)):
            if not (text.isascii() and text.isprintable()) or " " in text:
                raise ConfigError(
                    ENVIRONMENT if source != GOPASS else GOPASS_SHOW,
                    f"{source}: a key may hold printable ASCII without blanks only",
                )
            keys[text] = None
    return tuple(map(Secret, keys))


def spelled(key: str, where: str) -> str:
    """Say `key` (a path in the settings) as the source `where` spells it: `CLINVK_HOST`, `--host`, or as it is."""
    for name, (path, _) in _KEYS.items():
        if ".".join(path) == key and where == ENVIRONMENT:
            return f"CLINVK_{name.upper()}"
        if ".".join(path) == key and where == COMMAND_LINE:
            return f"--{name.replace('_', '-')}"
    return key


def _put(document: dict[str, Any], name: str, value: object, label: str, where: str) -> None:
    path, kind = _KEYS[name]
    table = document
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = parse(value, kind, label, where)
