"""Pictures as clients send them, with either dialect: a media type, however it is written, and base64."""

import binascii
from base64 import b64decode

from actors.errors import Code, Refusal
from actors.messages import Image

MEANT = {"image/jpg": "image/jpeg"}
"""What clients make of a file's name."""

TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def picture(media_type: str, data: str, type_at: str, data_at: str) -> Image:
    """Return the picture. Raises `Refusal` naming one of the two places."""
    kind = media_type.partition(";")[0].strip().lower()
    kind = MEANT.get(kind, kind)
    if kind not in TYPES:
        message = f"{type_at}: no agent can be told a picture of type {media_type[:100]!r}, but PNG, JPEG, GIF and WebP"
        raise Refusal(Code.UNSUPPORTED, message, param=type_at)
    told = "".join(data.split())
    try:
        decoded = b64decode(told, validate=True)
    except (binascii.Error, ValueError):  # ValueError: beyond ASCII
        decoded = b""
    if not decoded:
        message = f"{data_at} must be a picture in base64, and not empty"
        raise Refusal(Code.INVALID_REQUEST, message, param=data_at)
    return Image(kind, told)
