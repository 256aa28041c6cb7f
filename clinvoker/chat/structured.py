"""Answers that must satisfy a JSON Schema, from agents that can only be told so."""

import re
from typing import Any, cast

import msgspec

from actors.errors import Code, Refusal

_FENCED = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n\s*```\s*\Z", re.DOTALL)


def check_schema(schema: dict[str, Any], param: str) -> None:
    """Raise `Refusal` naming `param` if that is no JSON Schema, or none that stands for itself."""
    # Imported here: 20 ms of the daemon's start, for a few requests.
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415
    from jsonschema.validators import validator_for  # noqa: PLC0415

    if (elsewhere := _elsewhere(schema)) is not None:
        message = f"{param}: only references within the schema are followed, not {elsewhere[:200]!r}"
        raise Refusal(Code.INVALID_REQUEST, message, param=param)
    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        raise Refusal(Code.INVALID_REQUEST, f"{param}: {error.message}", param=param) from None
    except RecursionError:
        raise Refusal(Code.INVALID_REQUEST, f"{param} is nested too deeply", param=param) from None


def _elsewhere(schema: dict[str, Any]) -> str | None:
    """The first reference to another document: the library would fetch it from wherever the caller says."""
    todo: list[Any] = [schema]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            for key in ("$ref", "$dynamicRef", "$recursiveRef"):
                if isinstance(reference := fields.get(key), str) and not reference.startswith("#"):
                    return reference
            todo.extend(fields.values())
        elif isinstance(value, list):
            todo.extend(cast("list[Any]", value))
    return None


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
