"""From what a request says to what an agent is told: defaults filled in, and what the agent cannot do refused by name."""

import re
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from actors.driver import Driver
from actors.errors import Code, Refusal
from actors.messages import Options, Prompt
from clinvoker.config import BackendSettings


class Backend(Struct, frozen=True):
    """A configured agent: its settings and its driver."""

    settings: BackendSettings
    driver: Driver


def choose(backends: Mapping[str, Backend], name: str) -> Backend:
    """The backend of that name. Raises `Refusal` naming `backend`."""
    backend = backends.get(name)
    if backend is None:
        known = ", ".join(sorted(backends))
        message = f"backend {name!r} is not configured; there are: {known}"
        raise Refusal(Code.INVALID_REQUEST, message, param="backend")
    return backend


def with_defaults(options: Options, settings: BackendSettings) -> Options:
    """The request's options with the configured ones where it says nothing."""
    return replace(
        options,
        model=options.model or settings.model,
        system_prompt=options.system_prompt or settings.system_prompt,
        approval_mode=settings.approval_mode if options.approval_mode == "default" else options.approval_mode,
        sandbox_mode=settings.sandbox_mode if options.sandbox_mode == "default" else options.sandbox_mode,
    )


def check(backend: Backend, options: Options, prompt: Prompt) -> None:
    """Raise a `Refusal` that names the first field which the agent cannot honour."""
    can = backend.driver.capabilities
    name = backend.driver.name
    wanted = (
        ("model", bool(options.model), can.model),
        ("system_prompt", bool(options.system_prompt), can.system_prompt),
        ("max_turns", options.max_turns is not None, can.max_turns),
        ("max_tokens", options.max_tokens is not None, can.max_tokens),
        ("approval_mode", True, options.approval_mode in can.approval_modes),
        ("sandbox_mode", True, options.sandbox_mode in can.sandbox_modes),
        ("images", bool(prompt.images), can.images),
        ("schema", prompt.schema is not None, can.schema),
        ("tools", bool(options.tools), can.client_tools),
    )
    for param, asked, possible in wanted:
        if asked and not possible:
            raise Refusal(Code.UNSUPPORTED, f"{name} cannot honour {param}", param=param)
    for index, word in enumerate(options.extra):
        if flaw := _flaw(backend, word):
            raise Refusal(Code.INVALID_REQUEST, f"{name} takes {flaw}", param=f"extra[{index}]")


def _flaw(backend: Backend, word: str) -> str:
    """Say what the agent takes instead of this word of `extra`; empty if it takes it."""
    allowed = backend.settings.allowed_extra
    flags = backend.driver.capabilities.extra if allowed is None else allowed
    flag, _, given = word.partition("=")
    if "\0" in word or flag not in flags:
        return f"no flag {flag!r} from a request; allowed: {', '.join(flags) or 'none'}"
    value = backend.driver.flag_values.get(flag)
    if value is None or re.fullmatch(value.pattern, given):
        return ""
    return f"{flag} in one word, {flag}=VALUE, where VALUE is {value.form}"
