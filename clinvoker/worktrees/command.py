"""A command run to its end: its output bounded, its time limited, and its whole tree gone afterwards."""

import trio
from msgspec import Struct

from actors.process import Launch, open_process


class Finished(Struct, frozen=True):
    """How a command ended. `exit_code` is negative for a signal, None when its time was up."""

    exit_code: int | None
    output: bytes
    errors: bytes
    """The last 64 KiB of standard error."""
    cut: bool = False
    """Whether the output went on beyond `most` bytes."""


async def run(launch: Launch, marker: str, *, grace: float, limit_s: float, most: int) -> Finished:
    """Run a command and return its first `most` bytes of output. Raises `LaunchError`."""
    chunks: list[bytes] = []
    size = 0
    exit_code: int | None = None
    async with open_process(launch, marker=marker, grace=grace) as process:
        with trio.move_on_after(limit_s):
            async for lines in process.receive_lines():
                if size <= most:
                    chunks.extend(line + b"\n" for line in lines)
                    size += sum(len(line) + 1 for line in lines)
            exit_code = await process.wait()
        errors = process.stderr_tail
        dropped = process.oversize > 0
    output = b"".join(chunks)
    return Finished(exit_code, output[:most], errors, cut=dropped or len(output) > most)


async def run_for_tail(launch: Launch, marker: str, *, grace: float, limit_s: float, most: int) -> Finished:
    """Run a command and return its last `most` bytes of output. Raises `LaunchError`."""
    tail = b""
    size = 0
    exit_code: int | None = None
    async with open_process(launch, marker=marker, grace=grace) as process:
        with trio.move_on_after(limit_s):
            async for lines in process.receive_lines():
                told = b"".join(line + b"\n" for line in lines)
                size += len(told)
                tail = (tail + told)[-most:]
            exit_code = await process.wait()
        errors = process.stderr_tail
    return Finished(exit_code, tail, errors, cut=size > most)
