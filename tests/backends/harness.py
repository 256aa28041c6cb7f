"""One live agent under a driver, without the actors: what the tests of all drivers run turns on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio

from actors.driver import AskLeave, CallTool, Driver, Link
from actors.marker import Instance, find
from actors.messages import Event, Leave, Message, Options, Permission, Prompt, ToolAnswer
from actors.outbox import Outbox
from actors.process import Process, open_process


@dataclass
class LiveLink:
    """A link, the process under it, and the directory that is its own."""

    link: Link
    process: Process
    scratch: Path

    def children(self) -> list[int]:
        """The pids that the agent's tools have, anywhere."""
        marked = find(lambda found: found.marker == self.process.marker)
        return [found.pid for found in marked if found.pid != self.process.pid]


@dataclass
class Asked:
    """Answers every permission alike, and keeps what was asked."""

    answer: Leave = "deny"
    asked: list[Permission] = field(default_factory=list)

    async def __call__(self, permission: Permission) -> Leave:
        self.asked.append(permission)
        return self.answer


@asynccontextmanager
async def live_link(
    driver: Driver, options: Options, scratch: Path, resume: str | None = None
) -> AsyncIterator[LiveLink]:
    """Launch, read, shake hands; when the block is left the process tree is gone."""
    (scratch / ".tmp").mkdir(parents=True, exist_ok=True)
    launch = driver.launch(options, str(scratch), resume)
    failure: Exception | None = None
    async with open_process(launch, marker=Instance.current().marker(uuid4().hex), grace=2.0) as process:
        link = driver.link(process.send, launch)

        async def read() -> None:
            async for lines in process.receive_lines():
                for line in lines:
                    link.feed(line)
            link.closed()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(link.serve)
            try:
                with trio.fail_after(15):
                    await link.handshake()
                yield LiveLink(link, process, scratch)
            except Exception as error:  # noqa: BLE001 - raised below, out of the nursery's group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


async def no_tools(name: str, given: Any, number: int) -> ToolAnswer:
    """Whoever runs the client's tools where there are none."""
    raise AssertionError(f"the agent called {name}")


async def run_turn(
    link: Link,
    conversation: str,
    prompt: Prompt | str,
    ask: AskLeave | None = None,
    seconds: float = 15,
    call: CallTool = no_tools,
) -> list[Event]:
    """Run one turn to its end; all its events, in order."""
    out = Outbox()
    events: list[Event] = []
    with trio.fail_after(seconds):
        await link.turn(
            conversation,
            prompt if isinstance(prompt, Prompt) else Prompt(prompt),
            out,
            ask or Asked(),
            call,
        )
    while batch := await out.take():
        events += batch
    return events


def text_of(events: list[Event]) -> str:
    """The answer, joined."""
    return "".join(event.text for event in events if isinstance(event, Message))


def only(events: list[Event], kind: type[Any]) -> list[Any]:
    """The events of one type."""
    return [event for event in events if isinstance(event, kind)]


__all__ = ["Asked", "LiveLink", "live_link", "no_tools", "only", "run_turn", "text_of"]
