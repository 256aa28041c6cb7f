"""The parts of a fan-out by themselves: words in braces, the judge's reading, shares."""

from types import SimpleNamespace

import pytest
import trio
import trio.testing

from actors.calls import Calls
from actors.errors import Code, Refusal
from actors.messages import Complete, Message, Start
from actors.recorder import Identity, Recorder, RunLimits
from clinvoker.fanout import templates
from clinvoker.fanout.judge import Bench
from clinvoker.fanout.shares import Shares
from clinvoker.fanout.task import Task

VALUES = {"previous": "{{input}} \\{{", "input": "in"}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{input}}", "in"),
        ("{{ input }}{{input}}", "inin"),
        ("{{previous}}", "{{input}} \\{{"),
        (r"\{{input}}", "{{input}}"),
        (r"\{{{{input}}", "{{in"),
        ("{input} {{}} {{ a b }} {{{input}}}", "{input} {{}} {{ a b }} {in}"),
        ("{{input", "{{input"),
    ],
)
def test_words_in_braces_are_put_in_once(template, filled):
    templates.check(template, {"previous", "input"}, "prompt")
    assert templates.fill(template, VALUES, 1000) == filled


def test_a_prompt_does_not_grow_beyond_its_bound():
    with pytest.raises(Refusal) as caught:
        templates.fill("{{input}}" * 3, {"input": "x" * 10}, 50)
    assert caught.value.code is Code.TOO_LARGE


def answered(number, backend, text):
    record = Recorder(
        Identity("run_1", "ses", backend), RunLimits(), Calls("run_1", 1.0, lambda: None, lambda: None)
    )
    record.record([Start("m", "/"), Message(text), Complete("end_turn")])
    task = Task(number, None, backend)
    task.record = record
    return task


async def test_the_judges_letters_lead_back_to_the_backends():
    tasks = [answered(number, name, f"answer of {number}") for number, name in enumerate("xyz")]
    bench = Bench(tasks)
    letters = dict(zip("ABC", bench.shown, strict=True))
    said = '```json\n{"ranking":[{"answer":"C","reason":"c"},{"answer":"A","reason":"a"},{"answer":"B","reason":"b"}]}\n```'
    judged = bench.judgement(answered(3, "judge", said))
    assert [(one.rank, one.backend, one.reason) for one in judged.ranking] == [
        (rank, letters[letter].backend, letter.lower()) for rank, letter in enumerate("CAB", 1)
    ]


@pytest.mark.parametrize(
    "said",
    [
        "A is best",
        '{"ranking":[{"answer":"A","reason":""}]}',
        '{"ranking":[{"answer":"A","reason":""},{"answer":"A","reason":""}]}',
        '{"ranking":[{"answer":"A","reason":""},{"answer":"Z","reason":""}]}',
        '{"ranking":[]}',
    ],
)
async def test_what_is_no_ranking_of_every_answer_is_an_error(said):
    bench = Bench([answered(0, "x", "one"), answered(1, "y", "two")])
    judged = bench.judgement(answered(2, "judge", said))
    assert judged.ranking == []
    assert judged.error.code == "backend_error"


async def test_one_process_of_an_agent_with_one_conversation_each_stays_free(nursery, autojump_clock):
    def backend(*, shared):
        return SimpleNamespace(
            driver=SimpleNamespace(shared=shared), settings=SimpleNamespace(max_processes=3)
        )

    shares = Shares(20, {"single": backend(shared=False), "shared": backend(shared=True)})
    held = []

    async def hold(name):
        async with shares.hold(name):
            held.append(name)
            await trio.sleep_forever()

    for names in (["single"] * 10, ["shared"] * 30):
        for name in names:
            nursery.start_soon(hold, name)
        await trio.testing.wait_all_tasks_blocked()
    assert (held.count("single"), len(held)) == (2, 15)
    nursery.cancel_scope.cancel()
