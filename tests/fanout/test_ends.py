"""How a fan-out ends that does not come to its end: the deadline, and a daemon that is killed."""

import copy

import trio

from tests.fanout.conftest import BACKENDS, SERVER
from tests.fanout.support import Repository, check_tasks, fan, result, states, streaming, tasks
from tests.sessions.support import is_sound, look, query, replay, session
from tests.support.daemon import Daemon, become_true

WAIT = "{{wait:30}}"


async def test_the_deadline_ends_every_tasks_processes_and_says_what_became_of_each(tmp_path):
    repository = Repository(tmp_path / "repository")
    with Daemon(
        tmp_path / "home", backends=copy.deepcopy(BACKENDS), **SERVER, request_timeout_secs=2
    ) as daemon:
        hanging = f"b{{{{spawn:setsid}}}}{WAIT}"
        body = {
            "tasks": tasks("a", hanging, hanging, "d", backend="writing", workdir=str(repository.path)),
            "isolate": "worktree",
            "max_parallel": 2,
        }
        answer = await result(daemon.client, "parallel", body)
        assert answer["error"]["code"] == "timeout"
        assert states(answer) == [
            ("completed", True),
            ("cancelled", True),
            ("cancelled", True),
            ("cancelled", False),
        ]
        await become_true(lambda: not daemon.strays() and not daemon.noted_children(), 5)
        assert repository.traces() == []
        check_tasks(await replay(daemon.client, answer["run_id"]))


async def test_a_check_has_a_time_of_its_own(tmp_path):
    repository = Repository(tmp_path / "repository")
    daemon = Daemon(tmp_path / "home", backends=copy.deepcopy(BACKENDS), wait=False, **SERVER)
    daemon.close()
    daemon.document["parallel"] = {"check_timeout_secs": 0.5}
    daemon.write_config()
    daemon.start()
    with daemon:
        daemon.wait_listening()
        body = {
            "tasks": tasks("a", backend="writing", workdir=str(repository.path)),
            "isolate": "worktree",
            "check": "echo begun; sleep 1000 & setsid sleep 1000",
        }
        [one] = (await result(daemon.client, "parallel", body))["results"]
        assert one["status"] == "completed"
        assert (one["check"]["exit_code"], one["check"]["timed_out"]) == (None, True)
        assert one["check"]["output"] == "begun\n"
        await become_true(lambda: not daemon.strays(), 5)


async def test_killed_in_the_middle_it_ends_in_one_error_and_leaves_no_worktree(tmp_path):
    repository = Repository(tmp_path / "repository", dirty=True)
    mine = repository.path.parent / "mine"
    repository.git("worktree", "add", "--quiet", "-b", "clinvoker-mine", str(mine))
    before = repository.state()
    with Daemon(tmp_path / "home", backends=copy.deepcopy(BACKENDS), **SERVER) as daemon:
        body = {
            "tasks": tasks(
                "{{write:file=one}}done",
                f"half{{{{write:file=two}}}}{WAIT}",
                f"part{{{{write:file=three}}}}{WAIT}",
                "never",
                backend="writing",
                workdir=str(repository.path),
            ),
            "isolate": "worktree",
            "max_parallel": 2,
            "keep": True,
        }
        seen = []
        async with streaming(daemon.client, "parallel", body) as events:
            while {event["content"]["text"] for event in events.events if event["type"] == "message"} != {
                "done",
                "half",
                "part",
            }:
                await events.more()
            run, seen = events.run_id, events.events
            assert len(list((daemon.state / "worktrees").iterdir())) == 2
            daemon.process.kill()
            daemon.ended()
        await become_true(lambda: not daemon.marked(), 5)
        daemon.start()
        daemon.wait_listening()
        stored = await replay(daemon.client, run)
        assert stored[: len(seen)] == seen
        assert [event["type"] for event in stored if "task" not in event] == ["error"]
        assert stored[-1]["content"]["code"] == "interrupted"
        assert (await look(daemon.client, run))["status"] == "error"
        told = {}
        for number in range(3):
            [sid] = {event["session_id"] for event in stored if event.get("task") == number}
            [turn] = (await session(daemon.client, sid))["turns"]
            told[number] = (turn["output"], turn["error"])
        assert told == {0: ("done", None), 1: ("half", "interrupted"), 2: ("part", "interrupted")}
        assert query(daemon, "SELECT count(*) FROM turns WHERE ended IS NULL") == [(0,)]
        assert is_sound(daemon)
        with trio.fail_after(5):
            while list((daemon.state / "worktrees").iterdir()):
                await trio.sleep(0.05)
        after = repository.state()
        kept = {name: content for name, content in after.items() if name in before}
        assert kept == before
        # The user's own stay, and what was finished and to be kept.
        assert repository.traces() == ["worktree", "clinvoker-mine", f"clinvoker-{run}-0"]
        assert mine.is_dir()


async def test_a_checkout_is_not_copied_from_beyond_where_agents_may_work(tmp_path):
    repository = Repository(tmp_path / "repository")
    inside = str(repository.path / "sub")
    with Daemon(
        tmp_path / "home", backends={"echo": {}}, **SERVER, allowed_workdir_prefixes=[inside]
    ) as daemon:
        body = {"tasks": tasks("x", workdir=inside)}
        assert (await fan(daemon.client, "parallel", body)).status == 200
        answer = await fan(daemon.client, "parallel", {**body, "isolate": "worktree"})
        assert (answer.status, answer.json["error"]["param"]) == (403, "tasks[0].workdir")
