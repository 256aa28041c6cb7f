"""The program that compares: `[schema, value]` as JSON on its standard input, the fault or null on its output."""

import resource
import sys
from typing import Any

import jsonschema_rs
import msgspec

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
    validator = jsonschema_rs.validator_for(schema, registry=jsonschema_rs.Registry([]))
    first = next(validator.iter_errors(value), None)
    if first is None:
        return None
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.instance_path)
    return f"${path}: {first.message}"


if __name__ == "__main__":
    main()
