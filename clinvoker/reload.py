"""The configuration read again (SIGHUP): whole or not at all, and of that what can change while the daemon runs."""

from collections.abc import Callable, Iterator

import trio
from msgspec.structs import asdict, replace

from clinvoker.config import ConfigError, Settings
from clinvoker.logs import get_logger

Load = Callable[[Settings], Settings]
"""Reads the configuration anew, given the one in force. Raises `ConfigError`."""

WHOLE = ("default_backend", "keys", "api_keys", "keys_needed")
"""Of those below, the ones that are in no table."""

LIVE = frozenset(
    {
        *WHOLE,
        "log.level",
        *(
            f"server.{key}"
            for key in (
                "request_timeout_secs",
                "first_event_timeout_secs",
                "idle_event_timeout_secs",
                "permission_timeout_secs",
                "client_tool_timeout_secs",
                "client_tool_grace_secs",
                "reattach_grace_secs",
                "heartbeat_secs",
                "max_transcript_bytes",
                "rate_limit_enabled",
                "rate_limit_rps",
                "rate_limit_burst",
                "max_concurrent_runs_per_caller",
                "trusted_proxies",
                "max_approval_mode",
                "max_sandbox_mode",
                "cors_allowed_origins",
                "allowed_hosts",
                "allowed_workdir_prefixes",
                "blocked_workdir_prefixes",
            )
        ),
    }
)
"""Keys that take effect at once, for runs and requests to come; every other needs a restart."""

_log = get_logger("clinvoker")


async def reload(before: Settings, load: Load) -> Settings | None:
    """Return the settings in force from now on, or None if the new ones are invalid: then the old ones stay.

    What needs a restart keeps its value, and is named in the log.
    """
    try:
        # In a thread: gopass may take its time.
        after = await trio.to_thread.run_sync(load, before, abandon_on_cancel=True)
    except ConfigError as error:
        _log.error("configuration not reloaded, the old one stays", problem=str(error))
        return None
    differing = list(_differing(before, after))
    live = [key for key in differing if key in LIVE]
    if "default_backend" in live and not _serves(before, after.default_backend):
        live.remove("default_backend")
    later = [key for key in differing if key not in live]
    if later:
        _log.warning("configuration needs a restart", keys=later)
    _log.info("configuration reloaded", keys=live)
    return _taking(before, after, live)


def _serves(settings: Settings, backend: str) -> bool:
    return backend in settings.backends and settings.backends[backend].enabled


def _differing(before: Settings, after: Settings) -> Iterator[str]:
    """The keys that differ, as the file spells them; a backend as a whole."""
    for table in ("server", "session", "log", "telemetry"):
        old, new = asdict(getattr(before, table)), asdict(getattr(after, table))
        yield from (f"{table}.{key}" for key in old if old[key] != new[key])
    for name in sorted({*before.backends, *after.backends}):
        if before.backends.get(name) != after.backends.get(name):
            yield f"backends.{name}"
    for key in (*WHOLE, "state_dir", "config_file"):
        if getattr(before, key) != getattr(after, key):
            yield key


def _taking(before: Settings, after: Settings, keys: list[str]) -> Settings:
    """Return the settings with these keys changed."""
    taken = {key: getattr(after, key) for key in keys if key in WHOLE}
    for table in ("server", "log"):
        changed = {
            key.partition(".")[2]: getattr(getattr(after, table), key.partition(".")[2])
            for key in keys
            if key.startswith(f"{table}.")
        }
        taken[table] = replace(getattr(before, table), **changed)
    return replace(before, **taken)
