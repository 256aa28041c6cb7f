"""The least client that can be: a plain socket a request, so that what is measured is the daemon."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from tests.bench.recording import Recording

_READ = 1 << 18
_PATIENCE = 120.0


def ask(port: int, prompt: str, **fields: Any) -> Recording:
    """Ask for a stream and read it to the end; the time counts from before the connection is opened."""
    recording = Recording(time.perf_counter())
    with closing(_begin(port, prompt, fields)) as sock:
        while data := sock.recv(_READ):
            recording.pieces.append((time.perf_counter(), data))
    return recording


def ask_all(port: int, prompts: Iterable[str], at_once: int, **fields: Any) -> list[Recording]:
    """Ask for all of them, `at_once` at any time; the recordings in the order of the prompts."""
    waiting = iter(prompts)
    recordings: list[Recording] = []
    with selectors.DefaultSelector() as reading:
        while True:
            while len(reading.get_map()) < at_once and (prompt := next(waiting, None)) is not None:
                recordings.append(Recording(time.perf_counter()))
                reading.register(_begin(port, prompt, fields), selectors.EVENT_READ, recordings[-1])
            if not reading.get_map():
                return recordings
            ready = reading.select(_PATIENCE)
            assert ready, "nothing came for too long"
            for key, _ in ready:
                sock: Any = key.fileobj
                data = sock.recv(_READ)
                if data:
                    key.data.pieces.append((time.perf_counter(), data))
                else:
                    reading.unregister(sock)
                    sock.close()


@contextmanager
def hold(port: int, prompts: Iterable[str], **fields: Any) -> Iterator[None]:
    """Open streams, see each begin, and leave them open, unread, until the block is left."""
    socks: list[socket.socket] = []
    try:
        for prompt in prompts:
            socks.append(_begin(port, prompt, fields))
            seen = b""
            while b'"type":"start"' not in seen:
                data = socks[-1].recv(_READ)
                assert data, seen
                seen += data
        yield
    finally:
        for sock in socks:
            sock.close()


def get(port: int, path: str) -> bytes:
    """GET, with the head of the answer."""
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: sock.recv(_READ), b""))


def _begin(port: int, prompt: str, fields: dict[str, Any]) -> socket.socket:
    body = json.dumps({"prompt": prompt, "stream": True, **fields}).encode()
    head = (
        "POST /api/v1/prompt HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    sock = socket.create_connection(("127.0.0.1", port), _PATIENCE)
    sock.sendall(head.encode() + body)
    return sock
