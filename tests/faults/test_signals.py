"""F50, F51: how the daemon ends, and what else it does about signals."""

import signal
import time
from contextlib import AsyncExitStack

import pytest
import trio

from tests.support.daemon import become_true, scripted, wait_until
from tests.support.oracle import check_stream

pytestmark = pytest.mark.daemon


# Going down.


def test_f50_an_idle_daemon_is_gone_within_a_second(start):
    daemon = start()
    wait_until(lambda: len(daemon.agents()) == 1, 3)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 1.5  # 1 s, and the machine is shared
    assert daemon.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_f50_under_load_every_stream_ends_with_one_event_and_the_daemon_in_time(start, number):
    daemon = start(shutdown_grace_secs=6, max_concurrent_runs=24)
    streams = []

    async def read(prompt):
        async with daemon.client.stream(prompt) as events:
            streams.append(events)
            await events.to_end()

    async with trio.open_nursery() as nursery:
        for index in range(24):
            # Most would go on for ever; some end by themselves within the grace, and may.
            nursery.start_soon(read, "w{{pace:60,0.01}}" if index % 4 == 0 else "w{{pace:9999,0.02}}")
        await become_true(lambda: sum("w" in events.text for events in streams) == 24, 10)
        began = trio.current_time()
        daemon.signal(number)
        assert await daemon.wait_ended() == 0
        assert trio.current_time() - began < 7
    for events in streams:
        check_stream(events)
        assert not events.cut
    assert [events.code for events in streams].count("server_draining") == 18
    assert daemon.nothing_left()


async def test_f50_while_it_drains_it_takes_no_new_runs(start):
    daemon = start(shutdown_grace_secs=6)
    async with daemon.client.stream("w{{pace:999,0.02}}") as events:
        await events.until("w")
        daemon.signal(signal.SIGTERM)
        await become_true(lambda: daemon.logged("draining"), 2)
        answer = await daemon.client.ask("late")
        assert (answer.status, answer.code) == (503, "server_draining")
        assert int(answer.headers["retry-after"]) >= 1
        await events.to_end()
        assert events.code == "server_draining"
    assert await daemon.wait_ended() == 0


async def test_f50_what_waits_in_the_line_is_told_so(start):
    daemon = start(max_concurrent_runs=1, shutdown_grace_secs=4.5)
    async with trio.open_nursery() as nursery, daemon.client.stream("w{{pace:9999,0.02}}") as events:
        await events.until("w")
        for _ in range(3):
            nursery.start_soon(daemon.client.ask, "waits")
        await trio.sleep(0.3)
        daemon.signal(signal.SIGTERM)
        await events.to_end()
        assert await daemon.wait_ended() == 0
    assert [answer.code for answer in daemon.client.answers] == ["server_draining"] * 3


async def test_f50_a_stalled_reader_delays_the_end_no_further_than_the_grace(start):
    daemon = start(shutdown_grace_secs=5)
    async with daemon.client.stream("{{flood}}", receive_buffer=4096) as events:
        await trio.sleep(0.5)
        began = trio.current_time()
        daemon.signal(signal.SIGTERM)
        assert await daemon.wait_ended() == 0
        assert trio.current_time() - began < 6
        assert daemon.nothing_left()
        events.left = True


async def test_f50_a_second_sigterm_ends_it_at_once(start):
    daemon = start(shutdown_grace_secs=30)
    async with daemon.client.stream("{{deaf}}{{spawn:setsid+deaf}}w{{hang}}") as events:
        await events.until("w")
        daemon.signal(signal.SIGTERM)
        await become_true(lambda: daemon.logged("draining"), 2)
        began = trio.current_time()
        daemon.signal(signal.SIGTERM)
        assert await daemon.wait_ended() == 128 + signal.SIGTERM
        assert trio.current_time() - began < 1
        await become_true(daemon.nothing_left, 3)


async def test_f50_a_second_signal_while_agents_are_being_ended_ends_it_too(start):
    daemon = start(backends={"deaf": scripted("--deaf", spares=2)}, kill_grace_secs=4, shutdown_grace_secs=8)
    await daemon.client.ask("{{unread}}{{pid}}", "deaf")
    await become_true(lambda: len(list(daemon.notes.glob("deaf"))) == 1, 3)
    daemon.signal(signal.SIGTERM)
    await trio.sleep(0.3)
    daemon.signal(signal.SIGINT)
    assert await daemon.wait_ended() == 128 + signal.SIGINT
    await become_true(daemon.nothing_left, 3)


