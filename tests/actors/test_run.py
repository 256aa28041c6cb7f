"""A run's log, its one terminal event, and who ends it."""

from contextlib import closing, suppress

import pytest
import trio
from msgspec.structs import replace

from actors.calls import MOMENT, AnswerCalls, Deliver
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Stream
from actors.messages import Complete, Failed, Message, ToolAnswer, Usage
from actors.run import PAGE, Cancel, Follow, GiveWay, new_id
from actors.telemetry import RunEnded, RunStarted, StreamFailed
from tests.actors.runs import DETACHED, LIMITS, a_run, complete, contents, follow, forever, say, terminals
from tests.actors.support import Records, running, settle


async def test_a_run_is_followed_from_its_first_event_to_its_last(autojump_clock):
    async with running(a_run(complete)) as one:
        entries = await follow(one.ref)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    last = entries[-1].content
    assert (last.output, last.stop_reason, last.token_usage) == ("hello world", "end_turn", Usage(1, 2))
    assert last.duration_ms == 0


async def test_followers_of_different_speed_get_the_same(autojump_clock):
    async def work(recorder):
        for number in range(PAGE * 3):
            recorder.record([Message(str(number))])
            if number % 100 == 0:
                await trio.sleep(0.1)
        recorder.record([Complete("end_turn")])

    seen = {}

    async def read(ref, pause):
        seen[pause] = await follow(ref, pause=pause)

    async with running(a_run(work)) as one, trio.open_nursery() as nursery:
        for pause in (0.0, 0.05, 3.0):
            nursery.start_soon(read, one.ref, pause)
    assert seen[0.0] == seen[0.05] == seen[3.0]
    assert [entry.seq for entry in seen[0.0]] == list(range(1, PAGE * 3 + 2))


async def test_a_slow_follower_stalls_neither_the_run_nor_the_others(autojump_clock):
    records = Records()

    async def work(recorder):
        await say(recorder, *"abcdefghij", pause=0.1)
        recorder.record([Complete("end_turn")])

    async with running(a_run(work, records=records)) as one, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: follow(one.ref, pause=20))
        await follow(one.ref)
        assert trio.current_time() == pytest.approx(1)
        assert len(records.of(RunEnded)) == 1


async def test_a_follower_who_comes_late_gets_the_rest_from_where_it_says(autojump_clock):
    async with running(a_run(complete, identity=DETACHED, limits=replace(LIMITS, reattach=5))) as one:
        await trio.sleep(1)
        whole = await follow(one.ref)
        assert await follow(one.ref, after=2) == whole[2:]
        assert await follow(one.ref, after=4) == []


async def test_a_follower_gets_all_that_is_new_in_one_page(autojump_clock):
    async with running(a_run(complete)) as one:
        await settle()
        with closing(await one.ref.stream(Follow())) as pages:
            assert len(await pages.next()) == 4


async def test_a_follower_who_lags_behind_what_is_kept_is_told_so(autojump_clock):
    async def work(recorder):
        await say(recorder, *["x" * 1000] * 1000)
        recorder.record([Complete("end_turn")])

    async with running(a_run(work, limits=replace(LIMITS, transcript=20_000))) as one:
        await trio.sleep(0.1)
        with pytest.raises(Refusal) as caught:
            await follow(one.ref)
        assert caught.value.code is Code.READER_TOO_SLOW


# The one terminal event.


async def raise_refusal(_recorder):
    raise Refusal(Code.BACKEND_OVERLOADED, "later", retry_after=7.0)


async def crash(recorder):
    await say(recorder, "a")
    raise ValueError("secret detail")


async def driver_crash(_recorder):
    raise ActorDied("the runner is gone")


async def fail(recorder):
    recorder.record([Message("a"), Failed(Code.CRASHED, "gone")])


async def nothing(_recorder):
    pass


async def twice(recorder):
    recorder.record([Complete("end_turn")])
    recorder.record([Failed(Code.CRASHED, "late")])
    recorder.record([Message("late")])


async def crash_after_the_end(recorder):
    recorder.record([Complete("end_turn")])
    raise ValueError


@pytest.mark.parametrize(
    ("work", "outcome"),
    [
        (complete, "complete"),
        (fail, Code.CRASHED),
        (raise_refusal, Code.BACKEND_OVERLOADED),
        (crash, Code.INTERNAL),
        (driver_crash, Code.INTERNAL),
        (nothing, Code.INTERNAL),
        (forever, Code.TIMEOUT),
        (twice, "complete"),
        (crash_after_the_end, "complete"),
    ],
)
async def test_however_the_work_ends_the_log_ends_with_one_terminal_event(work, outcome, autojump_clock):
    records = Records()
    async with running(a_run(work, records=records)) as one:
        entries = await follow(one.ref)
    [last] = terminals(entries)
    assert entries[-1].content is last
    assert (last.code if isinstance(last, Failed) else "complete") == outcome
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert records.of(RunStarted) == [RunStarted("echo")]
    [ended] = records.of(RunEnded)
    assert ended.outcome == outcome


