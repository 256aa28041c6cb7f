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
from .keyfile import key_file, read_keys
from .overlay import overlay
from .settings import BackendSettings, KeySettings, Settings
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
    keys = read_keys(key_file(path))
    settings = overlay(settings, _only_keys(keys or {}, str(key_file(path))), str(key_file(path)))
    from_env = from_environment(environ, settings)
    settings = overlay(settings, from_env, ENVIRONMENT)
    from_argv = from_options(options)
    settings = overlay(settings, from_argv, COMMAND_LINE)
    found = api_keys(environ, settings.server.api_keys_gopass_path)
    had_keys = before is not None and before.keys_needed
    settings = replace(
        _complete(settings, from_env | from_argv),
        api_keys=found,
        keys_needed=bool(found or settings.keys) or keys is not None or had_keys,
        config_file="" if document is None else str(path),
    )
    layers = ((COMMAND_LINE, from_argv), (ENVIRONMENT, from_env))
    for key, problem in faults(settings):
        where = next((label for label, layer in layers if _holds(layer, key)), str(path))
        if keys is not None and _holds(keys, key):
            where = str(key_file(path))
        raise ConfigError(where, f"{spelled(key, where)}: {problem}")
    return settings


def config_path(named: str | None, environ: Mapping[str, str]) -> Path:
    """Where the configuration file is, or would be: `--config`, else CLINVK_CONFIG, else the usual place."""
    if found := named or environ.get("CLINVK_CONFIG"):
        return Path(_expand(found)).absolute()
    return platformdirs.user_config_path("clinvoker", appauthor=False) / "config.toml"


def defaults() -> Settings:
    """Return what holds when no source says anything, as `config/clinvoker.toml` shows it (nothing expanded yet)."""
    return Settings(backends=dict(BUILTIN))


def _document(options: Options, environ: Mapping[str, str]) -> tuple[Path, dict[str, Any] | None]:
    """Find and read the file; None when it is not there, which only the file in the usual place may be."""
    named = options.config or environ.get("CLINVK_CONFIG")
    path = config_path(options.config, environ)
    try:
        return path, read_document(path)
    except FileNotFoundError:
        if named:
            source = "--config" if options.config else "CLINVK_CONFIG"
            raise ConfigError(str(path), f"no such file (named by {source})") from None
        return path, None


def check_keys(config: Path, document: dict[str, Any]) -> None:
    """Raise ConfigError if the daemon could not use this key file beside that configuration."""
    where = str(key_file(config))
    try:
        settings = overlay(defaults(), read_document(config), str(config))
    except FileNotFoundError:
        settings = defaults()
    settings = overlay(settings, _only_keys(document, where), where)
    settings = replace(settings, keys={name: _expanded(key) for name, key in settings.keys.items()})
    for key, problem in faults(settings):
        if key.startswith("keys."):
            raise ConfigError(where, f"{key}: {problem}")


def _only_keys(document: dict[str, Any], where: str) -> dict[str, Any]:
    for key in document:
        if key != "keys":
            raise ConfigError(where, f"{key}: only [keys.NAME] tables belong here")
    return document


def _complete(settings: Settings, typed: Mapping[str, Any]) -> Settings:
    """Fill in what only this machine knows: the home directory, the state directory, our own interpreter.

    A state directory `typed` by a person (environment, command line) may be relative to where they stand.
    """
    state_dir = settings.state_dir or str(platformdirs.user_state_path("clinvoker", appauthor=False))
    server = replace(
        settings.server,
        allowed_workdir_prefixes=tuple(map(_expand, settings.server.allowed_workdir_prefixes)),
        blocked_workdir_prefixes=tuple(map(_expand, settings.server.blocked_workdir_prefixes)),
        unix_socket=_expand(settings.server.unix_socket),
    )
    return replace(
        settings,
        server=server,
        state_dir=str(Path(_expand(state_dir)).absolute()) if "state_dir" in typed else _expand(state_dir),
        backends={name: _runnable(backend) for name, backend in settings.backends.items()},
        keys={name: _expanded(key) for name, key in settings.keys.items()},
    )


def _runnable(backend: BackendSettings) -> BackendSettings:
    program, *rest = backend.command or ECHO_COMMAND
    return replace(backend, command=(_expand(program), *rest))


def _expanded(key: KeySettings) -> KeySettings:
    defaults = replace(key.defaults, workdir=_expand(key.defaults.workdir))
    return replace(key, workdirs=tuple(map(_expand, key.workdirs)), defaults=defaults)


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