@pytest.mark.parametrize("after", [0.0, 0.1, 0.2, 0.25, 0.35])
async def test_f50_sigterm_at_any_moment_of_the_start_leaves_nothing(start, after):
    daemon = start(wait=False)
    await trio.sleep(after)
    daemon.signal(signal.SIGTERM)
    assert await daemon.wait_ended() in {0, -signal.SIGTERM}
    await become_true(daemon.nothing_left, 3)
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("after", [0.1, 0.25])
async def test_f51_sigint_at_any_moment_of_the_start_leaves_nothing(start, after):
    daemon = start(wait=False)
    await trio.sleep(after)
    daemon.signal(signal.SIGINT)
    assert await daemon.wait_ended() in {0, 130, -signal.SIGINT}
    await become_true(daemon.nothing_left, 3)


# Signals that do not end it.


async def test_f51_sighup_takes_the_new_log_level_and_limits_and_names_the_rest(start):
    daemon = start()
    daemon.document["server"]["idle_event_timeout_secs"] = 0.3
    daemon.document["server"]["max_connections"] = 99
    daemon.document["log"] = {"level": "debug"}
    daemon.write_config()
    async with daemon.client.stream("old{{wait:0.8}} limits") as events:
        await events.until("old")
        daemon.signal(signal.SIGHUP)
        await become_true(lambda: daemon.logged("configuration reloaded"), 3)
        assert (await events.to_end()).text == "old limits"
    assert set(daemon.logged("configuration reloaded")[0]["keys"]) == {
        "log.level",
        "server.idle_event_timeout_secs",
    }
    assert daemon.logged("configuration needs a restart")[0]["keys"] == ["server.max_connections"]
    assert (await daemon.client.ask("new{{wait:2}} limits")).code == "timeout"
    assert daemon.stop() == 0


async def test_f49_a_reload_under_load_ends_nothing_and_shuts_out_whom_it_takes_off_the_list(start):
    daemon = start(allowed_hosts=["agents.example"], max_concurrent_runs=8)
    headers = {"host": "agents.example"}
    async with AsyncExitStack() as load:
        streams = [await load.enter_async_context(daemon.client.stream("{{pace:60,0.02}}")) for _ in range(4)]
        for events in streams:
            await events.until("0")
        assert (await daemon.client.call("GET", "/health", headers=headers)).status == 200
        del daemon.document["server"]["allowed_hosts"]
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        await become_true(lambda: daemon.logged("configuration reloaded"), 3)
        assert (await daemon.client.call("GET", "/health", headers=headers)).status == 403
        for events in streams:
            assert (await events.to_end()).code == ""
    assert daemon.stop() == 0


@pytest.mark.parametrize(
    "broken", ["server = 1", "[server]\nprot = 8080", "[server", "[log]\nlevel = 7", None], ids=str
)
async def test_f51_sighup_with_an_invalid_file_changes_nothing(start, broken):
    daemon = start()
    if broken is None:
        daemon.config.unlink()
    else:
        daemon.config.write_text(broken)
    daemon.signal(signal.SIGHUP)
    await become_true(lambda: daemon.logged("configuration not reloaded, the old one stays"), 3)
    line = daemon.logged("configuration not reloaded, the old one stays")[0]
    assert line["level"] == "error"
    assert str(daemon.config) in line["problem"]
    assert (await daemon.client.ask("still here")).json["output"] == "still here"
    assert b"clinvoker_config_reload_failed_total 1.0" in (await daemon.client.get("/metrics")).body


async def test_f51_sigpipe_and_a_hundred_hangups_are_survived(start):
    daemon = start()
    async with daemon.client.stream("a{{pace:50,0.01}}") as events:
        await events.until("a")
        for _ in range(100):
            daemon.signal(signal.SIGHUP)
            daemon.signal(signal.SIGPIPE)
            await trio.sleep(0.002)
        assert (await events.to_end()).code == ""
    assert daemon.stop() == 0


async def test_f51_sigquit_dumps_the_stacks_and_changes_nothing(start):
    daemon = start()
    daemon.signal(signal.SIGQUIT)
    await become_true(lambda: "most recent call first" in daemon.log, 3)
    assert (await daemon.client.ask("still here")).json["output"] == "still here"
