"""Callers' keys: made, listed, revoked, and read by the daemon."""

import fcntl
import hashlib
import os
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta

import pytest

from actors.errors import Code, Refusal
from clinvoker.callers import Callers
from clinvoker.cli import EX_USAGE, main
from clinvoker.config import ConfigError, KeySettings, Options, Secret, Settings, changing, load
from tests.support.daemon import ROOT


def hashed(key):
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("CLINVK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def config(tmp_path):
    """The usual configuration file, which need not be there."""
    return tmp_path / "clinvoker" / "config.toml"


@pytest.fixture
def file(config):
    return config.with_name("keys.toml")


@pytest.fixture
def keys(capsys):
    """Runs `clinvoker keys`, and gives its exit code, output and errors."""

    def run(*argv):
        code = main(["keys", *argv])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


# The command.


def test_a_key_is_shown_once_and_only_its_hash_is_kept(keys, file):
    code, out, err = keys("add", "ci")
    key = out.strip()
    assert code == 0
    assert len(key) > 40
    assert key not in err
    assert "SIGHUP" in err
    assert key not in file.read_text()
    assert tomllib.loads(file.read_text()) == {"keys": {"ci": {"hash": hashed(key)}}}
    assert keys("list") == (0, "ci\n", "")


def test_no_two_keys_are_the_same(keys):
    assert len({keys("add", f"k{number}")[1] for number in range(10)}) == 10


def test_all_that_a_key_may_is_written_and_listed(keys, config):
    wishes = {"--backend": "echo", "--workdir": "/tmp", "--rate": "2.5", "--burst": "4"}
    wishes |= {"--max-concurrent": "2", "--daily-tokens": "1000", "--expires": "2099-01-31"}
    assert (
        keys("add", "ci", "--backend", "claude", *(word for pair in wishes.items() for word in pair))[0] == 0
    )
    key = load(Options(), {}).keys["ci"]
    assert (key.backends, key.workdirs, key.rate, key.burst) == (("claude", "echo"), ("/tmp",), 2.5, 4)
    assert (key.max_concurrent, key.daily_tokens, key.expires) == (2, 1000, "2099-01-31")
    assert "backends=claude,echo" in keys("list")[1]


def test_a_key_can_expire_in_days(keys):
    keys("add", "ci", "--expires", "30d")
    expires = datetime.fromisoformat(load(Options(), {}).keys["ci"].expires)
    assert timedelta(days=29, hours=23) < expires - datetime.now(UTC) <= timedelta(days=30)


def test_a_revoked_key_is_gone_and_the_others_stay(keys):
    for name in ("one", "two"):
        keys("add", name)
    code, out, err = keys("revoke", "one")
    assert (code, out) == (0, "")
    assert "SIGHUP" in err
    assert keys("list")[1] == "two\n"


BAD = {
    "a name twice": (("add", "there"), "there is such a key already"),
    "a name that is none": (("add", "a b"), "expected a name"),
    "a name that is a flag": (("add", "--", "--config"), "expected a name"),
    "a backend that is not there": (("add", "x", "--backend", "gpt"), "keys.x.backends[0]"),
    "a relative directory": (("add", "x", "--workdir", "work"), "keys.x.workdirs[0]"),
    "a burst without a rate": (("add", "x", "--burst", "3"), "keys.x.burst"),
    "a rate of nothing": (("add", "x", "--rate", "0"), "keys.x.rate"),
    "a date that is none": (("add", "x", "--expires", "2027-02-30"), "keys.x.expires"),
    "a word as a date": (("add", "x", "--expires", "soon"), "keys.x.expires"),
    "a key that is not there": (("revoke", "x"), "there is no such key"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_one_line_and_changes_nothing(keys, file, name):
    argv, named = BAD[name]
    keys("add", "there")
    before = file.read_bytes()
    code, out, err = keys(*argv)
    assert (code, out, err.count("\n")) == (EX_USAGE, "", 1)
    assert named in err
    assert file.read_bytes() == before
    assert [each.name for each in file.parent.iterdir()] == ["keys.toml"]


# The file.


def test_the_file_is_its_owners_alone_before_and_after(keys, file):
    keys("add", "one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys("add", "two")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_read_or_write_is_refused(keys, file, mode):
    keys("add", "one")
    file.chmod(mode)
    assert keys("add", "two")[0] == EX_USAGE
    with pytest.raises(ConfigError, match="chmod 600"):
        load(Options(), {})


def test_a_link_to_the_file_stays_one(keys, file, tmp_path):
    file.parent.mkdir()
    file.symlink_to(tmp_path / "elsewhere.toml")
    keys("add", "one")
    assert file.is_symlink()
    assert "one" in (tmp_path / "elsewhere.toml").read_text()


def test_what_somebody_else_wrote_in_between_is_not_lost(keys, file):
    keys("add", "one")

    def change():
        with changing(file) as document:
            document["keys"] = {}
            file.write_text("# an editor was here\n")

    with pytest.raises(ConfigError, match="changed by somebody else"):
        change()
    assert file.read_text() == "# an editor was here\n"
    assert [each.name for each in file.parent.iterdir()] == ["keys.toml"]


def test_two_commands_at_once_do_not_both_write(keys, file):
    keys("add", "one")
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        code, _, err = keys("add", "two")
    finally:
        os.close(directory)
    assert (code, "another command" in err) == (EX_USAGE, True)


def test_it_holds_keys_and_nothing_else(keys, file):
    keys("add", "one")
    file.write_text("[server]\nport = 1\n")
    with pytest.raises(ConfigError, match="server: only"):
        load(Options(), {})


def test_a_key_may_stand_in_the_configuration_file_as_well_but_not_in_both(keys, config):
    keys("add", "one")
    config.write_text(f"[keys.two]\nhash = '{hashed('a')}'\n")
    assert set(load(Options(), {}).keys) == {"one", "two"}
    config.write_text(f"[keys.one]\nhash = '{hashed('a')}'\n")
    with pytest.raises(ConfigError, match=r"keys\.one: there is such a key already"):
        load(Options(), {})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[keys.a]\n", "keys.a.hash: missing"),
        ("[keys.a]\nhash = 'my-secret-key'\n", "keys.a.hash: expected a hash"),
        (f"[keys.a]\nhash = '{hashed('x')}'\n[keys.b]\nhash = '{hashed('x')}'\n", "the same key as keys.a"),
        (f"[keys.a]\nhash = '{hashed('x')}'\ncolour = 1\n", "keys.a.colour: unknown key"),
        (f"[keys.a]\nhash = '{hashed('x')}'\n[keys.a.defaults]\nbackend = 'no'\n", "keys.a.defaults.backend"),
        (
            f"server.max_approval_mode = 'none'\n[keys.a]\nhash = '{hashed('x')}'\ndefaults.approval_mode = 'auto'\n",
            "keys.a.defaults.approval_mode: looser",
        ),
        (
            "server.max_sandbox_mode = 'workspace'\n[backends.codex]\nsandbox_mode = 'full'\n",
            "backends.codex.sandbox_mode: looser",
        ),
    ],
)
def test_a_key_that_cannot_be_is_named_without_its_secret(config, text, named):
    config.parent.mkdir()
    config.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(Options(), {})
    assert named in str(refused.value)
    assert "my-secret-key" not in str(refused.value)


# A daemon that has had keys is never open.


def test_with_the_last_key_revoked_the_daemon_is_closed(keys):
    assert load(Options(), {}).keys_needed is False
    keys("add", "one")
    keys("revoke", "one")
    settings = load(Options(), {})
    assert (settings.keys, settings.keys_needed) == ({}, True)
    with pytest.raises(Refusal):
        Callers(settings).identify("", "10.0.0.1")


def test_a_file_that_is_removed_while_the_daemon_runs_does_not_open_it(keys, file):
    keys("add", "one")
    before = load(Options(), {})
    file.unlink()
    assert load(Options(), {}, before=before).keys_needed


def test_a_key_opens_the_way_to_an_address_that_is_not_loopback(keys):
    with pytest.raises(ConfigError, match="loopback"):
        load(Options(host="0.0.0.0"), {})
    keys("add", "one")
    assert load(Options(host="0.0.0.0"), {}).server.host == "0.0.0.0"


# gopass.


@pytest.fixture
def gopass(tmp_path):
    """Puts a script in the place of gopass, and gives the environment that finds it."""

    def install(script):
        program = tmp_path / "bin" / "gopass"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "CLINVK_API_KEYS_GOPASS_PATH": "team/clinvoker keys",
            "CLINVK_API_KEY": "from-the-environment",
        }

    return install


def test_keys_come_from_gopass_beside_the_others(gopass, tmp_path):
    environ = gopass(f'echo "$@" > {tmp_path}/argv; env > {tmp_path}/env; printf "one,two\\nthree\\n"')
    settings = load(Options(), environ)
    assert [key.reveal() for key in settings.api_keys] == ["from-the-environment", "one", "two", "three"]
    assert settings.keys_needed
    assert (tmp_path / "argv").read_text() == "show -o team/clinvoker keys\n"
    assert "from-the-environment" not in (tmp_path / "env").read_text()


FAILING = {
    "it fails": ("echo secret-text; exit 3", "status 3"),
    "it says nothing": ("exit 0", "gave no key"),
    "it hangs": ("sleep 60 & sleep 60", "gave no answer"),
    "what it says is no key": ("printf 'ключ'", "printable ASCII"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_gopass_that_fails_closes_the_daemon(gopass, monkeypatch, name):
    monkeypatch.setattr("clinvoker.config.gopass.PATIENCE", 0.3)
    script, named = FAILING[name]
    with pytest.raises(ConfigError) as refused:
        load(Options(), gopass(script))
    assert named in str(refused.value)
    assert "secret-text" not in str(refused.value)


def test_without_gopass_the_daemon_does_not_start(tmp_path):
    env = {"HOME": str(tmp_path), "PATH": "/nowhere", "CLINVK_API_KEYS_GOPASS_PATH": "x"}
    command = [sys.executable, "-m", "clinvoker", "serve", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (EX_USAGE, 1)
    assert "gopass is not installed" in done.stderr


# Who is who.


def test_a_key_is_the_same_caller_wherever_it_is_configured_and_is_not_told():
    named = Settings(keys={"ci": KeySettings(hash=hashed("the-key"))})
    listed = Settings(api_keys=(Secret("the-key"),))
    callers = [Callers(each).identify("the-key", "10.0.0.1") for each in (named, listed, listed)]
    assert len({caller.owner for caller in callers}) == 1
    assert "the-key" not in callers[0].owner
    assert Callers(named).name_of(callers[0].owner) == "ci"
    assert Callers(listed).name_of(callers[0].owner) == "key 1"


@pytest.mark.parametrize(
    ("expires", "valid"),
    [
        ("2020-01-01", False),
        ("2099-01-01", True),
        ("2020-01-01T00:00:00Z", False),
        ("2099-01-01 12:00:00", True),
        ("2099-01-01T00:00:00+02:00", True),
    ],
)
def test_a_key_is_good_until_it_expires(expires, valid):
    callers = Callers(Settings(keys={"ci": KeySettings(hash=hashed("the-key"), expires=expires)}))
    if valid:
        assert callers.identify("the-key", "").owner
    else:
        with pytest.raises(Refusal, match="expired") as refused:
            callers.identify("the-key", "")
        assert refused.value.code is Code.UNAUTHORIZED


def test_a_hash_is_no_key():
    callers = Callers(Settings(keys={"ci": KeySettings(hash=hashed("the-key"))}))
    for text in (hashed("the-key"), hashed("the-key").removeprefix("sha256:"), "ci", ""):
        with pytest.raises(Refusal):
            callers.identify(text, "")
