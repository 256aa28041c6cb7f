"""F6, F7: what an agent starts and leaves running, wherever it hides."""

import pytest
import trio

from tests.support.daemon import become_true, scripted

pytestmark = pytest.mark.daemon
BACKENDS = {"leaves": scripted()}
HIDING = ["group", "setsid", "double", "setsid+double", "setsid+double+deaf", "setsid+deaf+hold"]


@pytest.mark.parametrize("how", [*HIDING, "bare", "setsid+bare"])
async def test_f6_nothing_an_agent_started_outlives_its_process(daemon, how):
    answer = await daemon.client.ask(f"{{{{spawn:{how}}}}}words", "leaves")
    assert answer.json["output"] == "words"
    await become_true(lambda: not daemon.noted_children(), 2)


@pytest.mark.parametrize("how", HIDING)
async def test_f6_nothing_outlives_an_agent_that_crashes(daemon, how):
    answer = await daemon.client.ask(f"{{{{spawn:{how}}}}}words{{{{kill:SIGKILL}}}}", "leaves")
    assert answer.code == "backend_crashed"
    await become_true(lambda: not daemon.noted_children(), 2)


async def test_f6_a_turns_tools_are_gone_though_its_agent_stays(daemon):
    pid = (await daemon.client.ask("{{pid}}{{spawn:setsid}}")).json["output"]
    await become_true(lambda: not daemon.strays(), 2)
    assert (await daemon.client.ask("{{pid}}")).json["output"] == pid


@pytest.mark.parametrize("how", ["hold", "setsid+hold", "setsid+double+hold+deaf"])
async def test_f7_an_answer_does_not_wait_for_a_grandchild_that_holds_the_output(daemon, how):
    began = trio.current_time()
    answer = await daemon.client.ask(f"{{{{spawn:{how}}}}}words{{{{exit:0}}}}", "leaves")
    assert (answer.json["output"], answer.code) == ("words", "backend_crashed")
    assert trio.current_time() - began < 1.8
