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


def fault_of(answer: str, schema: dict[str, Any]) -> str | None:
    """What is wrong with the answer; None if it satisfies the schema."""
    from jsonschema.validators import validator_for  # noqa: PLC0415 - as above
    from referencing import Registry  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        value = msgspec.json.decode(answer.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        return f"it is not valid JSON: {error}"
    try:
        first = next(validator_for(schema)(schema, registry=Registry()).iter_errors(value), None)
    except Unresolvable as error:
        return f"the schema refers to {error.ref}, which it does not have"
    except RecursionError:
        return "it cannot be compared with the schema, which goes on for ever"
    return None if first is None else f"{first.json_path}: {first.message}"


def repair(fault: str) -> str:
    """What an agent is told whose answer was not right."""
    return f"That answer does not satisfy the JSON Schema: {fault}\nAnswer again, with nothing but the corrected JSON."
