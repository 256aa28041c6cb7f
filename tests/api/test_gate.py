"""The gate of a real daemon: what a key may, what a request cannot loosen, and what is never to be seen."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import tomli_w
import trio
from trio_websocket import open_websocket_url

from tests.api.support import PROMPT, error_of
from tests.support.daemon import ROOT, Daemon, become_true, scripted, wait_until
from tests.test_keys import hashed

pytestmark = pytest.mark.daemon

CHAT, MESSAGES = "/openai/v1/chat/completions", "/anthropic/v1/messages"
BACKENDS = {
    "echo": {},
    "scripted": scripted(),
    "claude": {"command": ["/absent/claude"], "spares": 0},
    "codex": {"command": ["/absent/codex"], "spares": 0},
}


def with_key(key):
    return {"authorization": f"Bearer {key}"}


def write_keys(home, **keys):
    """Write `keys.toml`: the settings of each key, by its name; the key is `NAME-key`."""
    file = home / "keys.toml"
    tables = {name: {"hash": hashed(f"{name}-key"), **settings} for name, settings in keys.items()}
    file.write_text(tomli_w.dumps({"keys": tables}))
    file.chmod(0o600)


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """A daemon with bounds and keys."""
    home = tmp_path_factory.mktemp("gated")
    for name in ("mine", "others"):
        (home / name).mkdir()
    write_keys(
        home,
        all={},
        echoing={"backends": ["echo"], "workdirs": [str(home / "mine")]},
        usual={"defaults": {"backend": "scripted", "workdir": str(home / "mine")}},
        astray={"defaults": {"workdir": str(home / "nowhere")}},
        slow={"rate": 0.5, "burst": 2},
        single={"max_concurrent": 1},
        brief={"daily_tokens": 60},
        old={"expires": "2020-01-01"},
    )
    with Daemon(home, backends=BACKENDS, max_approval_mode="default", max_sandbox_mode="default") as daemon:
        yield daemon


async def ask(daemon, key="all", path=PROMPT, headers=None, **body):
    return await daemon.client.call("POST", path, body, headers={**with_key(f"{key}-key"), **(headers or {})})


# What a key may.


async def test_a_key_is_refused_what_it_may_not_on_every_surface(gated):
    asked = [
        await ask(gated, "echoing", prompt="x", backend="scripted"),
        await ask(gated, "echoing", prompt="x", backend="echo", workdir=str(gated.home / "others")),
        await ask(gated, "echoing", CHAT, model="scripted", messages=[{"role": "user", "content": "x"}]),
    ]
    assert [(answer.status, error_of(answer)["param"]) for answer in asked] == [
        (403, "backend"),
        (403, "workdir"),
        (403, "model"),
    ]
    messages = [{"role": "user", "content": "x"}]
    answer = await ask(gated, "echoing", MESSAGES, model="scripted", max_tokens=9, messages=messages)
    assert (answer.status, answer.json["error"]["type"]) == (403, "permission_error")
    answer = await ask(gated, "echoing", prompt="hello", backend="echo", workdir=str(gated.home / "mine"))
    assert answer.json["output"] == "hello"


@pytest.mark.parametrize("path", [CHAT, "/openai/v1/responses", MESSAGES])
@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("x-clinvoker-workdir", "relative", 400),
        ("x-clinvoker-workdir", "/absent/directory", 400),
        ("x-clinvoker-workdir", "/usr", 403),
        ("x-clinvoker-approval-mode", "perhaps", 400),
        ("x-clinvoker-approval-mode", "auto", 403),
        ("x-clinvoker-sandbox-mode", "none", 400),
        ("x-clinvoker-sandbox-mode", "full", 403),
        ("x-clinvoker-session", "ses_nobody", 404),
    ],
)
async def test_a_header_at_fault_is_named_where_it_was_sent(gated, path, header, value, status):
    said = [{"role": "user", "content": "x"}]
    body = {"model": "echo", "max_tokens": 9, "input": "x", "messages": said}
    answer = await ask(gated, "echoing", path, headers={header: value}, **body)
    assert answer.status == status
    assert answer.json["error"]["message"].startswith(f"{header}: ")
    assert answer.json["error"].get("param", header) == header


async def test_a_directory_that_the_key_names_is_not_a_headers_fault(gated):
    said = [{"role": "user", "content": "x"}]
    answer = await ask(gated, "astray", CHAT, model="echo", messages=said)
    assert (answer.status, error_of(answer)["param"]) == (400, "workdir")


async def test_what_a_request_leaves_out_its_key_says(gated):
    answer = await ask(gated, "usual", prompt="hello")
    assert (answer.json["backend"], answer.json["output"]) == ("scripted", "hello")
    planned = await ask(gated, "usual", prompt="x", dry_run=True)
    assert planned.json["workdir"] == str(gated.home / "mine")
    assert (await ask(gated, "all", prompt="hi")).json["backend"] == "echo"


async def test_an_expired_key_is_a_401(gated):
    answer = await ask(gated, "old", prompt="x")
    assert (answer.status, "expired" in error_of(answer)["message"]) == (401, True)


async def test_a_key_has_its_rate_and_is_told_in_each_dialect(gated):
    paths = ("/api/v1/backends", "/openai/v1/models", "/anthropic/v1/models")
    answers = [await gated.client.call("GET", path, headers=with_key("slow-key")) for path in paths]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit"] == "2"
    assert answers[1].headers["x-ratelimit-remaining-requests"] == "0"
    assert answers[2].headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert int(answers[2].headers["retry-after"]) in {1, 2}
    for path in ("/health", "/metrics"):
        assert (await gated.client.call("GET", path, headers=with_key("slow-key"))).status == 200


async def test_every_answer_of_the_surfaces_carries_the_headers(gated):
    asked = [
        ("GET", "/api/v1/unknown", "all-key", 404),
        ("PUT", PROMPT, "all-key", 405),
        ("POST", PROMPT, "all-key", 400),
        ("GET", "/openai/v1/models", "wrong", 401),
    ]
    for method, path, key, status in asked:
        answer = await gated.client.call(method, path, {}, headers=with_key(key))
        assert answer.status == status
        assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= answer.headers.keys()


async def test_a_caller_at_its_limit_of_runs_waits_and_delays_nobody(gated):
    client = gated.client
    async with client.open(
        "POST",
        PROMPT,
        {"prompt": "a{{wait:0.6}}b", "backend": "scripted", "stream": True},
        with_key("single-key"),
    ) as first:
        await first.chunk()
        with trio.move_on_after(0.25) as waited:
            await ask(gated, "single", prompt="mine", backend="echo")
        assert waited.cancelled_caught
        with trio.fail_after(5):
            assert (await ask(gated, "all", prompt="theirs", backend="echo")).json["output"] == "theirs"
        await first.whole()
    assert (await ask(gated, "single", prompt="now", backend="echo")).status == 200


async def test_a_run_that_passes_the_budget_is_stopped_and_its_agent_with_it(gated):
    body = {"prompt": "{{pace:2000,0.002}}", "backend": "scripted", "stream": True}
    with trio.fail_after(10):
        answer = await gated.client.call("POST", PROMPT, body, headers=with_key("brief-key"))
    assert answer.status == 200
    last = json.loads(answer.body.rpartition(b"data: ")[2])
    assert (last["type"], last["content"]["code"]) == ("error", "rate_limit_exceeded")
    assert answer.body.count(b'"message"') < 1000
    refused = await ask(gated, "brief", prompt="x", backend="scripted")
    assert (refused.status, error_of(refused)["code"]) == (429, "rate_limit_exceeded")


async def test_a_sessions_directory_is_checked_again_for_each_turn(gated):
    work = gated.home / "mine" / "work"
    work.mkdir()
    began = await ask(gated, "echoing", prompt="one", backend="echo", workdir=str(work))
    session = {"session_id": began.json["session_id"]}
    assert (await ask(gated, "echoing", prompt="two", **session)).json["output"] == "two"
    work.rmdir()
    work.symlink_to(gated.home / "others")
    refused = await ask(gated, "echoing", prompt="three", **session)
    assert (refused.status, error_of(refused)["param"]) == (403, "workdir")


async def test_who_ran_what_is_logged_without_what_was_said(gated):
    answer = await ask(gated, "usual", prompt="something private")
    line = next(line for line in gated.logged("turn asked for") if line["run_id"] == answer.json["run_id"])
    assert (line["caller"], line["backend"], line["workdir"]) == (
        "usual",
        "scripted",
        str(gated.home / "mine"),
    )
    assert "private" not in gated.log


# What no request can loosen.


async def test_modes_are_bounded_on_every_way_in(gated):
    messages = [{"role": "user", "content": "x"}]
    asked = [
        await ask(gated, prompt="x", approval_mode="auto"),
        await ask(gated, prompt="x", approval_mode="always"),
        await ask(gated, prompt="x", sandbox_mode="full"),
        await ask(
            gated, path=CHAT, headers={"x-clinvoker-approval-mode": "auto"}, model="echo", messages=messages
        ),
        await ask(
            gated, path=CHAT, headers={"x-clinvoker-sandbox-mode": "full"}, model="echo", messages=messages
        ),
    ]
    assert [answer.status for answer in asked] == [403] * 5
    assert [error_of(answer)["param"] for answer in asked] == [
        *("approval_mode", "approval_mode", "sandbox_mode"),
        *("x-clinvoker-approval-mode", "x-clinvoker-sandbox-mode"),
    ]
    header = {"x-clinvoker-approval-mode": "auto"}
    answer = await ask(gated, path=MESSAGES, headers=header, model="echo", max_tokens=9, messages=messages)
    assert answer.status == 403
    url = f"ws://127.0.0.1:{gated.client.port}/api/v1/ws"
    async with open_websocket_url(url, extra_headers=[("x-api-key", "all-key")]) as line:
        await line.send_message(
            json.dumps({"op": "prompt", "ref": "r", "prompt": "x", "approval_mode": "auto"})
        )
        told = json.loads(await line.get_message())
    assert (told["type"], told["content"]["code"]) == ("error", "forbidden")


async def test_a_key_sees_only_the_backends_that_it_may_use(gated):
    async def seen(path, key, **headers):
        return (await gated.client.call("GET", path, headers=with_key(key) | headers)).json

    for key, names in (("echoing-key", {"echo"}), ("all-key", set(BACKENDS))):
        assert {each["name"] for each in (await seen("/api/v1/backends", key))["backends"]} == names
        for path in ("/openai/v1/models", "/anthropic/v1/models"):
            models = {each["id"].removeprefix("claude-via-") for each in (await seen(path, key))["data"]}
            assert models & set(BACKENDS) == names
    for path in ("/openai/v1/models/scripted", "/anthropic/v1/models/scripted"):
        assert (await gated.client.call("GET", path, headers=with_key("echoing-key"))).status == 404


SMUGGLED = [
    *("--dangerously-skip-permissions", "-c", "--settings=/tmp/evil.json", "\u2014yolo", "\u2010-x"),
    *("m --yolo", "m\n--yolo", "m\0--yolo", "@/etc/passwd", "=x", "m;id", "$(id)", "m\u2028--x", "a" * 200),
]


@pytest.mark.parametrize("model", SMUGGLED, ids=ascii)
async def test_no_model_becomes_a_flag(gated, model):
    for backend in ("claude", "codex"):
        answer = await ask(gated, prompt="x", backend=backend, model=model, dry_run=True)
        assert (answer.status, error_of(answer)["param"]) == (400, "model")
        for name in (f"{backend}/{model}", model):
            answer = await ask(gated, path=CHAT, model=name, messages=[{"role": "user", "content": "x"}])
            assert answer.status in {400, 404}


async def test_no_other_word_becomes_a_flag(gated):
    flag = "--dangerously-skip-permissions"
    for field in ("backend", "session_id"):
        assert (await ask(gated, prompt="x", **{field: flag})).status in {400, 404}
    for extra in ([flag], ["--settings", "/tmp/x"], ["-c"], ["--model=x\0y"], [""]):
        answer = await ask(gated, prompt="x", backend="claude", extra=extra, dry_run=True)
        assert (answer.status, error_of(answer)["param"]) == (400, "extra[0]")
    plain = await ask(gated, prompt="x", backend="claude", dry_run=True)
    told = {"tags": [flag], "metadata": {flag: flag}, "system_prompt": "x"}
    loaded = await ask(gated, prompt=flag, backend="claude", dry_run=True, **told)
    assert flag not in " ".join(loaded.json["command"])
    assert plain.json["command"][0] == loaded.json["command"][0]


# Keys that change while the daemon runs.


async def test_a_revoked_key_is_refused_from_sighup_on_and_its_run_goes_on(tmp_path):
    write_keys(tmp_path, one={}, two={})
    with Daemon(tmp_path, backends={"scripted": scripted()}) as daemon:
        body = {"prompt": "still{{wait:0.8}} here", "stream": True}
        async with daemon.client.open("POST", PROMPT, body, with_key("one-key")) as running:
            head = await running.chunk()
            command = [
                sys.executable,
                "-m",
                "clinvoker",
                "keys",
                "revoke",
                "one",
                "--config",
                str(daemon.config),
            ]
            await trio.run_process(command, cwd=ROOT, capture_stderr=True)
            assert (
                await daemon.client.call("GET", "/api/v1/backends", headers=with_key("one-key"))
            ).status == 200
            daemon.signal(signal.SIGHUP)
            await become_true(lambda: daemon.logged("configuration reloaded"), 3)
            assert "keys" in daemon.logged("configuration reloaded")[0]["keys"]
            assert (
                await daemon.client.call("GET", "/api/v1/backends", headers=with_key("one-key"))
            ).status == 401
            assert (
                await daemon.client.call("GET", "/api/v1/backends", headers=with_key("two-key"))
            ).status == 200
            assert b'"complete"' in head + (await running.whole()).body
        # The last one, and the file itself: the daemon is closed, not open.
        (tmp_path / "keys.toml").unlink()
        daemon.signal(signal.SIGHUP)
        await become_true(lambda: len(daemon.logged("configuration reloaded")) == 2, 3)
        for headers in ({}, with_key("two-key")):
            assert (await daemon.client.call("GET", "/api/v1/backends", headers=headers)).status == 401
        assert (await daemon.client.get("/health")).status == 200


async def test_a_budget_survives_a_restart(tmp_path):
    write_keys(tmp_path, small={"daily_tokens": 100})
    with Daemon(tmp_path, backends={"scripted": scripted()}) as daemon:
        words = "word " * 60
        assert (await ask(daemon, "small", prompt=words)).status == 200
        answer = await daemon.client.call("GET", "/openai/v1/models", headers=with_key("small-key"))
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        assert left < 100
        assert daemon.stop() == 0
        daemon.start()
        daemon.wait_listening()

        async def known():
            answer = await daemon.client.call("GET", "/anthropic/v1/models", headers=with_key("small-key"))
            return int(answer.headers["anthropic-ratelimit-tokens-remaining"]) == left

        with trio.fail_after(3):
            while not await known():
                await trio.sleep(0.02)
        refused = await ask(daemon, "small", prompt=words, ephemeral=True)
        if refused.status == 200:  # what was left was enough to begin
            refused = await ask(daemon, "small", prompt=words, ephemeral=True)
        assert (refused.code, refused.status) == ("rate_limit_exceeded", 429)
        assert int(refused.headers["retry-after"]) <= 86_400


# The Unix socket.


@pytest.fixture
def place():
    """A directory that other users can look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def ask_unix(path, uid=None):
    """The status line that a process, of another user if so asked, gets from the socket."""
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]);"
        "s.sendall(b'GET /health HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: close\\r\\n\\r\\n');"
        "print(s.recv(65536).split(b'\\r\\n')[0].decode())"
    )
    command = ["/usr/bin/python3" if uid else sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, user=uid)
    return done.stdout.strip()


