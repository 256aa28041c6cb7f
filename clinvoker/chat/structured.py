"""Answers that must satisfy a JSON Schema, from agents that can only be told so."""

import re
from typing import Any

import msgspec

from actors.errors import Code, Refusal

MOST = 256 * 1024
"""Bytes of a schema, as JSON: looking at one must hold nobody up (20 ms at the worst)."""

_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n\s*```\s*\Z", re.DOTALL)

_ELSEWHERE = re.compile(rb'[{,]"\$(?:ref|dynamicRef|recursiveRef)":"(?!#)([^"]{0,200})')
"""A reference to another document, in JSON without blanks: quotes within a text are escaped there."""


def check_schema(schema: dict[str, Any], param: str) -> None:
    """Raise `Refusal` naming `param` if that is no JSON Schema, too large a one, or none that stands for itself."""
    # Imported here: 20 ms of the daemon's start, for a few requests.
    import jsonschema_rs  # noqa: PLC0415

    told = msgspec.json.encode(schema)
    if len(told) > MOST:
        raise Refusal(Code.INVALID_REQUEST, f"{param} has more than {MOST} bytes", param=param)
    if elsewhere := _ELSEWHERE.search(told):
        # Who follows one fetches it from wherever the caller says.
        where = elsewhere[1].decode(errors="replace")
        message = f"{param}: only references within the schema are followed, not {where!r}"
        raise Refusal(Code.INVALID_REQUEST, message, param=param)
    try:
        none = jsonschema_rs.Registry([])  # without one it fetches a `$schema`
        jsonschema_rs.meta.validate(schema, none)
        jsonschema_rs.validator_for(schema, registry=none)  # which follows the references
    except jsonschema_rs.ValidationError as error:
        place = ".".join(str(part) for part in (param, *error.instance_path))
        raise Refusal(Code.INVALID_REQUEST, f"{place}: {error.message}"[:500], param=param) from None
    except jsonschema_rs.ReferencingError:
        message = f"{param}: its $schema is none that is known here"
        raise Refusal(Code.INVALID_REQUEST, message, param=param) from None
    except ValueError:  # beyond 255 levels
        raise Refusal(Code.INVALID_REQUEST, f"{param} is nested too deeply", param=param) from None


def instructed(text: str, schema: dict[str, Any]) -> str:
    """The prompt with the demand after it."""
    told = msgspec.json.encode(schema).decode()
    return f"{text}\n\nAnswer with nothing but one JSON value that satisfies this JSON Schema:\n{told}"


def json_of(answer: str) -> str:
    """The answer without the fence that models put around JSON."""
    found = _FENCED.match(answer)
    return found[1] if found else answer.strip()


def repair(fault: str) -> str:
    """What an agent is told whose answer was not right."""
    return f"That answer does not satisfy the JSON Schema: {fault}\nAnswer again, with nothing but the corrected JSON."
