"""From nothing to Settings: built-in defaults, then the file, then the environment, then the command line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
from msgspec.structs import replace

from .builtin import BUILTIN, ECHO_COMMAND
from .checks import faults
from .document import read_document
from .errors import ConfigError
from .overlay import overlay
from .settings import BackendSettings, Settings
from .sources import COMMAND_LINE, ENVIRONMENT, Options, api_keys, from_environment, from_options, spelled


def load(options: Options, environ: Mapping[str, str], *, before: Settings | None = None) -> Settings:
    """Read every source once and return settings that are complete and checked, or raise ConfigError.

    Nothing is kept between calls: a reload passes the settings it has as `before`, and keeps them when this raises,
    which it also does when the file that they were read from has gone.
    """
    path, document = _document(options, environ)
    if before is not None and before.config_file and document is None:
        raise ConfigError(before.config_file, "the file has gone")
    settings = overlay(defaults(), document or {}, str(path))
    from_env = from_environment(environ, settings)
    settings = overlay(settings, from_env, ENVIRONMENT)
    from_argv = from_options(options)
    settings = overlay(settings, from_argv, COMMAND_LINE)
    settings = replace(
        _complete(settings, from_env | from_argv),
        api_keys=api_keys(environ),
        config_file="" if document is None else str(path),
    )
    layers = ((COMMAND_LINE, from_argv), (ENVIRONMENT, from_env))
    for key, problem in faults(settings):
        where = next((label for label, layer in layers if _holds(layer, key)), str(path))
        raise ConfigError(where, f"{spelled(key, where)}: {problem}")
    return settings


def defaults() -> Settings:
    """Return what holds when no source says anything, as `config/clinvoker.toml` shows it (nothing expanded yet)."""
    return Settings(backends=dict(BUILTIN))


def _document(options: Options, environ: Mapping[str, str]) -> tuple[Path, dict[str, Any] | None]:
    """Find and read the file; None when it is not there, which only the file in the usual place may be."""
    named = options.config or environ.get("CLINVK_CONFIG")
    usual = platformdirs.user_config_path("clinvoker", appauthor=False) / "config.toml"
    path = Path(_expand(named)).absolute() if named else usual
    try:
        return path, read_document(path)
    except FileNotFoundError:
        if named:
            source = "--config" if options.config else "CLINVK_CONFIG"
            raise ConfigError(str(path), f"no such file (named by {source})") from None
        return path, None


def _complete(settings: Settings, typed: Mapping[str, Any]) -> Settings:
    """Fill in what only this machine knows: the home directory, the state directory, our own interpreter.

    A state directory `typed` by a person (environment, command line) may be relative to where they stand.
    """
    state_dir = settings.state_dir or str(platformdirs.user_state_path("clinvoker", appauthor=False))
    server = replace(
        settings.server,
        allowed_workdir_prefixes=tuple(map(_expand, settings.server.allowed_workdir_prefixes)),
        blocked_workdir_prefixes=tuple(map(_expand, settings.server.blocked_workdir_prefixes)),
    )
    return replace(
        settings,
        server=server,
        state_dir=str(Path(_expand(state_dir)).absolute()) if "state_dir" in typed else _expand(state_dir),
        backends={name: _runnable(backend) for name, backend in settings.backends.items()},
    )


def _runnable(backend: BackendSettings) -> BackendSettings:
    program, *rest = backend.command or ECHO_COMMAND
    return replace(backend, command=(_expand(program), *rest))


def _expand(path: str) -> str:
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:  # no such user, or no home directory: the path stays relative, and a check names it
        return path


def _holds(layer: Mapping[str, Any], key: str) -> bool:
    table: Any = layer
    for part in key.split("."):
        if not isinstance(table, Mapping) or part not in table:
            return False
        table = table[part]  # pyright: ignore[reportUnknownVariableType]
    return True
