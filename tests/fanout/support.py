"""What the tests of fan-outs share: asking for one, and git repositories to work in."""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.client import Answer, Client, Events
from tests.support.daemon import PYTHON

WRITING = [PYTHON, "-S", "-E", str(Path(__file__).with_name("writing_agent.py"))]


async def fan(client: Client, kind: str, body: dict[str, Any], **headers: str) -> Answer:
    return await client.call("POST", f"/api/v1/{kind}", body, headers=headers)


async def result(client: Client, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """A fan-out's result, which must come."""
    answer = await fan(client, kind, body)
    assert answer.status == 200, answer
    return answer.json


@asynccontextmanager
async def streaming(client: Client, kind: str, body: dict[str, Any]):
    """A fan-out as it comes, SSE."""
    async with client.open("POST", f"/api/v1/{kind}", {**body, "stream": True}) as incoming:
        events = Events(incoming)
        if incoming.status != 200:
            events.refusal = await incoming.whole()
        yield events


def tasks(*prompts: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"prompt": prompt, **fields} for prompt in prompts]


def outputs(answer: dict[str, Any]) -> list[str]:
    return [one["output"] for one in answer["results"]]


def states(answer: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(one["status"], one["began"]) for one in answer["results"]]


def check_tasks(events: list[dict[str, Any]]) -> None:
    """Numbers without a gap, one end for the run, and one for each task that has begun."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    ends = [event for event in events if event["type"] in {"complete", "error"}]
    assert [event for event in ends if "task" not in event] == [events[-1]]
    begun = sorted(event["task"] for event in events if event["type"] == "start")
    ended = sorted(event["task"] for event in ends[:-1])
    assert set(begun) <= set(ended)
    assert len(set(ended)) == len(ended)


class Repository:
    """A git repository of a user's, with a file, and changes of every kind that are not committed."""

    def __init__(self, path: Path, *, dirty: bool = False):
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "someone")
        self.git("config", "user.email", "someone@localhost")
        (path / "sub").mkdir()
        for name in ("file", "staged", "unstaged", "deleted", "sub/file"):
            (path / name).write_text(f"{name}\n")
        (path / ".gitignore").write_text("ignored\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "first")
        if dirty:
            self.make_dirty()

    def make_dirty(self) -> None:
        (self.path / "staged").write_text("staged, new\n")
        self.git("add", "staged")
        (self.path / "unstaged").write_text("unstaged, new\n")
        (self.path / "untracked").write_text("untracked\n")
        (self.path / "ignored").write_text("ignored\n")
        (self.path / "deleted").unlink()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.file.allow=always", *arguments],
            cwd=self.path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, diff: str) -> None:
        subprocess.run(["git", "apply", "-"], cwd=self.path, input=diff.encode(), check=True)

    def merge_conflict(self) -> Path:
        """A linked worktree in the middle of a merge that does not go well."""
        self.git("checkout", "--quiet", "-b", "theirs")
        (self.path / "file").write_text("theirs\n")
        self.git("commit", "--quiet", "--all", "--message", "theirs")
        linked = self.path.parent / "linked"
        self.git("worktree", "add", "--quiet", str(linked), "main")
        (linked / "file").write_text("ours\n")
        self.git("-C", str(linked), "commit", "--quiet", "--all", "--message", "ours")
        subprocess.run(["git", "merge", "theirs"], cwd=linked, check=False, capture_output=True)
        return linked

    def state(self) -> dict[str, str]:
        """Everything in the checkout and of git's own records of it, objects aside: names to contents."""
        found = {}
        for path in sorted(self.path.rglob("*")):
            name = str(path.relative_to(self.path))
            if path.is_file() and not name.startswith(".git/objects"):
                found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        return found

    def traces(self) -> list[str]:
        """Worktrees and branches beyond the user's own."""
        worktrees = self.git("worktree", "list", "--porcelain").count("worktree ")
        branches = self.git("branch", "--format=%(refname:short)").split()
        return ["worktree"] * (worktrees - 1) + [name for name in branches if name != "main"]
