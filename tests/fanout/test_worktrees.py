"""`isolate: "worktree"`: every task in a git worktree of its own, and nothing of it left."""

import os
import subprocess
from itertools import count

import pytest
import trio

from tests.fanout.support import Repository, fan, result, states, streaming, tasks
from tests.support.daemon import become_true

WAIT = "{{wait:30}}"


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository", dirty=True)


def isolated(repository, *prompts, workdir="", **fields):
    where = str(repository.path / workdir) if workdir else str(repository.path)
    return {"tasks": tasks(*prompts, backend="writing", workdir=where), "isolate": "worktree", **fields}


def places(daemon):
    root = daemon.state / "worktrees"
    return sorted(root.iterdir()) if root.exists() else []


async def test_two_tasks_that_write_the_same_file_have_two_diffs_and_the_checkout_is_untouched(
    daemon, repository
):
    before = repository.state()
    body = isolated(repository, "{{write:file=one}}", "{{write:file=two}}{{write:sub/new=new}}")
    answer = await result(daemon.client, "parallel", body)
    one, two = answer["results"]
    assert one["files_changed"] == ["file"]
    assert two["files_changed"] == ["file", "sub/new"]
    assert one["diff"].endswith("--- a/file\n+++ b/file\n@@ -1 +1 @@\n-file\n+one\n")
    assert "+two\n" in two["diff"]
    assert "+one\n" not in two["diff"]
    assert one["branch"] != two["branch"]
    assert (one["kept"], two["kept"]) == (False, False)
    assert repository.state() == before
    assert repository.traces() == []
    assert places(daemon) == []


async def test_a_diff_is_a_patch_for_the_checkout(client, repository):
    prompt = "{{write:unstaged=changed}}{{run:rm file; printf '\\0\\1' > binary; chmod +x staged}}"
    [one] = (await result(client, "parallel", isolated(repository, prompt)))["results"]
    assert one["files_changed"] == ["binary", "file", "staged", "unstaged"]
    repository.apply(one["diff"])
    assert (repository.path / "unstaged").read_text() == "changed\n"
    assert (repository.path / "binary").read_bytes() == b"\0\1"
    assert not (repository.path / "file").exists()
    assert os.access(repository.path / "staged", os.X_OK)


async def test_what_is_not_committed_is_there_as_it_is_staged_or_not(client, repository):
    told = repository.git("status", "--short")
    prompt = "{{run:git status --short; cat staged unstaged untracked; ls}}"
    [one] = (await result(client, "parallel", isolated(repository, prompt)))["results"]
    status, _, rest = one["output"].partition("staged, new\n")
    assert status == told
    assert rest.startswith("unstaged, new\nuntracked\n")
    assert "ignored" not in rest
    assert "deleted" not in rest
    assert one["diff"] == ""
    assert one["files_changed"] == []


async def test_a_directory_within_the_checkout_is_the_same_one_within_the_worktree(client, repository):
    [one] = (
        await result(client, "parallel", isolated(repository, "{{where}} {{write:file=x}}", workdir="sub"))
    )["results"]
    assert one["output"].rstrip().endswith("/tree/sub")
    assert one["files_changed"] == ["sub/file"]


async def test_a_directory_that_git_knows_nothing_of_is_there_all_the_same(client, repository):
    (repository.path / "empty").mkdir()
    [one] = (await result(client, "parallel", isolated(repository, "{{write:made=x}}", workdir="empty")))[
        "results"
    ]
    assert one["files_changed"] == ["empty/made"]


async def test_a_branch_that_is_kept_has_what_was_changed_over_what_the_agent_committed(daemon, repository):
    before = repository.state()
    commit = "{{run:git -c user.name=a -c user.email=a@a commit --quiet --all --message agent}}"
    body = isolated(
        repository, "{{write:file=one}}", "{{write:file=two}}" + commit + "{{write:new=n}}", keep=True
    )
    one, two = (await result(daemon.client, "parallel", body))["results"]
    assert (one["kept"], two["kept"]) == (True, True)
    assert sorted(repository.traces()) == sorted([one["branch"], two["branch"]])
    assert repository.git("show", f"{one['branch']}:file") == "one\n"
    assert repository.git("show", f"{one['branch']}:untracked") == "untracked\n"
    assert repository.git("show", f"{two['branch']}:new") == "n\n"
    assert "agent" in repository.git("log", "--format=%s", two["branch"])
    after = repository.state()
    assert {name: after[name] for name in before} == before
    assert {name for name in after.keys() - before.keys() if one["branch"] not in name} == {
        name for name in after.keys() - before.keys() if two["branch"] in name
    }
    assert places(daemon) == []


