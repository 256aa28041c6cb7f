"""The command line: what can be given, and one clear line for what cannot be used."""

import os
import signal
import socket
import subprocess
import sys

import pytest

import clinvoker
from clinvoker.cli import EX_USAGE, main
from tests.support.daemon import ROOT, Daemon

QUIET = "CLINVK_"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path):
    """Nothing of the developer's own settings."""
    for name in [name for name in os.environ if name.startswith(QUIET)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"clinvoker {clinvoker.__version__}\n"


@pytest.mark.parametrize(
    "argv", [[], ["unknown"], ["serve", "--unknown"], ["serve", "extra"], ["serve", "--port"]]
)
def test_a_wrong_command_line_is_a_usage_error(capsys, argv):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == EX_USAGE
    assert "usage: clinvoker" in capsys.readouterr().err


BAD = {
    "a missing file": (["--config", "/no/such/file.toml"], {}, "/no/such/file.toml"),
    "a directory as file": (["--config", "/tmp"], {}, "/tmp"),
    "a port that is none": (["--port", "http"], {}, "port"),
    "a port out of range": (["--port", "70000"], {}, "port"),
    "a negative port": (["--port=-1"], {}, "port"),
    "an unknown backend": (["--backend", "unknown"], {}, "backend"),
    "an unknown log level": (["--log-level", "loud"], {}, "level"),
    "an open address without a key": (["--host", "0.0.0.0"], {}, "CLINVK_API_KEY"),
    "a bad port in the environment": ([], {"CLINVK_PORT": "x"}, "CLINVK_PORT"),
    "an unknown backend in the environment": ([], {"CLINVK_BACKEND": "unknown"}, "CLINVK_BACKEND"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(capsys, monkeypatch, name):
    argv, environ, named = BAD[name]
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    assert main(["serve", *argv]) == EX_USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("clinvoker: ")
    assert told.err.count("\n") == 1
    assert named in told.err


FILES = {
    "an unknown key": ("colour = 1\n", "colour"),
    "an unknown key in a table": ("[server]\nprot = 8080\n", "server.prot"),
    "an unknown key of a backend": ("[backends.claude]\nmodle = 'x'\n", "backends.claude.modle"),
    "a value of another type": ("[server]\nport = '8080'\n", "server.port"),
    "a value out of bounds": ("[server]\nmax_concurrent_runs = 0\n", "server.max_concurrent_runs"),
    "no TOML": ("[server\n", "line 1"),
    "a key twice": ("default_backend = 'echo'\ndefault_backend = 'echo'\n", "line 2"),
    "a relative directory": ("[server]\nallowed_workdir_prefixes = ['work']\n", "allowed_workdir_prefixes"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_one_line_that_names_the_file_and_the_key(capsys, tmp_path, name):
    text, named = FILES[name]
    file = tmp_path / "clinvoker.toml"
    file.write_text(text)
    assert main(["serve", "--config", str(file)]) == EX_USAGE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(file) in error
    assert named in error


def test_a_key_is_not_told_when_the_environment_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("CLINVK_API_KEY", "secret-key")
    assert main(["serve", "--port", "x"]) == EX_USAGE
    assert "secret-key" not in capsys.readouterr().err


# As processes of their own.


def serve(home, *argv):
    """Run `clinvoker serve` to its end."""
    home.mkdir(exist_ok=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    command = [sys.executable, "-m", "clinvoker", "serve", *argv]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.daemon
def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(tmp_path, "--port", str(port), "--state-dir", str(tmp_path / "state"))
    assert done.returncode == EX_USAGE
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("clinvoker: ")
    assert str(port) in done.stderr


@pytest.mark.daemon
def test_a_second_daemon_on_one_state_directory_is_one_line(tmp_path):
    with Daemon(tmp_path) as daemon:
        done = serve(tmp_path / "second", "--port", "0", "--state-dir", str(daemon.state))
        assert done.returncode == EX_USAGE
        assert done.stderr == f"clinvoker: already running (pid {daemon.pid}) on {daemon.state}\n"


@pytest.mark.daemon
def test_a_state_directory_that_cannot_be_used_is_one_line(tmp_path):
    done = serve(tmp_path, "--port", "0", "--state-dir", "/proc/none")
    assert (done.returncode, done.stdout) == (EX_USAGE, "")
    assert done.stderr.startswith("clinvoker: /proc/none cannot be used: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.daemon
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_daemon_soon_and_well(tmp_path, signum):
    with Daemon(tmp_path) as daemon:
        daemon.signal(signum)
        assert daemon.ended(within=2) == 0
        assert [line["event"] for line in daemon.logged("stopped")] == ["stopped"]
        assert "Traceback" not in daemon.log


@pytest.mark.daemon
def test_the_line_that_it_listens_names_the_address_and_the_backends(tmp_path):
    with Daemon(tmp_path) as daemon:
        (line,) = daemon.logged("listening")
        assert line["urls"] == [f"http://127.0.0.1:{daemon.client.port}"]
        assert line["backends"] == ["echo"]
