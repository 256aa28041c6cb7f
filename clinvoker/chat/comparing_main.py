"""The program that compares: `[schema, value]` as JSON on its standard input, the fault or null on its output."""

import resource
import sys
from typing import Any

import msgspec
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

CPU_S = 2
MEMORY = 512 * 1024 * 1024


def main() -> None:
    """Compare, within bounds that nothing on the input can lift."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    schema, value = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[dict[str, Any], Any])
    sys.stdout.buffer.write(msgspec.json.encode(_fault_of(value, schema)))


def _fault_of(
    value: Any,  # noqa: ANN401 - any JSON
    schema: dict[str, Any],
) -> str | None:
    try:
        first = next(validator_for(schema)(schema, registry=Registry()).iter_errors(value), None)
    except Unresolvable as error:
        return f"the schema refers to {error.ref}, which it does not have"
    except RecursionError:
        return "it cannot be compared with the schema, which goes on for ever"
    return None if first is None else f"{first.json_path}: {first.message}"


if __name__ == "__main__":
    main()