def serving_at(home, path, **server):
    daemon = Daemon(home, wait=False, unix_socket=str(path), **server)
    wait_until(lambda: daemon.logged("listening") or daemon.process.poll() is not None, 10)
    return daemon


def listens_on_a_port(pid):
    """Whether one of the process's sockets is a TCP socket that listens (proc(5), /proc/net/tcp)."""
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    listening = {line.split()[9] for table in tables for line in table if line.split()[3] == "0A"}
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    return any(f"socket:[{inode}]" in links for inode in listening)


def test_a_daemon_serves_at_a_unix_socket_and_at_no_port(place, tmp_path):
    with serving_at(tmp_path, place / "s") as daemon:
        assert daemon.logged("listening")[0]["urls"] == [f"unix:{place}/s"]
        assert ask_unix(place / "s") == "HTTP/1.1 200"
        assert not listens_on_a_port(daemon.pid)
        command = [sys.executable, "-m", "clinvoker", "serve", "--config", str(daemon.config)]
        other = subprocess.run(
            [*command, "--state-dir", str(tmp_path / "other")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        assert (other.returncode, other.stderr.count("\n")) == (2, 1)
        assert f"{place}/s is already in use" in other.stderr
        daemon.process.kill()
        daemon.ended()
        assert (place / "s").is_socket(), "nobody was there to remove it"
        daemon.start()
        wait_until(lambda: daemon.logged("listening"), 10)
        assert ask_unix(place / "s") == "HTTP/1.1 200"
        assert daemon.stop() == 0
        assert not (place / "s").exists()


async def test_a_turn_goes_through_a_unix_socket(place, tmp_path):
    with serving_at(tmp_path, place / "s"):
        body = json.dumps({"prompt": "hello there", "stream": True}).encode()
        head = b"POST /api/v1/prompt HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        async with await trio.open_unix_socket(str(place / "s")) as stream:
            await stream.send_all(head + body)
            told = b"".join([piece async for piece in stream])
        assert told.startswith(b"HTTP/1.1 200")
        assert b'"output":"hello there"' in told


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_only_listed_users_may_connect(place, tmp_path):
    with serving_at(tmp_path, place / "s", unix_socket_uids=[65_533]) as daemon:
        assert ask_unix(place / "s", 65_533) == "HTTP/1.1 200"
        assert ask_unix(place / "s", 65_534) == ""
        assert ask_unix(place / "s") == "HTTP/1.1 200"
        assert daemon.logged("a user who may not was turned away")[0]["uid"] == 65_534


# Nothing secret is to be seen.


def of_process(pid, what):
    return Path(f"/proc/{pid}/{what}").read_text()


CANARY = "canary-3f9a1c7e5b"


async def test_no_secret_is_in_logs_metrics_errors_process_lists_or_environments(tmp_path):
    keys = {
        name: f"{CANARY}-{name}" for name in ("single", "listed", "wrong", "hashed", "gopass", "own", "env")
    }
    gopass = tmp_path / "bin" / "gopass"
    gopass.parent.mkdir()
    gopass.write_text(f"#!/bin/sh\necho {keys['gopass']}\n")
    gopass.chmod(0o755)
    file = tmp_path / "keys.toml"
    file.write_text(f"[keys.ci]\nhash = '{hashed(keys['hashed'])}'\n")
    file.chmod(0o600)
    env = {
        "PATH": f"{gopass.parent}:{os.environ['PATH']}",
        "CLINVK_API_KEY": keys["single"],
        "CLINVK_API_KEYS": keys["listed"],
        "CLINVK_API_KEYS_GOPASS_PATH": "x",
        "SECRET_TOKEN": keys["own"],
    }
    backends = {"echo": {}, "scripted": scripted()}
    backends["scripted"]["env"] = {"AGENTS_OWN": keys["env"]}
    said = f"{CANARY}-said"
    with Daemon(tmp_path, backends=backends, env=env) as daemon:
        daemon.document["log"] = {"level": "debug"}
        daemon.write_config()
        daemon.signal(signal.SIGHUP)
        await become_true(lambda: daemon.logged("configuration reloaded"), 3)
        seen = []
        for name in ("single", "listed", "gopass", "hashed"):
            for query, headers in ((f"?api_key={keys[name]}", {}), ("", {"x-api-key": keys[name]})):
                for backend, prompt in (("echo", said), ("scripted", "{{exit:1}}")):
                    body = {"prompt": prompt, "backend": backend, "ephemeral": True}
                    answer = await daemon.client.call("POST", PROMPT + query, body, headers=headers)
                    assert answer.status in {200, 502}
                    seen += [repr(answer.headers), answer.body.decode().replace(said, "")]
        bad = [
            ("POST", f"{PROMPT}?api_key={keys['wrong']}", {"prompt": said}, {}),
            ("POST", PROMPT, {"prompt": said}, {"x-api-key": keys["wrong"]}),
            ("POST", PROMPT, {"prompt": said, "model": "-x"}, {"x-api-key": keys["single"]}),
            ("GET", f"/{'x' * 9}?api_key={keys['single']}", None, {}),
            ("GET", f"/api/v1/sessions?api_key={keys['single']}&limit=x", None, {}),
            ("GET", f"/health?api_key={keys['single']}", None, {"host": "evil.example"}),
        ]
        for method, path, body, headers in bad:
            answer = await daemon.client.call(method, path, body, headers=headers)
            assert answer.status >= 400
            seen += [repr(answer.headers), answer.body.decode()]
        seen.append(
            (await daemon.client.call("GET", "/metrics", headers={"x-api-key": keys["single"]})).body.decode()
        )
        async with daemon.client.open(
            "POST",
            PROMPT,
            {"prompt": f"{said}{{{{wait:2}}}}", "backend": "scripted", "stream": True},
            {"x-api-key": keys["single"]},
        ) as stream:
            await stream.chunk()
            await become_true(daemon.agents, 3)
            children = {*daemon.children(), *(found.pid for found in daemon.marked())}
            assert len(children) >= 2
            seen += [of_process(pid, "cmdline") for pid in (*children, daemon.pid)]
            environments = [of_process(pid, "environ") for pid in children]
            assert any(keys["env"] in text for text in environments), "an agent gets what is meant for it"
            seen += [text.replace(keys["env"], "") for text in environments]
        assert daemon.stop() == 0
        seen.append(daemon.stderr.read_text())
        kept = b"".join(path.read_bytes() for path in daemon.state.rglob("*") if path.is_file())
    for text in seen:
        assert CANARY not in text, text[max(text.index(CANARY) - 200, 0) :][:400]
    for name in ("single", "listed", "gopass", "hashed", "wrong", "own", "env"):
        assert keys[name].encode() not in kept
