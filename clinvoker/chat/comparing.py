"""Comparing an answer with its JSON Schema, in a process with bounds.

Both come from outside, and may take for ever together, as alternatives of alternatives do. No thread could be stopped at
that.
"""

import subprocess
import sys
from typing import Any

import msgspec
import trio

from actors.errors import Code
from clinvoker.chat.failure import ActedRefusal

LIMIT_S = 10.0
"""Seconds until an answer is given up; the process has less of the CPU's (`comparing_main`)."""


async def fault_of(answer: str, schema: dict[str, Any]) -> str | None:
    """What is wrong with the answer; None if it satisfies the schema. Raises `Refusal` if that takes too long to say."""
    try:
        value = msgspec.json.decode(answer.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        return f"it is not valid JSON: {error}"
    asked = msgspec.json.encode((schema, value))
    with trio.move_on_after(LIMIT_S):
        done = await trio.run_process(
            (sys.executable, "-I", "-m", "clinvoker.chat.comparing_main"),
            stdin=asked,
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
            check=False,
            env={},
            cwd="/",
        )
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=str | None)
    message = "the agent's answer cannot be compared with the schema: that takes too long, or too much memory"
    raise ActedRefusal(Code.INVALID_REQUEST, message)
