"""Autobahn|Testsuite's cases, by their numbers, against a websocket that echoes; every byte made by hand.

A case is what the client sends, the frames that come back, and the code of the close behind them. Where nothing is
violated the client closes, once all has come back. What came right before a violation need not be answered any more.
"""

from typing import NamedTuple

import pytest
import trio

from .apps import make_app
from .support import WS_KEY, frame, get, read_until, serving, upgrade

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMIT = 200_000
"""Of a message, in bytes."""
NO_CODE = 1005
KAPPA = "κόσμε".encode()
SNOW = "Hello-µ@ßöäüàá-UTF-8!!".encode()


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, (b"" if code is None else code.to_bytes(2, "big")) + reason)


BYE = close()


class Case(NamedTuple):
    """`answers` are (opcode, payload); `chop` is how many bytes are sent at a time, 0 for all; `bye` comes last."""

    sent: bytes
    answers: list[tuple[int, bytes]]
    code: int = 1000
    chop: int = 0
    bye: bytes = BYE


def text(*pieces: bytes, between: bytes = b"", kind: int = TEXT) -> bytes:
    """One message in fragments, with something between them."""
    last = len(pieces) - 1
    return between.join(
        frame(CONT if index else kind, piece, fin=index == last) for index, piece in enumerate(pieces)
    )


