"""Run the fake model by hand, or as a process of its own beside a measurement."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from pathlib import Path

import trio

from tests.fake_model.server import FakeModel, serve


async def _main(port: int, log_file: Path | None) -> None:
    async with trio.open_nursery() as nursery:
        start = partial(serve, port=port, log_file=log_file, keep_bodies=False)
        model: FakeModel = await nursery.start(start)
        print(model.base_url, flush=True)  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fake_model", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument(
        "--log", type=Path, help="append every request as JSON lines: once opened, once ended"
    )
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        trio.run(_main, options.port, options.log)
