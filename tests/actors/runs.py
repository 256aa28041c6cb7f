"""Runs of work that exists only here, and what a follower reads of them."""

from contextlib import closing

import trio
from msgspec.structs import replace

from actors.messages import Complete, Failed, Message, Start, Usage
from actors.run import Follow, Identity, Run, RunLimits
from tests.actors.support import Records

LIMITS = RunLimits(total=100.0, permission=5.0, reattach=1.0)
ATTACHED = Identity("run_1", "ses_1", "echo")
DETACHED = replace(ATTACHED, detached=True)


def a_run(work, *, identity=ATTACHED, limits=LIMITS, records=None):
    return Run(identity, work, limits, Records() if records is None else records)


async def follow(ref, after=0, *, pause=0.0):
    """All entries after a number, taken with a pause before each page."""
    entries = []
    with closing(await ref.stream(Follow(after))) as pages:
        async for page in pages:
            await trio.sleep(pause)
            entries.extend(page)
    return entries


async def contents(ref):
    return [entry.content for entry in await follow(ref)]


def terminals(entries):
    return [entry.content for entry in entries if isinstance(entry.content, Complete | Failed)]


async def say(recorder, *texts, pause=0.0):
    for text in texts:
        recorder.record([Message(text)])
        await trio.sleep(pause)


async def complete(recorder):
    recorder.record([Start("m", "/w")])
    await say(recorder, "hello ", "world")
    recorder.record([Complete("end_turn", Usage(1, 2))])


async def forever(recorder):
    await say(recorder, "a")
    await trio.sleep_forever()
