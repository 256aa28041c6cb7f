"""Listening sockets, bound before anything else starts (platform.md row 13: a port in use was a nested traceback)."""

import errno
import socket

BACKLOG = 1024
SEND_BUFFER_BYTES = 64 * 1024
# Left alone, Linux grows a send buffer to megabytes: a reader that stops would pin them, and a slow one would look
# stalled, because a socket counts as writable only when a third of its buffer is free. Accepted sockets inherit it.

_REASONS = {
    errno.EADDRINUSE: "is already in use",
    errno.EACCES: "may not be bound by this user",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
}


class BindError(OSError):
    """An address cannot be listened on; the message is one line for people, `errno` is the system's reason."""

    def __init__(self, where: str, cause: OSError) -> None:
        reason = _REASONS.get(cause.errno or 0, f"cannot be listened on: {cause.strerror or cause}")
        super().__init__(f"{where} {reason}")
        self.errno = cause.errno


def bind(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for every address of `host` (a name, IPv4 or IPv6, brackets allowed).

    Port 0 lets the system choose, the same port for all. All or nothing: on failure no socket stays open.

    Raises:
        BindError: the address is taken, forbidden, not ours, or the name is unknown.
    """
    name = host.removeprefix("[").removesuffix("]")
    where = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            chosen = port or (bound[0].getsockname()[1] if bound else 0)
            bound.append(_listen(family, (address[0], chosen, *address[2:])))
    except OSError as error:
        for listener in bound:
            listener.close()
        raise BindError(where, error) from None
    return bound


def _listen(family: socket.AddressFamily, address: tuple[str | int, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    except OSError:
        listener.close()
        raise
    return listener
