"""Reading a request: one typed decode, and an error that names the field."""

import hashlib
import re
from typing import TypeVar

import msgspec

from actors.errors import Code, Refusal

T = TypeVar("T")

DIGITS = 16
"""Of a number in a parameter."""

_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_FIELD = re.compile(r"(?:field|required field) `([^`]+)`")


def decode(body: bytes, kind: type[T]) -> T:
    """Return the JSON body as a `kind`. Raises `Refusal` with the path of the field at fault in `param`."""
    try:
        body.decode()  # msgspec does not look at what it skips
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, param = explain(str(error))
        raise Refusal(Code.INVALID_REQUEST, message, param=param) from None
    except msgspec.DecodeError as error:
        # msgspec calls the one text that JSON can write and nobody can pass on now malformed, now truncated.
        halved = "; half a surrogate pair is no character" if _HALF_PAIR.search(body) else ""
        raise Refusal(Code.INVALID_REQUEST, f"the body is not valid JSON: {error}{halved}") from None
    except UnicodeDecodeError:
        # msgspec lets these two out as they are (platform.md section 4).
        raise Refusal(Code.INVALID_REQUEST, "the body is not valid UTF-8") from None
    except RecursionError:
        raise Refusal(Code.INVALID_REQUEST, "the body is nested too deeply") from None


def whole_number(text: str, param: str, least: int, most: int) -> int:
    """Return the number that a parameter is, in plain digits. Raises `Refusal`: Python itself refuses thousands of them."""
    if text.isascii() and text.isdecimal() and len(text) <= DIGITS and least <= int(text) <= most:
        return int(text)
    message = f"{param} must be a whole number from {least} to {most}"
    raise Refusal(Code.INVALID_REQUEST, message, param=param)


def explain(message: str) -> tuple[str, str | None]:
    """Split msgspec's message into what is wrong and where (`tasks[3].workdir`)."""
    match = _PATH.match(message)
    what, path = (match["what"], match["path"] or "") if match else (message, "")
    field = _FIELD.search(what)
    param = ".".join(part for part in (path.lstrip("."), field[1] if field else "") if part)
    return (f"{param}: {what}" if param else what), param or None


def check_text(text: str, param: str) -> None:
    """Raise a `Refusal` for text that no agent can be given: with NUL in it."""
    if "\0" in text:
        raise Refusal(Code.INVALID_REQUEST, f"{param} must not contain NUL", param=param)


def fingerprint(raw: bytes, kind: str, *, without: str) -> bytes:
    """What is equal when a request is sent again, which may be without one of its fields, or with another value there."""
    fields = decode(raw, dict[str, msgspec.Raw])  # nothing is read in them: unknown ones may hold any JSON
    digest = hashlib.sha256(kind.encode())
    for name in sorted(fields.keys() - {without}):
        digest.update(msgspec.json.encode(name) + bytes(fields[name]))
    return digest.digest()
