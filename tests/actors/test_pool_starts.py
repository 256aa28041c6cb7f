"""Processes that fail to start."""

import pytest
import trio

from actors.errors import Code, Refusal
from actors.lease import Close, PoolLimits, Status, Verdict
from actors.messages import Failed
from actors.pool import BACKOFF_CAP, PATIENCE
from actors.telemetry import PoolLevel, ProcessEnded
from tests.actors.pool_world import NO_SPARES, World
from tests.actors.support import settle


async def test_a_start_that_fails_refuses_the_lease_with_the_reason(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "fake ended with exit code 1")
        with pytest.raises(Refusal, match="exit code 1") as caught:
            await world.lease("s1")
        assert caught.value.code is Code.BACKEND_UNAVAILABLE
        status = await world.ref.ask(Status())
        assert (status.available, status.reason) == (False, "fake ended with exit code 1")
        await settle()
        assert world.level == PoolLevel("fake", 0, 0, 0, 0)


async def test_after_too_many_failures_it_refuses_at_once_and_tries_again_later(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        for _ in range(PATIENCE):
            with pytest.raises(Refusal):
                await world.lease("s1")
        began, tried = trio.current_time(), len(world.processes)
        with pytest.raises(Refusal, match="broken") as caught:
            await world.lease("s1")
        assert trio.current_time() == began
        assert len(world.processes) == tried
        assert 0 < caught.value.retry_after <= 1
        await trio.sleep(caught.value.retry_after)
        world.failure = None
        await world.use("s1")
        assert (await world.ref.ask(Status())).available


async def test_the_pauses_grow_to_a_cap(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        pauses = []
        while len(pauses) < 9:
            with pytest.raises(Refusal) as caught:
                await world.lease("s1")
            if caught.value.retry_after:
                pauses.append(round(caught.value.retry_after))
                await trio.sleep(caught.value.retry_after)
        assert pauses == [1, 2, 4, 8, 16, BACKOFF_CAP, BACKOFF_CAP, BACKOFF_CAP, BACKOFF_CAP]


async def test_spares_that_fail_to_start_are_tried_less_and_less_and_come_back_by_themselves(autojump_clock):
    async with World(PoolLimits(spares=3, max_spawning=3)) as world:
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        await trio.sleep(300)
        tried = len(world.processes)
        assert PATIENCE < tried <= 3 * 15, "never a storm"
        world.failure = None
        await trio.sleep(2 * BACKOFF_CAP)
        assert len(world.alive()) == 3
        assert (await world.ref.ask(Status())).available


async def test_what_is_not_installed_is_looked_for_at_every_request(autojump_clock):
    async with World(NO_SPARES) as world:
        world.failure = Refusal(Code.NOT_INSTALLED, "no such program")
        for _ in range(2 * PATIENCE):
            with pytest.raises(Refusal):
                await world.lease("s1")
        assert len(world.processes) == 2 * PATIENCE
        world.failure = None
        await world.use("s1")


async def test_a_start_that_fails_by_the_callers_fault_says_nothing_about_the_backend(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(5)
        world.failure = Refusal(Code.INVALID_REQUEST, "no such directory", param="workdir")
        for _ in range(2 * PATIENCE):
            with pytest.raises(Refusal) as caught:
                await world.lease("s1", model="other")
            assert caught.value.param == "workdir"
        assert (await world.ref.ask(Status())).available
        tried = len(world.processes)
        await trio.sleep(100)
        assert len(world.processes) <= tried + 2, "and a spare like it is not tried for ever"


@pytest.mark.parametrize("code", [Code.BACKEND_UNAVAILABLE, Code.INVALID_REQUEST])
async def test_options_that_nothing_starts_with_harm_only_the_lease_that_asks_for_them(code, autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await trio.sleep(5)
        world.failures["bad"] = Refusal(code, "unknown flag")
        for _ in range(2 * PATIENCE):
            with pytest.raises(Refusal, match="unknown flag"):
                await world.lease("s1", model="bad")
        await trio.sleep(100)
        assert len(world.processes) == 1 + 2 * PATIENCE, "no spare is tried like it"
        assert world.alive() == world.processes[:1], "and the one that was there is there still"
        assert (await world.ref.ask(Status())).available


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("code", [Code.BACKEND_UNAVAILABLE, Code.INVALID_REQUEST])
async def test_options_that_nothing_starts_with_any_more_give_way_to_the_default_ones(
    code, shared, autojump_clock
):
    async with World(PoolLimits(spares=2), shared=shared) as world:
        await world.use("s1", model="big")
        await world.use("s2", model="big")
        await trio.sleep(5)
        assert {process.options.model for process in world.alive()} == {"big"}
        world.failures["big"] = Refusal(code, "no such directory")
        for process in world.alive():
            process.end()
        await trio.sleep(100)
        assert {process.options.model for process in world.alive()} == {""}
        assert [process.options.model for process in world.processes].count("big") <= 6
        status = await world.ref.ask(Status())
        assert (status.available, status.reason) == (True, "")


async def test_the_default_options_are_tried_again_after_others_in_use_have_failed_too(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        await world.use("s1", model="big")
        await trio.sleep(5)
        world.failure = Refusal(Code.BACKEND_UNAVAILABLE, "broken")
        with pytest.raises(Refusal):
            await world.lease("s2")
        for process in world.alive():
            process.end()
        await trio.sleep(60)
        assert not (await world.ref.ask(Status())).available
        world.failure, world.failures["big"] = None, world.failure
        await trio.sleep(2 * BACKOFF_CAP)
        assert [process.options.model for process in world.alive()] == [""]
        assert (await world.ref.ask(Status())).available


async def test_what_fails_to_start_again_and_again_is_reported_once_until_it_is_mended(autojump_clock):
    async with World(PoolLimits(spares=1)) as world:
        world.failure = Refusal(Code.NOT_INSTALLED, "no such program")
        await trio.sleep(10 * BACKOFF_CAP)
        assert len(world.processes) > 5, "it is looked for"
        assert len(world.records.of(ProcessEnded)) == 1
        world.failure = Refusal(Code.NOT_INSTALLED, "no such interpreter")
        await trio.sleep(3 * BACKOFF_CAP)
        assert len(world.records.of(ProcessEnded)) == 2
        world.failure = None
        await trio.sleep(2 * BACKOFF_CAP)
        world.failure = Refusal(Code.NOT_INSTALLED, "no such interpreter")
        world.alive()[0].end()
        await trio.sleep(3 * BACKOFF_CAP)
        assert len(world.records.of(ProcessEnded)) == 3


async def test_a_spare_that_is_no_longer_wanted_while_it_starts_is_no_failure(autojump_clock):
    async with World(PoolLimits(spares=1, max_spawning=9)) as world:
        for number in range(6):
            await world.use("s1", model=f"m{number}")
            await world.ref.tell(Close("s1"))
        await settle()
        assert (await world.ref.ask(Status())).available


async def test_a_login_that_has_expired_shows_until_a_turn_succeeds(autojump_clock):
    async with World(NO_SPARES) as world:
        await world.ref.tell(Verdict(Failed(Code.NOT_LOGGED_IN, "log in again")))
        assert (await world.ref.ask(Status())).reason == "log in again"
        await world.ref.tell(Verdict(None))
        assert (await world.ref.ask(Status())).available
