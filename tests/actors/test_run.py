from contextlib import closing, suppress

import pytest
import trio
from msgspec.structs import replace

from actors.calls import MOMENT, AnswerCalls, Deliver
from actors.errors import ActorDied, Code, Refusal
from actors.mailbox import Stream
from actors.messages import Complete, Failed, Message, Permission, Start, ToolAnswer, ToolResult, Usage
from actors.run import PAGE, Answer, Cancel, Follow, GiveWay, Identity, Look, Run, RunLimits, new_id
from actors.telemetry import RunEnded, RunStarted, StreamFailed
from tests.actors.support import CancelAtStep, Records, running, settle

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


# The log.


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


# Followers come and go.


async def test_an_attached_run_is_cancelled_when_its_last_follower_has_gone_for_the_grace(autojump_clock):
    records = Records()
    async with running(a_run(forever, records=records)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            await trio.sleep(50)
        await one.ended.wait()
        assert trio.current_time() == pytest.approx(51)
    [ended] = records.of(RunEnded)
    assert ended.outcome == Code.CANCELLED


async def test_an_attached_run_that_nobody_ever_follows_is_cancelled(autojump_clock):
    async with running(a_run(forever)) as one:
        await one.ended.wait()
        assert trio.current_time() == pytest.approx(1)


async def test_the_last_of_several_followers_counts_in_whatever_order_they_leave(autojump_clock):
    async with running(a_run(forever)) as one:
        await settle()
        for _ in range(3):
            first = await one.ref.stream(Follow())
            await settle()
            second = await one.ref.stream(Follow())
            await trio.sleep(2)
            first.close()
            await trio.sleep(2)
            assert not one.ended.is_set(), "one is still there"
            first = await one.ref.stream(Follow())
            second.close()
            await trio.sleep(2)
            assert not one.ended.is_set()
            first.close()
            await trio.sleep(0.9)
        with trio.fail_after(1):
            await one.ended.wait()


async def test_coming_back_within_the_grace_keeps_it(autojump_clock):
    async with running(a_run(forever)) as one:
        for _ in range(5):
            with closing(await one.ref.stream(Follow())) as pages:
                await pages.next()
            await trio.sleep(0.9)
        assert not one.ended.is_set()


async def test_a_detached_run_goes_on_by_itself(autojump_clock):
    records = Records()

    async def long(recorder):
        await trio.sleep(50)
        await complete(recorder)

    async with running(a_run(long, identity=DETACHED, records=records)) as one:
        with closing(await one.ref.stream(Follow())):
            await trio.sleep(1)
        await one.ended.wait()
    assert records.of(RunEnded)[0].outcome == "complete"


async def test_a_detached_runs_follower_who_came_late_is_not_cut_off(autojump_clock):
    async def long(recorder):
        await trio.sleep(10)
        await say(recorder, *"abcdefgh")
        recorder.record([Complete("end_turn")])

    async with running(a_run(long, identity=DETACHED)) as one:
        await trio.sleep(5)
        with closing(await one.ref.stream(Follow())) as pages:
            await trio.sleep(60)
            entries = [entry async for page in pages for entry in page]
    assert len(entries) == 9


async def test_a_finished_run_goes_when_its_readers_have_gone(autojump_clock):
    async with running(a_run(complete)) as one:
        await follow(one.ref)
        await one.ended.wait()
        assert trio.current_time() == pytest.approx(1)
        assert one.error is None


async def test_a_follower_cancelled_at_any_step_is_not_counted_any_more(autojump_clock):
    step, reached = 0, True
    while reached:
        step += 1
        async with running(a_run(forever)) as one:
            async with trio.open_nursery() as nursery:
                with CancelAtStep(nursery.cancel_scope, step) as cancel:
                    nursery.start_soon(follow, one.ref)
                    await trio.sleep(0.5)
                reached = cancel.reached
                nursery.cancel_scope.cancel()
            with trio.fail_after(3):
                await one.ended.wait()
    assert step > 5


# Permissions.


ASKED = Permission("p1", "Bash", {"command": "ls"}, ("allow", "deny"))


class Asking:
    """Work that asks its caller for leave."""

    def __init__(self):
        self.leave = None

    async def __call__(self, recorder):
        self.leave = await recorder.ask_caller(ASKED, lambda event: recorder.record([event]))
        recorder.record([Complete("end_turn")])


async def test_a_permission_is_asked_and_answered(autojump_clock):
    asking = Asking()
    async with running(a_run(asking)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            [entry] = await pages.next()
            assert entry.content == ASKED
            await one.ref.ask(Answer("p1", "allow"))
            assert [type(entry.content) for page in [await pages.next()] for entry in page] == [Complete]
    assert asking.leave == "allow"


async def test_a_permission_that_nobody_answers_is_a_no_and_said_so(autojump_clock):
    asking = Asking()
    async with running(a_run(asking)) as one:
        events = await contents(one.ref)
        assert trio.current_time() == pytest.approx(5)
    assert asking.leave == "deny"
    assert isinstance(events[1], ToolResult)
    assert (events[1].id, events[1].is_error) == ("p1", True)
    assert "5 s" in events[1].output


@pytest.mark.parametrize(
    ("answer", "code"),
    [(Answer("p1", "allow_always"), Code.INVALID_REQUEST), (Answer("p2", "allow"), Code.NOT_FOUND)],
)
async def test_a_wrong_answer_is_refused_and_leaves_the_question_open(answer, code, autojump_clock):
    asking = Asking()
    async with running(a_run(asking)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            with pytest.raises(Refusal) as caught:
                await one.ref.ask(answer)
            assert caught.value.code is code
            await one.ref.ask(Answer("p1", "deny"))
            await pages.next()
            with pytest.raises(Refusal):
                await one.ref.ask(Answer("p1", "deny"))
    assert asking.leave == "deny"


async def test_a_question_of_a_cancelled_run_is_no_longer_open(autojump_clock):
    async with running(a_run(Asking())) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            await one.ref.ask(Cancel())
            await pages.next()
            with pytest.raises(Refusal):
                await one.ref.ask(Answer("p1", "allow"))


class Unknown(Stream[int], frozen=True):
    pass


# Ids.


def test_an_id_says_what_it_names_and_cannot_be_guessed():
    ids = {new_id("run") for _ in range(100)}
    assert len(ids) == 100
    assert all(one.startswith("run_") and len(one) == 4 + 32 for one in ids)


async def test_a_message_it_does_not_know_ends_the_run_with_one_event(autojump_clock):
    async with running(a_run(forever)) as one:
        with closing(await one.ref.stream(Follow())) as pages:
            await pages.next()
            with suppress(ActorDied):
                await one.ref.stream(Unknown())
            rest = [entry async for page in pages for entry in page]
    assert len(terminals(rest)) == 1


# The journal.


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