async def test_a_check_tells_which_task_passes(client, repository):
    body = isolated(
        repository, "{{write:file=good}}", "{{write:file=bad}}", check="cat file; grep -q good file"
    )
    good, bad = (await result(client, "parallel", body))["results"]
    assert (good["check"]["exit_code"], good["check"]["output"]) == (0, "good\n")
    assert (bad["check"]["exit_code"], bad["check"]["output"]) == (1, "bad\n")
    assert (good["status"], bad["status"]) == ("completed", "completed")


async def test_a_check_runs_where_the_agent_ran_and_what_it_makes_is_no_change(client, repository):
    check = "pwd; echo made > made; cat; echo to stderr >&2"
    body = isolated(repository, "{{where}}", workdir="sub", check=check, keep=True)
    [one] = (await result(client, "parallel", body))["results"]
    assert one["check"]["output"] == f"{one['output']}\nto stderr\n"
    assert one["files_changed"] == []
    assert "made" not in repository.git("ls-tree", "-r", "--name-only", one["branch"])


async def test_a_check_tells_the_end_of_what_it_says(client, repository):
    [one] = (await result(client, "parallel", isolated(repository, "x", check="seq 100000")))["results"]
    assert one["check"]["output"].endswith("\n99999\n100000\n")
    assert len(one["check"]["output"]) == 16 * 1024


async def test_a_check_has_none_of_the_daemons_secrets(client, repository):
    [one] = (await result(client, "parallel", isolated(repository, "x", check="env")))["results"]
    names = {line.partition("=")[0] for line in one["check"]["output"].splitlines()}
    assert {"PATH", "HOME"} <= names
    assert not {name for name in names if name.startswith(("CLINVK", "GIT_"))}


async def test_no_hook_of_the_repository_runs(daemon, repository):
    hooks = repository.path / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "pre-commit", "post-commit", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {repository.path.parent}/ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    repository.git("config", "core.fsmonitor", f"touch {repository.path.parent}/ran")
    body = isolated(repository, "{{write:file=x}}", keep=True)
    [one] = (await result(daemon.client, "parallel", body))["results"]
    assert (one["status"], one["files_changed"]) == ("completed", ["file"])
    assert not (repository.path.parent / "ran").exists()


@pytest.mark.parametrize("how", ["cancel", "fail_fast"])
async def test_what_is_stopped_leaves_no_worktree_and_no_process(daemon, repository, how):
    before = repository.state()
    second = "{{wait:0.5}}{{error:7,no}}" if how == "fail_fast" else f"b{WAIT}"
    body = isolated(repository, f"a{{{{write:file=x}}}}{{{{spawn:setsid}}}}{WAIT}", second, fail_fast=True)
    async with streaming(daemon.client, "parallel", body) as events:
        while not any(event["type"] == "message" and event["task"] == 0 for event in events.events):
            await events.more()
        if how == "cancel":
            await daemon.client.call("POST", f"/api/v1/runs/{events.run_id}/cancel", {})
        await events.to_end()
    first = events.last["content"]["result"]["results"][0]
    assert first["status"] == "cancelled"
    assert repository.state() == before
    assert repository.traces() == []
    assert places(daemon) == []
    await become_true(lambda: not daemon.strays() and not daemon.noted_children(), 5)


async def test_a_check_is_stopped_with_its_run(daemon, repository):
    body = isolated(repository, "x", check="sleep 1000 & setsid sleep 1000")
    async with streaming(daemon.client, "parallel", body) as events:
        await become_true(lambda: len(daemon.agents()) > 1 and len(daemon.strays()) > 0, 5)
        await daemon.client.call("POST", f"/api/v1/runs/{events.run_id}/cancel", {})
        await events.to_end()
    await become_true(lambda: not daemon.strays(), 5)
    assert repository.traces() == []


async def test_a_failed_agents_changes_are_told_all_the_same(client, repository):
    answer = await result(
        client, "parallel", isolated(repository, "{{write:file=half}}{{error:7,no}}", check="true")
    )
    [one] = answer["results"]
    assert states(answer) == [("failed", True)]
    assert "+half\n" in one["diff"]
    assert "check" not in one


async def test_the_session_of_an_isolated_task_goes_on_in_the_callers_directory(client, repository):
    [one] = (await result(client, "parallel", isolated(repository, "x")))["results"]
    told = (await client.get(f"/api/v1/sessions/{one['session_id']}")).json["session"]
    assert told["workdir"] == str(repository.path)
    body = {"prompt": "{{where}}", "session_id": one["session_id"]}
    answer = await client.call("POST", "/api/v1/prompt", body)
    assert answer.json["output"].endswith(str(repository.path))


