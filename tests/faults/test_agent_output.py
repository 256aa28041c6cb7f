"""F8 to F13: whatever an agent prints, the turn goes on and the daemon stays small and quick."""

import statistics

import pytest
import trio

from tests.support.daemon import scripted
from tests.support.oracle import look

pytestmark = pytest.mark.daemon
BACKENDS = {"garbles": scripted("--garble"), "noisy": scripted()}
MIB = 1 << 20


async def unparsed(daemon, backend):
    snapshot = await look(daemon)
    return snapshot.series.get(("unparsed_lines_total", f'backend="{backend}"'), 0)


async def test_f8_a_line_of_64_mib_is_passed_over_in_little_memory(daemon):
    await daemon.client.ask("warm")
    before = daemon.rss()
    answer = await daemon.client.ask(f"before{{{{line:{64 * MIB}}}}} after")
    assert answer.json["output"] == "before after"
    assert daemon.rss() - before < 24 * MIB  # a line may have 16


async def test_f8_a_line_that_was_too_long_is_counted(daemon):
    before = await unparsed(daemon, "scripted")
    await daemon.client.ask(f"before{{{{line:{17 * MIB}}}}} after")
    assert await unparsed(daemon, "scripted") == before + 1


async def test_f9_a_last_line_without_a_newline_counts(daemon):
    answer = await daemon.client.ask("all said{{unended}}")
    assert (answer.json["output"], answer.json["exit_code"]) == ("all said", 0)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("fffe41", "A"),  # not UTF-8
        ("c3", ""),  # half a character
        ("eda0bd", ""),  # half a surrogate pair, as UTF-8
        ("5c7564383364", ""),  # \ud83d: the same, escaped
        ("5c7530303030", "\0"),  # NUL, escaped
        ("e280a8c285", "\u2028\x85"),  # other people's line ends
    ],
    ids=["invalid", "half-a-character", "surrogate", "escaped-surrogate", "nul", "line-separator"],
)
async def test_f10_odd_bytes_in_a_text_are_replaced_and_the_answer_goes_on(daemon, said, heard):
    answer = await daemon.client.ask(f"before{{{{bytes:{said}}}}} after")
    output = answer.json["output"]
    assert answer.json["exit_code"] == 0, answer
    assert output.startswith("before")
    assert output.endswith(" after")
    assert output[6:-6].replace("\ufffd", "") == heard


@pytest.mark.parametrize("line", ["efbbbf7b7d0a", "000a", "ff0a", "0d0a", "5b5b5b5b0a", "22eda0bd220a"])
async def test_f10_odd_bytes_between_the_lines_are_passed_over(daemon, line):
    answer = await daemon.client.ask(f"before{{{{raw:{line}}}}} after")
    assert (answer.json["output"], answer.json["exit_code"]) == ("before after", 0)


async def test_f10_a_character_that_is_torn_over_many_reads_is_whole(daemon):
    assert (await daemon.client.ask("a {{torn}} b")).json["output"] == "a 🦊é€ b"


async def test_f11_what_is_no_message_is_passed_over_and_counted(daemon):
    before = await unparsed(daemon, "noisy")
    answer = await daemon.client.ask("before{{noise}} after", "noisy")
    assert (answer.json["output"], answer.json["exit_code"]) == ("before after", 0)
    assert await unparsed(daemon, "noisy") == before + 10


async def test_f11_the_first_result_counts_and_nothing_after_it(daemon):
    events = await daemon.client.read("done{{twice}}")
    assert events.text == "done"
    assert events.last["content"]["stop_reason"] == "end_turn"
    assert (await daemon.client.read("next")).text == "next"


async def test_f11_an_agent_that_speaks_no_protocol_is_refused(daemon):
    answer = await daemon.client.ask("hello", "garbles")
    assert (answer.status, answer.code) == (502, "backend_protocol_error")


async def test_f12_a_flood_is_bounded_in_memory_and_leaves_the_loop_its_turns(daemon):
    before = daemon.rss()
    took = []
    async with daemon.client.stream("{{flood}}") as events, trio.open_nursery() as nursery:
        nursery.start_soon(events.to_end)
        for _ in range(12):
            await trio.sleep(0.1)
            began = trio.current_time()
            assert (await daemon.client.get("/health")).status == 200
            took.append(trio.current_time() - began)
        peak = daemon.rss()
        nursery.cancel_scope.cancel()
    assert len(events.events) > 1000
    assert peak - before < 64 * MIB
    assert statistics.median(took) < 0.1  # the loop's part; this reader shares the processor with it
    assert max(took) < 1


async def test_f12_a_long_answer_arrives_in_order_and_whole(daemon):
    async with daemon.client.stream("{{count:20000}}") as events:
        await events.to_end()
    assert events.text == "".join(f" {number}" for number in range(20000))


async def test_f12_a_reader_that_lags_behind_what_is_kept_is_told_so(daemon):
    async with daemon.client.stream("{{flood:120000}}", receive_buffer=4096) as events:
        await trio.sleep(1)
        await events.to_end()
    assert events.code == "reader_too_slow"


async def test_f13_a_flood_on_standard_error_is_drained_in_little_memory(daemon):
    await daemon.client.ask("warm")
    before = daemon.rss()
    answer = await daemon.client.ask(f"before{{{{stderr:{256 * MIB}}}}} after")
    assert answer.json["output"] == "before after"
    assert daemon.rss() - before < 4 * MIB


async def test_f13_of_a_flood_the_last_words_are_kept(daemon):
    answer = await daemon.client.ask(f"{{{{stderr:{4 * MIB}}}}}{{{{stderr:the very last}}}}{{{{exit:1}}}}")
    message = answer.json["error"]["message"]
    assert message.endswith("the very last")
    assert len(message) < 2200
