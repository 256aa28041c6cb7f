"""From a model's name to a backend: `claude`, `claude/<model>`, or a name that a backend claims by its patterns.

`claude-via-<backend>`, with a model or without, means the same as what comes after the prefix.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import msgspec
from msgspec import Struct

from actors.errors import Code, Refusal
from clinvoker.backends.choice import Backend
from clinvoker.config.settings import Model

VIA = "claude-via-"
"""For clients that take only names that begin so; no pattern of a backend's claims such a name."""


class Choice(Struct, frozen=True):
    """A backend, and the model it is to use; empty for its own choice."""

    backend: str
    model: str


def resolve(backends: Mapping[str, Backend], name: str) -> Choice:
    """Return whose model that is. Raises `Refusal`: a name that is nobody's never falls to somebody."""
    real = name if name in backends else name.removeprefix(VIA)
    if real in backends:
        return Choice(real, "")
    backend, slash, model = real.partition("/")
    if slash and model and backend in backends:
        return Choice(backend, _valid(model))
    for each, found in backends.items():
        if real == name and any(fnmatchcase(name, pattern) for pattern in found.settings.models):
            return Choice(each, _valid(name))
    message = f"the model {name!r} does not exist; there are: {', '.join(listed(backends))}"
    raise Refusal(Code.MODEL_NOT_FOUND, message, param="model")


def listed(backends: Mapping[str, Backend]) -> list[str]:
    """The models that a list offers: the backends themselves, and the names they claim one by one."""
    names = [name for backend in backends.values() for name in backend.settings.models]
    return [*backends, *(name for name in names if not set(name) & set("*?["))]


def _valid(model: str) -> str:
    try:
        return msgspec.convert(model, Model)
    except msgspec.ValidationError:
        raise Refusal(Code.MODEL_NOT_FOUND, f"{model!r} is no model's name", param="model") from None
