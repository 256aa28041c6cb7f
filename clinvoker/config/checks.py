"""The rules that span several keys. Each gives the key at fault and what is wrong, or nothing."""

import ipaddress
from collections.abc import Iterator
from pathlib import PurePath

from .settings import BackendSettings, Settings

Fault = tuple[str, str]


def faults(settings: Settings) -> Iterator[Fault]:
    """Yield (key, problem) for every rule that `settings` breaks. Paths are expected to be expanded."""
    yield from _default_backend(settings)
    for name, backend in settings.backends.items():
        yield from _backend(name, backend)
    yield from _exposure(settings)
    yield from _paths(settings)


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


def _backend(name: str, backend: BackendSettings) -> Iterator[Fault]:
    if backend.spares > backend.max_processes:
        yield (
            f"backends.{name}.spares",
            f"more than max_processes ({backend.max_processes}), got {backend.spares}",
        )
    for variable in backend.env:
        if variable.startswith("CLINVK_"):
            yield f"backends.{name}.env.{variable}", "CLINVK_* variables are never handed to an agent"


def _exposure(settings: Settings) -> Iterator[Fault]:
    server = settings.server
    if not (is_loopback(server.host) or settings.api_keys):
        yield (
            "server.host",
            f"{server.host} is not a loopback address: set CLINVK_API_KEY to listen there",
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
    if not PurePath(settings.state_dir).is_absolute():
        yield "state_dir", "expected an absolute path, or one that begins with ~/"
