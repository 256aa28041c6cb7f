"""The rules that span several keys. Each gives the key at fault and what is wrong, or nothing."""

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath

from .modes import APPROVAL_MODES, SANDBOX_MODES, is_looser
from .settings import BackendSettings, KeyDefaults, KeySettings, Settings

Fault = tuple[str, str]


def faults(settings: Settings) -> Iterator[Fault]:
    """Yield (key, problem) for every rule that `settings` breaks. Paths are expected to be expanded."""
    yield from _default_backend(settings)
    for name, backend in settings.backends.items():
        yield from _backend(settings, name, backend)
    yield from _exposure(settings)
    yield from _paths(settings)
    yield from _proxies(settings)
    for name, key in settings.keys.items():
        yield from _key(settings, name, key)


SHORTEST = 24
"""Characters of a key that others than this machine's may try to guess (faults.md, T5)."""


def moment(text: str) -> datetime:
    """Return what `expires` says; UTC, and the beginning of the day, where it says nothing else. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def is_loopback(host: str) -> bool:
    """Tell whether `host` can be reached from this machine only; a name other than localhost counts as not."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _default_backend(settings: Settings) -> Iterator[Fault]:
    backend = settings.backends.get(settings.default_backend)
    if backend is None:
        yield "default_backend", f"no such backend; there are {', '.join(sorted(settings.backends))}"
    elif not backend.enabled:
        yield "default_backend", f"{settings.default_backend} is not enabled"


def _backend(settings: Settings, name: str, backend: BackendSettings) -> Iterator[Fault]:
    if backend.spares > backend.max_processes:
        yield (
            f"backends.{name}.spares",
            f"more than max_processes ({backend.max_processes}), got {backend.spares}",
        )
    yield from _modes(settings, f"backends.{name}", backend)
    for variable in backend.env:
        if variable.startswith("CLINVK_"):
            yield f"backends.{name}.env.{variable}", "CLINVK_* variables are never handed to an agent"


def _exposure(settings: Settings) -> Iterator[Fault]:
    server = settings.server
    if server.unix_socket or is_loopback(server.host):
        return
    if not settings.keys_needed:
        yield (
            "server.host",
            f"{server.host} is not a loopback address: set CLINVK_API_KEY, or add a key, to listen there",
        )
    if any(len(key.reveal()) < SHORTEST for key in settings.api_keys):
        yield (
            "server.host",
            f"{server.host} is not a loopback address: to listen there, keys must have {SHORTEST} characters or more",
        )


def _paths(settings: Settings) -> Iterator[Fault]:
    server = settings.server
    for key, prefixes in (
        ("allowed_workdir_prefixes", server.allowed_workdir_prefixes),
        ("blocked_workdir_prefixes", server.blocked_workdir_prefixes),
    ):
        for index, prefix in enumerate(prefixes):
            if not PurePath(prefix).is_absolute():
                yield f"server.{key}[{index}]", "expected an absolute path, or one that begins with ~/"
    if server.unix_socket and not PurePath(server.unix_socket).is_absolute():
        yield "server.unix_socket", "expected an absolute path, or one that begins with ~/"
    if not PurePath(settings.state_dir).is_absolute():
        yield "state_dir", "expected an absolute path, or one that begins with ~/"


def _proxies(settings: Settings) -> Iterator[Fault]:
    for index, network in enumerate(settings.server.trusted_proxies):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield f"server.trusted_proxies[{index}]", "expected an IP address, or a network like 10.0.0.0/8"


def _key(settings: Settings, name: str, key: KeySettings) -> Iterator[Fault]:
    where = f"keys.{name}"
    for other, twin in settings.keys.items():
        if other < name and twin.hash == key.hash:
            yield f"{where}.hash", f"the same key as keys.{other}"
    if key.burst is not None and key.rate is None:
        yield f"{where}.burst", "means nothing without rate"
    if key.expires is not None and not _is_moment(key.expires):
        yield f"{where}.expires", "no date and no date with a time"
    yield from _key_backends(settings, where, key)
    yield from _key_paths(where, key)
    yield from _modes(settings, f"{where}.defaults", key.defaults)


def _key_backends(settings: Settings, where: str, key: KeySettings) -> Iterator[Fault]:
    for index, backend in enumerate(key.backends):
        if backend not in settings.backends:
            yield f"{where}.backends[{index}]", "no such backend"
    if key.defaults.backend and key.defaults.backend not in (key.backends or settings.backends):
        yield f"{where}.defaults.backend", "no backend that the key may use"


def _key_paths(where: str, key: KeySettings) -> Iterator[Fault]:
    workdir = (("defaults.workdir", key.defaults.workdir),) if key.defaults.workdir else ()
    for what, path in (*((f"workdirs[{index}]", path) for index, path in enumerate(key.workdirs)), *workdir):
        if not PurePath(path).is_absolute():
            yield f"{where}.{what}", "expected an absolute path, or one that begins with ~/"


def _is_moment(text: str) -> bool:
    try:
        moment(text)
    except ValueError:
        return False
    return True


def _modes(settings: Settings, where: str, given: BackendSettings | KeyDefaults) -> Iterator[Fault]:
    server = settings.server
    if is_looser(given.approval_mode, server.max_approval_mode, APPROVAL_MODES):
        yield f"{where}.approval_mode", f"looser than server.max_approval_mode ({server.max_approval_mode})"
    if is_looser(given.sandbox_mode, server.max_sandbox_mode, SANDBOX_MODES):
        yield f"{where}.sandbox_mode", f"looser than server.max_sandbox_mode ({server.max_sandbox_mode})"
