"""The turns of a session: one at a time, in line where that is asked for, none lost and none in the wrong session."""

import os
import random
import signal

import trio

from tests.sessions.support import begin, check_whole, error_of, prompt, session, streaming

LINE = 16
SESSIONS, TURNS, CALLERS = 100, 10, 20


async def test_a_second_turn_is_refused_and_the_first_is_not_disturbed(client):
    one = await begin(client, backend="scripted")
    async with streaming(client, "w{{wait:0.3}}", one) as events:
        await events.until("w")
        for _ in range(3):
            answer = await prompt(client, "x", one)
            assert error_of(answer) == (409, "session_busy", "session_id")
            assert answer.headers["retry-after"] == "1"
        await events.to_end()
    check_whole(events.events)
    assert (await session(client, one))["session"]["turns"] == 2


async def test_turns_in_line_run_in_their_order_and_the_seventeenth_is_refused(client):
    one = await begin(client, "s1.0", backend="remembering")
    refused, outputs = [], []

    async def ask(number):
        answer = await prompt(client, f"s1.{number}", one, queue=True)
        outputs.append((number, answer.json["output"]))

    async with streaming(client, "w{{wait:1.5}}", one) as events:
        await events.until("w")
        async with trio.open_nursery() as nursery:
            for number in range(1, LINE + 1):
                nursery.start_soon(ask, number)
                await trio.sleep(0.03)
            refused.append(await prompt(client, "one too many", one, queue=True))
            refused.append(await prompt(client, "not in line", one))
            await events.to_end()
    assert [error_of(answer)[:2] for answer in refused] == [(409, "session_busy")] * 2
    assert "16 turns wait" in refused[0].json["error"]["message"]
    marks = [f"s1.{number}" for number in range(LINE + 1)]
    assert sorted(outputs) == [(number, " ".join(marks[: number + 1])) for number in range(1, LINE + 1)]


async def test_a_caller_who_leaves_the_line_makes_room_and_harms_nobody(client):
    one = await begin(client, "s2.0", backend="remembering")
    async with streaming(client, "w{{wait:1}}", one) as events:
        await events.until("w")
        with trio.move_on_after(0.2):
            await prompt(client, "s2.1", one, queue=True)
        answers = []

        async def ask():
            answers.append(await prompt(client, "s2.2", one, queue=True))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await events.to_end()
    assert events.last["type"] == "complete"
    assert answers[0].json["output"] == "s2.0 s2.2"


async def test_in_line_for_a_fork_whose_first_turn_has_yet_to_begin(client):
    """Nothing is live of a fork: whoever leaves the line there must not take the turn in hand along."""
    one = await begin(client, "s3.0", backend="remembering")
    for _ in range(5):
        fork = (await client.call("POST", f"/api/v1/sessions/{one}/fork")).json["id"]
        answers = []

        async def ask(fork=fork, answers=answers):
            answers.append(await prompt(client, "s3.1", fork))

        async def leave(fork=fork):
            with trio.move_on_after(0.004):
                await prompt(client, "s3.2", fork, queue=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(leave)
            nursery.start_soon(leave)
        assert answers[0].json.get("output") == "s3.0 s3.1" or answers[0].code == "session_busy", answers


async def test_a_burst_of_turns_on_one_session_runs_one_at_a_time(client):
    one = await begin(client, "s4.0", backend="remembering")
    answers = []

    async def ask(number):
        answers.append(await prompt(client, f"s4.{number}", one))

    async with trio.open_nursery() as nursery:
        for number in range(1, 31):
            nursery.start_soon(ask, number)
    good = [answer for answer in answers if answer.status == 200]
    assert good
    assert {answer.code for answer in answers if answer not in good} <= {"session_busy"}
    turns = (await session(client, one))["turns"]
    assert [turn["output"] for turn in turns[1:]] == [
        " ".join(["s4.0", *(each["prompt"] for each in turns[1 : number + 2])]) for number in range(len(good))
    ]
    assert sorted(answer.json["output"] for answer in good) == sorted(turn["output"] for turn in turns[1:])


async def test_an_agent_killed_between_two_turns_is_not_noticed(client, daemon):
    """At any moment after the kill: before the daemon has seen it, too."""
    one = await begin(client, "s5.0", backend="remembering")
    marks = ["s5.0"]
    for number in range(1, 13):
        for agent in daemon.agents():
            os.kill(agent.pid, signal.SIGKILL)
        await trio.sleep((0.0, 0.001, 0.003, 0.1)[number % 4])
        answer = await prompt(client, f"s5.{number}", one)
        if answer.status == 200 and "error" not in answer.json:
            marks.append(f"s5.{number}")
            assert answer.json["output"] == " ".join(marks)
        else:
            # The prompt had gone out to a process that died: whether it was taken, nobody knows.
            assert "backend_crashed" in answer.body.decode(), answer
            assert number % 4 != 3
    assert len(marks) > 3


async def test_a_session_whose_agent_is_evicted_goes_on_at_that_very_moment(client):
    """Eviction ends the session's actor; a turn that arrives then finds another one."""
    sessions = [await begin(client, f"s{10 + number}.0", backend="remembering") for number in range(70)]
    answers = []

    async def ask(number):
        answers.append((number, await prompt(client, f"s{10 + number}.1", sessions[number])))

    async with trio.open_nursery() as nursery:  # more than one process holds: each takes another's place
        for number in range(70):
            nursery.start_soon(ask, number)
    for number, answer in answers:
        assert answer.json.get("output") == f"s{10 + number}.0 s{10 + number}.1", answer


async def test_a_hundred_sessions_continued_at_random_by_twenty_callers_lose_nothing(client):
    seed = random.randrange(1 << 32)  # noqa: S311 - no secret
    dice = random.Random(seed)  # noqa: S311 - no secret
    todo = [number for number in range(SESSIONS) for _ in range(TURNS - 1)]
    dice.shuffle(todo)
    marks = [iter(range(1, TURNS)) for _ in range(SESSIONS)]
    ids = {}
    answered = {}

    async def start(numbers):
        for number in numbers:
            ids[number] = await begin(client, f"s{number}.0", backend="remembering")

    async def call():
        while todo:
            number = todo.pop()
            mark = f"s{number}.{next(marks[number])}"
            queue = dice.random() < 0.5
            while (answer := await prompt(client, mark, ids[number], queue=queue)).code == "session_busy":
                await trio.sleep(0.01)
            assert answer.status == 200, (seed, answer)
            answered[mark] = answer.json["output"]

    async with trio.open_nursery() as nursery:
        for caller in range(CALLERS):
            nursery.start_soon(start, range(caller, SESSIONS, CALLERS))
    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(call)
    assert len(answered) == SESSIONS * (TURNS - 1)
    for number in range(SESSIONS):
        turns = (await session(client, ids[number]))["turns"]
        prompts = [turn["prompt"] for turn in turns]
        assert sorted(prompts) == [f"s{number}.{turn}" for turn in range(TURNS)], seed
        for count, turn in enumerate(turns, 1):
            assert turn["output"] == " ".join(prompts[:count]), seed
            assert turn["number"] == count
            assert answered.get(turn["prompt"], turn["output"]) == turn["output"]