async def test_a_refusal_says_when_to_come_back(autojump_clock):
    async with running(a_run(raise_refusal)) as one:
        [failed] = await contents(one.ref)
    assert (failed.message, failed.retry_after) == ("later", 7.0)


async def test_a_crash_is_reported_in_full_and_told_without_its_details(autojump_clock):
    records = Records()
    async with running(a_run(crash, records=records)) as one:
        last = (await contents(one.ref))[-1]
    assert "secret" not in last.message
    [failed] = records.of(StreamFailed)
    assert "secret detail" in failed.error


async def test_a_run_takes_no_longer_than_its_total(autojump_clock):
    async with running(a_run(forever)) as one:
        last = (await contents(one.ref))[-1]
        assert trio.current_time() == pytest.approx(100)
    assert "longer than 100 s" in last.message


async def test_the_time_to_the_first_event_is_that_of_a_real_event(autojump_clock):
    records = Records()

    async def late(recorder):
        await trio.sleep(3)
        await complete(recorder)

    async with running(a_run(late, records=records)) as one:
        await follow(one.ref)
    async with running(a_run(raise_refusal, records=records)) as one:
        await follow(one.ref)
    assert [ended.first_event for ended in records.of(RunEnded)] == [pytest.approx(3), None]


# Cancelling.


async def test_cancelled_it_ends_with_an_error_and_says_whether_it_was_still_going(autojump_clock):
    async with running(a_run(forever)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            assert await one.ref.ask(Cancel()) is True
            [last] = await pages.next()
            assert last.content.code is Code.CANCELLED
            assert await one.ref.ask(Cancel()) is False


async def test_it_gives_way_only_while_its_client_has_calls_to_answer(autojump_clock):
    async def work(recorder):
        for name in "ab":
            await recorder.calls.put(name, {}, 0, lambda event: recorder.record([event]))
            await trio.sleep(1)

    async with running(a_run(work, identity=DETACHED)) as one:
        await trio.sleep(2 * MOMENT)
        assert not await one.ref.ask(GiveWay()), "the client was not told yet"
        await one.ref.ask(Deliver(("call_11",), 1))
        await one.ref.ask(AnswerCalls((ToolAnswer("call_11", "ok"),)))
        assert not await one.ref.ask(GiveWay()), "the agent goes on"
        await trio.sleep(1 + 2 * MOMENT)
        await one.ref.ask(Deliver(("call_12",), 3))
        assert await one.ref.ask(GiveWay())
        [last] = terminals(await follow(one.ref))
        assert (last.code, "others waited" in last.message) == (Code.TIMEOUT, True)


async def test_a_run_that_is_stopped_says_that_the_daemon_goes_down(autojump_clock):
    async with running(a_run(forever)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.child.stop)
                [last] = await pages.next()
                assert last.content.code is Code.DRAINING
                assert [page async for page in pages] == []


async def test_a_follower_who_never_reads_delays_the_stop_by_the_shutdown_time_only(autojump_clock):
    async with running(a_run(forever), shutdown=1.0) as one:
        await trio.sleep(0.1)
        with closing(await one.ref.stream(Follow())):
            began = trio.current_time()
            await one.child.stop()
            assert trio.current_time() - began == pytest.approx(1)


async def test_work_that_will_not_stop_still_ends_in_one_event(autojump_clock):
    records = Records()

    async def stubborn(_recorder):
        with trio.CancelScope(shield=True):
            await trio.sleep(30)

    async with running(a_run(stubborn, identity=DETACHED, records=records), shutdown=1.0) as one:
        await settle()
        await one.child.stop()
    [ended] = records.of(RunEnded)
    assert ended.outcome == Code.DRAINING


class Unknown(Stream[int], frozen=True):
    pass


async def test_a_message_it_does_not_know_ends_the_run_with_one_event(autojump_clock):
    async with running(a_run(forever)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            with suppress(ActorDied):
                await one.ref.stream(Unknown())
            rest = [entry async for page in pages for entry in page]
    assert len(terminals(rest)) == 1


# Ids.


def test_an_id_says_what_it_names_and_cannot_be_guessed():
    ids = {new_id("run") for _ in range(100)}
    assert len(ids) == 100
    assert all(one.startswith("run_") and len(one) == 4 + 32 for one in ids)