def chopped(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def echoed(payload: bytes, kind: int = TEXT, chop: int = 0) -> Case:
    return Case(frame(kind, payload), [(kind, payload)], chop=chop)


def joined(*pieces: bytes, between: bytes = b"", answers: tuple = (), chop: int = 0) -> Case:
    return Case(text(*pieces, between=between), [*answers, (TEXT, b"".join(pieces))], chop=chop)


def failed(sent: bytes, code: int = 1002, answers: tuple = (), chop: int = 0) -> Case:
    return Case(sent, [*answers], code, chop, bye=b"")


HI = (TEXT, b"hi")
SAY_HI = frame(TEXT, b"hi")
SIZES = (0, 125, 126, 127, 128, 65535, 65536)

FRAMING = {
    **{f"1.1.{at} text of {size}": echoed(b"*" * size) for at, size in enumerate(SIZES, 1)},
    "1.1.8 text of 65536 in pieces": echoed(b"*" * 65536, chop=997),
    **{f"1.2.{at} binary of {size}": echoed(b"\xfe" * size, BINARY) for at, size in enumerate(SIZES, 1)},
    "1.2.8 binary of 65536 in pieces": echoed(b"\xfe" * 65536, BINARY, chop=997),
}
PINGS = {
    "2.1 empty": Case(frame(PING), [(PONG, b"")]),
    "2.2 text": Case(frame(PING, b"Hello, world!"), [(PONG, b"Hello, world!")]),
    "2.3 binary": Case(frame(PING, b"\x00\xff\xfe\xfd"), [(PONG, b"\x00\xff\xfe\xfd")]),
    "2.4 of 125": Case(frame(PING, b"\xfe" * 125), [(PONG, b"\xfe" * 125)]),
    "2.5 of 126": failed(frame(PING, b"\xfe" * 126)),
    "2.6 byte by byte": Case(frame(PING, b"\xfe" * 125), [(PONG, b"\xfe" * 125)], chop=1),
    "2.7 unasked pong": Case(frame(PONG), []),
    "2.8 unasked pong with text": Case(frame(PONG, b"unasked"), []),
    "2.9 pong, then ping": Case(frame(PONG, b"x") + frame(PING, b"y"), [(PONG, b"y")]),
    "2.10 ten": Case(
        b"".join(frame(PING, b"%d" % n) for n in range(10)),
        [(PONG, b"%d" % n) for n in range(10)],
    ),
    "2.11 ten byte by byte": Case(
        b"".join(frame(PING, b"%d" % n) for n in range(10)),
        [(PONG, b"%d" % n) for n in range(10)],
        chop=1,
    ),
}
RESERVED = {
    "3.1 text, bit 3": failed(frame(TEXT, b"a", rsv=1)),
    "3.2 text, bit 2": failed(SAY_HI + frame(TEXT, b"a", rsv=2) + frame(PING), answers=(HI,)),
    "3.3 text, bits 2 and 3": failed(SAY_HI + frame(TEXT, b"a", rsv=3) + frame(PING), answers=(HI,)),
    "3.4 text, bit 1, byte by byte": failed(SAY_HI + frame(TEXT, b"a", rsv=4), answers=(HI,), chop=1),
    "3.5 binary, bits 1 and 3": failed(frame(BINARY, b"a", rsv=5)),
    "3.6 ping, bits 1 and 2": failed(frame(PING, b"a", rsv=6)),
    "3.7 close, all bits": failed(frame(CLOSE, b"\x03\xe8", rsv=7)),
    **{f"4.1 opcode {code}": failed(frame(code)) for code in (3, 4, 5, 6, 7)},
    **{f"4.2 opcode {code}": failed(frame(code, b"a")) for code in (11, 12, 13, 14, 15)},
    "4.1.3 after a message": failed(SAY_HI + frame(5) + frame(PING), answers=(HI,)),
    "4.2.4 byte by byte": failed(SAY_HI + frame(14, b"a") + frame(PING), answers=(HI,), chop=1),
}
FRAGMENTS = {
    "5.1 ping": failed(frame(PING, b"a", fin=False) + frame(CONT, b"b")),
    "5.2 pong": failed(frame(PONG, b"a", fin=False) + frame(CONT, b"b")),
    "5.3 text in two": joined(b"frag", b"ment"),
    "5.5 text in two, byte by byte": joined(b"frag", b"ment", chop=1),
    "5.6 a ping between": joined(b"frag", b"ment", between=frame(PING, b"p"), answers=((PONG, b"p"),)),
    "5.8 a ping between, byte by byte": joined(
        b"frag", b"ment", between=frame(PING, b"p"), answers=((PONG, b"p"),), chop=1
    ),
    "5.9 the end of nothing": failed(frame(CONT, b"a") + SAY_HI),
    "5.11 the end of nothing, byte by byte": failed(frame(CONT, b"a") + SAY_HI, chop=1),
    "5.12 the middle of nothing": failed(frame(CONT, b"a", fin=False) + SAY_HI),
    "5.15 the middle behind an end": failed(
        text(b"a", b"b") + frame(CONT, b"c", fin=False) + SAY_HI, answers=((TEXT, b"ab"),)
    ),
    "5.16 nothing's middle, then text": failed(frame(CONT, b"a", fin=False) + text(b"b", b"c")),
    "5.17 nothing's end, then text": failed(frame(CONT, b"a") + text(b"b", b"c")),
    "5.18 text inside of text": failed(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b")),
    "5.19 five with pings": joined(*[b"x"] * 5, between=frame(PING, b"p"), answers=tuple([(PONG, b"p")] * 4)),
    "5.20 five with pings, in pieces": joined(
        *[b"x"] * 5, between=frame(PING, b"p"), answers=tuple([(PONG, b"p")] * 4), chop=3
    ),
}

VALID = {
    "6.5": KAPPA,
    "6.6 whole": KAPPA + b"!",
    "6.7 first of one": b"\x00",
    "6.7 first of two": b"\xc2\x80",
    "6.7 first of three": b"\xe0\xa0\x80",
    "6.7 first of four": b"\xf0\x90\x80\x80",
    "6.9 last of one": b"\x7f",
    "6.9 last of two": b"\xdf\xbf",
    "6.9 last of three": b"\xef\xbf\xbf",
    "6.9 last of four": b"\xf4\x8f\xbf\xbf",
    "6.11 around the surrogates": b"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd",
    "6.22 no characters": b"\xef\xbf\xbe\xef\xb7\x90\xf0\x9f\xbf\xbe\xf4\x8f\xbf\xbf",
}
INVALID = {
    "6.3.1": KAPPA + b"\xed\xa0\x80edited",
    "6.6 cut in the middle": KAPPA[:-1],
    "6.8 first of five": b"\xf8\x88\x80\x80\x80",
    "6.8 first of six": b"\xfc\x84\x80\x80\x80\x80",
    "6.10 last of four and more": b"\xf7\xbf\xbf\xbf",
    "6.10 last of six": b"\xfd\xbf\xbf\xbf\xbf\xbf",
    "6.11.5 beyond the last": b"\xf4\x90\x80\x80",
    "6.12 a continuation": b"\x80",
    "6.12 many continuations": bytes(range(0x80, 0xC0)),
    "6.13 starts of two": b"".join(bytes([lead, 0x20]) for lead in range(0xC0, 0xE0)),
    "6.13 starts of four": b"".join(bytes([lead, 0x20]) for lead in range(0xF0, 0xF8)),
    "6.14 without its last": b"\xe0\x80",
    "6.15 many without their last": b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80",
    "6.16 no byte of it": b"\xfe\xfe\xff\xff",
    "6.17 overlong of two": b"\xc0\xaf",
    "6.17 overlong of three": b"\xe0\x80\xaf",
    "6.17 overlong of four": b"\xf0\x80\x80\xaf",
    "6.18 longest overlong": b"\xc1\xbf",
    "6.19 overlong NUL": b"\xc0\x80",
    "6.20 a surrogate": b"\xed\xa0\x80",
    "6.20 the last surrogate": b"\xed\xbf\xbf",
    "6.21 a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
}
UTF_8 = {
    "6.1.1 empty": echoed(b""),
    "6.1.2 three times nothing": joined(b"", b"", b""),
    "6.1.3 between nothings": joined(b"", b"middle", b""),
    "6.2.1 whole": echoed(SNOW),
    "6.2.2 cut between characters": joined(SNOW[:8], SNOW[8:]),
    "6.2.3 cut in every character": joined(*chopped(SNOW, 1)),
    "6.2.4 byte by byte": joined(*chopped(KAPPA, 1), chop=1),
    "6.3.2 in fragments of a byte": failed(text(*chopped(INVALID["6.3.1"], 1)), 1007),
    "6.4.1 known before its end": failed(frame(TEXT, KAPPA + b"\xf4\x90\x80\x80", fin=False), 1007),
    "6.4.3 known before its frame's end": failed(
        frame(TEXT, KAPPA + b"\xf4\x90\x80\x80", length=50, fin=False), 1007
    ),
    **{f"{name}, valid": echoed(payload) for name, payload in VALID.items()},
    **{f"{name}, valid, in fragments": joined(*chopped(payload, 1)) for name, payload in VALID.items()},
    **{f"{name}, invalid": failed(frame(TEXT, payload), 1007) for name, payload in INVALID.items()},
}
ECHOED_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
REFUSED_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
CLOSES = {
    "7.1.1 behind a message": echoed(b"hi"),
    "7.1.2 twice": Case(b"", [], bye=BYE + BYE),
    "7.1.3 a ping behind it": Case(b"", [], bye=BYE + frame(PING, b"p")),
    "7.1.4 a message behind it": Case(b"", [], bye=BYE + SAY_HI),
    "7.1.5 inside of a message": Case(frame(TEXT, b"a", fin=False), [], bye=BYE + frame(CONT, b"b")),
    "7.1.6 behind a large message": Case(
        frame(TEXT, b"*" * LIMIT), [(TEXT, b"*" * LIMIT)], bye=BYE + frame(PING)
    ),
    "7.3.1 empty": Case(b"", [], NO_CODE, bye=close(None)),
    "7.3.2 of a byte": failed(frame(CLOSE, b"\x03")),
    "7.3.3 a code": Case(b"", []),
    "7.3.4 a reason": Case(b"", [], bye=close(1000, b"Hello World!")),
    "7.3.5 the longest reason": Case(b"", [], bye=close(1000, b"*" * 123)),
    "7.3.6 a longer reason": failed(close(1000, b"*" * 124)),
    "7.5.1 a reason not in UTF-8": failed(close(1000, INVALID["6.3.1"]), 1007),
    **{f"7.7 {code}": Case(b"", [], code, bye=close(code)) for code in ECHOED_CODES},
    **{f"7.9 {code}": failed(close(code)) for code in REFUSED_CODES},
}
BOUNDS = {
    "9.1 text of the limit": echoed(b"*" * LIMIT),
    "9.2 binary of the limit": echoed(b"\xfe" * LIMIT, BINARY),
    "9.3 fragments of 64": joined(*chopped(b"*" * 65536, 64)),
    "9.4 binary in fragments": Case(
        text(*chopped(b"\xfe" * LIMIT, 1024), kind=BINARY), [(BINARY, b"\xfe" * LIMIT)]
    ),
    "9.5 in pieces of 64": echoed(b"*" * 65536, chop=64),
    "9.7 a thousand messages": Case(SAY_HI * 1000, [HI] * 1000),
    "9.8 a thousand binary ones": Case(frame(BINARY, b"b" * 64) * 1000, [(BINARY, b"b" * 64)] * 1000),
    "10.1 fragments of 1300": joined(*chopped(b"*" * 65536, 1300)),
    "text over the limit": failed(frame(TEXT, b"*" * (LIMIT + 1)), 1009),
    "binary over the limit": failed(frame(BINARY, b"*" * (LIMIT + 1)), 1009),
    "fragments over the limit": failed(text(*chopped(b"*" * (LIMIT + 1), 1000)), 1009),
    "a length over the limit": failed(frame(BINARY, b"*" * (LIMIT + 1), length=1 << 62), 1009),
    "a length of 64 bits": failed(frame(BINARY, b"", length=(1 << 64) - 1)),
    "a length that is longer than it needs": failed(b"\x81\xfe\x00\x01\0\0\0\0a"),
    "no mask": failed(b"\x81\x01a"),
}
# Deflate (12 and 13) is never agreed to, so a compressed frame is one with a reserved bit.
DEFLATE = {
    "12.1 compressed text": failed(frame(TEXT, b"\xca\x48\xcd\xc9\xc9\x07\x00", rsv=4)),
    "12.2 compressed binary": failed(frame(BINARY, b"\xca\x48\xcd\xc9\xc9\x07\x00", rsv=4)),
    "12.3 compressed fragment": failed(
        frame(TEXT, b"\xca\x48", fin=False, rsv=4) + frame(CONT, b"\xcd\xc9\xc9\x07\x00")
    ),
    "12.4 compressed later": failed(frame(TEXT, b"a", fin=False) + frame(CONT, b"\xca\x48", rsv=4)),
    "12.5 not compressed": echoed(b"plain"),
}
OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9, permessage-deflate",
    "permessage-deflate; server_max_window_bits=99; unheard=of",
    "x-webkit-deflate-frame, permessage-bzip2",
]
CASES = {**FRAMING, **PINGS, **RESERVED, **FRAGMENTS, **UTF_8, **CLOSES, **BOUNDS, **DEFLATE}


class Frames:
    """What a server sends, frame by frame: unmasked, no bit reserved."""

    def __init__(self):
        self.told: list[tuple[int, bytes]] = []
        self.rest = b""

    def take(self, data: bytes) -> None:
        self.rest += data
        while len(self.rest) >= 2:
            assert self.rest[0] & 0xF0 == 0x80, self.rest[:20]
            size, at = self.rest[1], 2
            if size >= 126:
                at = 4 if size == 126 else 10
                size = int.from_bytes(self.rest[2:at], "big")
            if len(self.rest) < at + size:
                return
            self.told.append((self.rest[0] & 0x0F, self.rest[at : at + size]))
            self.rest = self.rest[at + size :]


@pytest.fixture(scope="module")
def app():
    return make_app()[0]


async def talk(server, case: Case, *headers: str) -> list[tuple[int, bytes]]:
    """What comes back until the server has closed."""
    came = Frames()
    async with await server.connect() as client:
        await client.send_all(upgrade("/ws", *headers))
        head = await read_until(client, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"extensions" not in head.lower()
        answered = trio.Event()

        async def send() -> None:
            try:
                for piece in chopped(case.sent, case.chop or len(case.sent) or 1):
                    await client.send_all(piece)
                await answered.wait()
                await client.send_all(case.bye)
            except trio.BrokenResourceError:
                pass  # closed before the rest was out

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                try:
                    while True:
                        if len(came.told) >= len(case.answers):
                            answered.set()
                        if not (data := await client.receive_some(1 << 16)):
                            break
                        came.take(data)
                except trio.BrokenResourceError:
                    pass  # what was not read any more
                nursery.cancel_scope.cancel()
    assert not came.rest
    return came.told


@pytest.mark.parametrize(
    "section",
    [FRAMING, PINGS, RESERVED, FRAGMENTS, UTF_8, CLOSES, BOUNDS, DEFLATE],
    ids=["1", "2", "3-4", "5", "6", "7", "9-10", "12-13"],
)
async def test_the_cases_pass(app, section):
    async with serving(app, ws_message_bytes=LIMIT) as server:
        for name, case in section.items():
            *answers, (last, payload) = await talk(server, case)
            assert answers == case.answers or not (case.bye or answers), name
            assert last == CLOSE, name
            assert (int.from_bytes(payload[:2], "big") if payload else NO_CODE) == case.code, name


@pytest.mark.parametrize("offer", OFFERS)
async def test_no_offer_of_compression_is_taken(app, offer):
    async with serving(app) as server:
        told = await talk(server, echoed(b"plain"), f"Sec-WebSocket-Extensions: {offer}")
        assert told == [(TEXT, b"plain"), (CLOSE, b"\x03\xe8")]


@pytest.mark.parametrize(
    "wrong",
    [
        ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {WS_KEY.decode()}"],
        ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"],
        ["Upgrade: websocket", "Connection: close", "Sec-WebSocket-Version: 13"],
    ],
    ids=["no version", "no key", "not connected"],
)
async def test_half_a_handshake_opens_nothing(app, wrong):
    async with serving(app) as server:
        assert (await server.ask(get("/ws", *wrong, "Connection: close"))).startswith(b"HTTP/1.1 4")
