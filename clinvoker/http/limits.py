"""Every bound of the HTTP ground in one place, with its unit."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one listener allows. Sizes in bytes, times in seconds; the defaults are those of faults.md section 4.

    Memory is bounded by `max_connections` times the larger of `max_body_bytes` and 5 * `ws_message_bytes`,
    plus the kernel's send buffer (`sockets.SEND_BUFFER_BYTES`, doubled by Linux) for each reader that has stopped.
    """

    max_connections: int = 512
    """One more evicts an idle connection, or is answered 503, or, when many more come at once, closed."""
    header_bytes: int = 32 * 1024
    """All header fields of a request together: 431."""
    header_fields: int = 100
    """Number of header fields: 431."""
    url_bytes: int = 8 * 1024
    """The request target: 414."""
    header_time_s: float = 5.0
    """From the first byte (on a new connection: from its opening) to the end of the head: 408."""
    keep_alive_s: float = 15.0
    """Between two requests of one connection: closed."""
    max_body_bytes: int = 10 * 1024 * 1024
    """A request's body, declared or chunked: 413."""
    body_time_s: float = 30.0
    """From the end of the head to the end of the body: 408."""
    write_stall_s: float = 30.0
    """Our data waits and the peer's socket takes not one byte for this long: the connection is dropped."""
    shutdown_grace_s: float = 5.0
    """From the shutdown trigger to the return of serve()."""
    ws_message_bytes: int = 1024 * 1024
    """A websocket message, all its fragments together: close 1009."""
    ws_ping_s: float = 20.0
    """Time between pings; a peer from which nothing came between two of them is gone."""