async def test_comparing_isolated_agents_tells_what_each_changed(daemon, repository):
    before = repository.state()
    body = {
        "prompt": "{{write:file=new}}",
        "backends": ["writing", "echo"],
        "workdir": str(repository.path),
        "isolate": "worktree",
        "check": "grep -q new file",
    }
    writing, echo = (await result(daemon.client, "compare", body))["results"]
    assert (writing["files_changed"], writing["check"]["exit_code"]) == (["file"], 0)
    assert (echo["files_changed"], echo["check"]["exit_code"]) == ([], 1)
    assert repository.state() == before
    assert repository.traces() == []


def no_repository(path):
    path.mkdir()


def bare(path):
    subprocess.run(["git", "init", "--quiet", "--bare", str(path)], check=True)


def unborn(path):
    subprocess.run(["git", "init", "--quiet", str(path)], check=True)


def inside(path):
    Repository(path)
    return path / ".git"


def submodules(path):
    inner = Repository(path.parent / "inner")
    Repository(path).git("submodule", "--quiet", "add", str(inner.path), "inner")


def embedded(path):
    Repository(path)
    Repository(path / "embedded")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (no_repository, "not in a git repository"),
        (bare, "bare repository"),
        (unborn, "no commit yet"),
        (inside, "repository's own directory"),
        (submodules, "submodules"),
        (embedded, "submodules"),
    ],
)
async def test_what_cannot_be_isolated_is_a_400_that_says_why(daemon, tmp_path, make, why):
    path = make(tmp_path / "place") or tmp_path / "place"
    body = {"tasks": tasks("x", "y", workdir=str(path)), "isolate": "worktree"}
    answer = await fan(daemon.client, "parallel", body)
    error = answer.json["error"]
    assert (answer.status, error["param"]) == (400, "tasks[0].workdir")
    assert why in error["message"]
    assert places(daemon) == []


async def test_a_task_that_continues_a_session_cannot_be_isolated(client, repository):
    [one] = (await result(client, "parallel", {"tasks": tasks("x")}))["results"]
    body = {"tasks": [{"prompt": "y", "session_id": one["session_id"]}], "isolate": "worktree"}
    answer = await fan(client, "parallel", body)
    assert (answer.status, answer.json["error"]["param"]) == (400, "tasks[0].session_id")


async def test_without_git_lfs_a_checkouts_pointers_are_pointers_in_the_worktree_too(client, repository):
    for key, value in (("clean", "git-lfs clean"), ("smudge", "git-lfs smudge"), ("required", "true")):
        repository.git("config", f"filter.lfs.{key}", value)
    neutral = ["-c", "filter.lfs.clean=", "-c", "filter.lfs.required=false"]
    (repository.path / ".gitattributes").write_text("*.bin filter=lfs\n")
    (repository.path / "large.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    repository.git(*neutral, "add", ".")
    repository.git(*neutral, "commit", "--quiet", "--message", "pointer")
    [one] = (await result(client, "parallel", isolated(repository, "{{run:cat large.bin}}")))["results"]
    assert one["output"] == "version https://git-lfs.github.com/spec/v1\n"
    assert one["diff"] == ""


async def test_a_linked_worktree_and_unmerged_files_are_copied_too(client, tmp_path):
    repository = Repository(tmp_path / "repository")
    linked = repository.merge_conflict()
    body = {"tasks": tasks("{{run:cat file}}", backend="writing", workdir=str(linked)), "isolate": "worktree"}
    [one] = (await result(client, "parallel", body))["results"]
    assert one["output"] == (linked / "file").read_text()
    assert "<<<<<<<" in one["output"]
    assert repository.git("worktree", "list").count("\n") == 2


async def test_many_at_once_in_one_repository(daemon, repository):
    numbers = count()
    prompts = [f"{{{{write:file={next(numbers)}}}}}" for _ in range(12)]
    answer = await result(daemon.client, "parallel", isolated(repository, *prompts, max_parallel=12))
    assert [one["diff"].splitlines()[-1] for one in answer["results"]] == [
        f"+{number}" for number in range(12)
    ]
    assert repository.traces() == []


async def test_a_write_protected_directory_is_no_obstacle(daemon, repository):
    prompt = "{{run:mkdir -p deep/er; touch deep/er/x; chmod 500 deep/er deep}}"
    await result(daemon.client, "parallel", isolated(repository, prompt))
    assert places(daemon) == []


async def test_a_large_diff_is_cut_and_says_so(client, repository):
    prompt = "{{run:seq 1000000 > many}}"
    [one] = (await result(client, "parallel", isolated(repository, prompt)))["results"]
    assert one["diff_truncated"] is True
    assert len(one["diff"]) <= 4 * 1024**2
    assert one["files_changed"] == ["many"]
    await trio.lowlevel.checkpoint()
