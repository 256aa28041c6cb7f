"""The journal, which keeps a run's entries before anybody reads them."""

from contextlib import closing

import pytest
import trio
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Complete, Start
from actors.run import Cancel, Follow, Look, Run
from actors.telemetry import RunEnded, StreamFailed
from tests.actors.runs import ATTACHED, DETACHED, LIMITS, follow, forever, say, terminals
from tests.actors.support import Records, running


class Journal:
    """Keeps entries in a list; fails where the test says."""

    def __init__(self, *, fails_at=None, error=None, closes_after=0, pause=0.0):
        self.kept = []
        self.calls = 0
        self.closed = None
        self.attempts = 0
        self.fails_at = fails_at
        self.error = error or Refusal(Code.STORAGE, "the disk is full")
        self.closes_after = closes_after
        self.pause = pause

    async def append(self, entries):
        self.calls += 1
        await trio.sleep(self.pause)
        if self.calls == self.fails_at:
            raise self.error
        assert [entry.seq for entry in entries] == list(
            range(len(self.kept) + 1, len(self.kept) + 1 + len(entries))
        )
        self.kept.extend(entries)

    async def close(self, failed):
        self.attempts += 1
        if self.attempts <= self.closes_after:
            raise Refusal(Code.STORAGE, "still full")
        self.closed = failed

    async def after(self, seq, most):
        return self.kept[seq : seq + most]


def kept_run(work, journal, *, identity=ATTACHED, limits=LIMITS, records=None):
    return Run(identity, work, limits, Records() if records is None else records, journal)


async def slowly(recorder):
    recorder.record([Start("m", "/w")])
    await say(recorder, *"abc", pause=1)
    recorder.record([Complete("end_turn")])


async def test_what_readers_see_is_what_is_kept(autojump_clock):
    journal = Journal(pause=0.4)
    async with running(kept_run(slowly, journal)) as one:
        seen = []
        with closing(await one.ref.stream(Follow())) as pages:
            async for page in pages:
                seen.extend(page)
                assert seen == journal.kept[: len(seen)]
        assert await one.ref.ask(Look()) is seen[-1].content
    assert seen == journal.kept
    assert journal.closed is None
    assert [entry.seq for entry in seen] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("error", "code"), [(Refusal(Code.STORAGE, "full"), Code.STORAGE), (ValueError("bug"), Code.INTERNAL)]
)
async def test_whenever_keeping_fails_the_run_ends_after_what_is_kept(fails_at, error, code, autojump_clock):
    records = Records()
    journal = Journal(fails_at=fails_at, error=error, closes_after=3)
    async with running(kept_run(slowly, journal, records=records)) as one:
        seen = await follow(one.ref)
        assert seen[:-1] == journal.kept
        assert [entry.seq for entry in seen] == list(range(1, len(seen) + 1))
        [last] = terminals(seen)
        assert last.code is code
        assert await one.ref.ask(Look()) is last
        await one.ended.wait()
    assert journal.closed is last, "as soon as it can be told"
    assert journal.attempts == 4
    assert one.error is None
    assert [ended.outcome for ended in records.of(RunEnded)] == [code], "what is counted is what was told"
    assert bool(records.of(StreamFailed)) == (code is Code.INTERNAL)


async def test_a_run_that_is_cancelled_while_keeping_fails_tells_the_first_reason(autojump_clock):
    journal = Journal(fails_at=2, pause=1.0)
    async with running(kept_run(forever, journal)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            assert await one.ref.ask(Cancel()) is True
            [last] = await pages.next()
    assert (last.content.code, last.seq) == (Code.CANCELLED, 2)
    assert journal.closed is last.content


async def test_a_journal_that_never_answers_holds_up_no_stop(autojump_clock):
    async with running(kept_run(slowly, Journal(pause=1e6)), shutdown=2.0) as one:
        await trio.sleep(0.1)
        began = trio.current_time()
        await one.child.stop()
        assert trio.current_time() - began == pytest.approx(2)


async def test_an_end_that_cannot_be_told_holds_up_no_stop(autojump_clock):
    journal = Journal(fails_at=2, closes_after=1e9)
    async with running(kept_run(slowly, journal), shutdown=2.0) as one:
        await follow(one.ref)
        await trio.sleep(100)
        assert not one.ended.is_set()
        began = trio.current_time()
        await one.child.stop()
        assert trio.current_time() - began < 1
    assert journal.attempts < 20


async def test_the_end_of_a_run_that_is_stopped_is_kept(autojump_clock):
    journal = Journal(pause=0.2)
    async with running(kept_run(forever, journal, identity=DETACHED)) as one:
        await trio.sleep(1)
        await one.child.stop()
    assert terminals(journal.kept)[0].code is Code.DRAINING


async def test_what_is_no_longer_here_comes_back_from_the_journal(autojump_clock):
    async def work(recorder):
        for number in range(300):
            await say(recorder, f"{number} " + "x" * 500)
            await trio.sleep(0.01)
        recorder.record([Complete("end_turn")])

    seen = {}

    async def read(ref, pause):
        seen[pause] = await follow(ref, pause=pause)

    limits = replace(LIMITS, transcript=20_000)
    async with running(kept_run(work, Journal(), limits=limits)) as one, trio.open_nursery() as nursery:
        for pause in (0.0, 1.0, 5.0):
            nursery.start_soon(read, one.ref, pause)
    for entries in seen.values():
        assert [entry.seq for entry in entries] == list(range(1, 302))


async def nothing_left(*_):
    return []


async def test_a_reader_whose_rest_is_gone_from_the_journal_is_told_so(autojump_clock):
    async def work(recorder):
        await say(recorder, *["x" * 1000] * 100, pause=0.1)
        recorder.record([Complete("end_turn")])

    journal = Journal()
    async with running(kept_run(work, journal, limits=replace(LIMITS, transcript=10_000))) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await trio.sleep(20)
            journal.after = nothing_left
            with pytest.raises(Refusal, match="gone"):
                _ = [page async for page in pages]
