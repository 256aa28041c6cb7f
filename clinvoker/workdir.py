"""Which directories an agent may be started in."""

import os
from collections.abc import Iterable

from actors.errors import Code, Refusal


def resolve(path: str, allowed: Iterable[str], blocked: Iterable[str], *, param: str = "workdir") -> str:
    """Return the real path of a working directory, links resolved.

    `allowed` and `blocked` are path prefixes; none allowed means all. Raises `Refusal` naming `param`.
    """
    if not path.startswith("/") or "\0" in path:
        raise Refusal(Code.INVALID_REQUEST, f"{param} must be an absolute path", param=param)
    real = os.path.realpath(path)
    if not os.path.isdir(real):  # noqa: PTH112 - Path.is_dir raises for a name too long, or one it may not look at
        raise Refusal(Code.INVALID_REQUEST, f"{param} is not an existing directory", param=param)
    permitted = list(allowed)
    if permitted and not any(_within(real, prefix) for prefix in permitted):
        raise Refusal(Code.FORBIDDEN, f"{param} is not in a directory that agents may work in", param=param)
    if any(_within(real, prefix) for prefix in blocked):
        raise Refusal(Code.FORBIDDEN, f"{param} is in a directory that agents may not work in", param=param)
    return real


def _within(path: str, prefix: str) -> bool:
    root = os.path.realpath(prefix)
    return path == root or path.startswith(root.rstrip("/") + "/")
