"""What configuration is accepted, which source wins, and how a mistake is told."""

import copy
import os
import pickle
import pwd
import sys
from pathlib import Path

import msgspec
import pytest

from clinvoker.config import ConfigError, Options, Secret, defaults, is_loopback, load

KEY = "canary-4f1d9c-canary"


@pytest.fixture(autouse=True)
def a_home_of_its_own(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def file(tmp_path):
    """Write a configuration file and return its path."""

    def write(text):
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def told(options=None, environ=None, **more):
    """Return the line with which loading fails."""
    with pytest.raises(ConfigError) as caught:
        load(options or Options(), environ or {}, **more)
    line = str(caught.value)
    assert "\n" not in line
    assert line.isprintable()
    return line


def of(path):
    return Options(config=str(path))


# --- sources -----------------------------------------------------------------------------------------------------


def test_without_any_source_the_defaults_hold():
    settings = load(Options(), {})
    assert (settings.default_backend, settings.server.host, settings.server.port) == (
        "claude",
        "127.0.0.1",
        8080,
    )
    assert list(settings.backends) == ["claude", "codex", "gemini", "echo"]
    assert settings.config_file == ""


def test_the_file_in_the_usual_place_is_read(a_home_of_its_own):
    path = a_home_of_its_own / ".config/clinvoker/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("server.port = 1111", encoding="utf-8")
    settings = load(Options(), {})
    assert (settings.server.port, settings.config_file) == (1111, str(path))


def test_the_command_line_names_a_file_before_the_environment_does(file, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("server.port = 2222", encoding="utf-8")
    named = {"CLINVK_CONFIG": str(other)}
    assert load(Options(), named).server.port == 2222
    assert load(of(file("server.port = 1111")), named).server.port == 1111


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(file):
    path = file("server.port = 1111")
    environ = {"CLINVK_PORT": "2222"}
    assert load(of(path), {}).server.port == 1111
    assert load(of(path), environ).server.port == 2222
    assert load(Options(config=str(path), port=3333), environ).server.port == 3333
    assert load(Options(config=str(path), port="4444"), environ).server.port == 4444


def test_every_variable_reaches_its_setting(tmp_path):
    settings = load(
        Options(),
        {
            "CLINVK_HOST": "::1",
            "CLINVK_PORT": "0",
            "CLINVK_BACKEND": "echo",
            "CLINVK_CODEX_MODEL": "gpt-5",
            "CLINVK_STATE_DIR": str(tmp_path / "state"),
            "CLINVK_LOG_LEVEL": "debug",
        },
    )
    assert (settings.server.host, settings.server.port) == ("::1", 0)
    assert settings.default_backend == "echo"
    assert settings.backends["codex"].model == "gpt-5"
    assert settings.backends["claude"].model == ""
    assert settings.state_dir == str(tmp_path / "state")
    assert settings.log.level == "debug"


def test_every_option_reaches_its_setting(tmp_path):
    settings = load(
        Options(host="localhost", port=9, backend="gemini", state_dir=str(tmp_path), log_level="error"), {}
    )
    assert (settings.server.host, settings.server.port) == ("localhost", 9)
    assert (settings.default_backend, settings.state_dir, settings.log.level) == (
        "gemini",
        str(tmp_path),
        "error",
    )


def test_an_empty_variable_counts_as_unset():
    names = (
        "CONFIG",
        "HOST",
        "PORT",
        "BACKEND",
        "CLAUDE_MODEL",
        "STATE_DIR",
        "LOG_LEVEL",
        "API_KEY",
        "API_KEYS",
    )
    assert load(Options(), {f"CLINVK_{name}": "" for name in names}) == load(Options(), {})


def test_variables_that_are_not_ours_change_nothing():
    assert load(Options(), {"PORT": "1", "CLINVK_RUN_ID": "x", "CLINVK_NOPE_MODEL": "--x"}) == load(
        Options(), {}
    )


# --- merging -----------------------------------------------------------------------------------------------------


def test_a_table_changes_only_the_keys_that_it_gives(file):
    settings = load(of(file('[backends.claude]\nmodel = "opus"\n[server]\nport = 1')), {})
    unchanged = load(Options(), {})
    assert settings.backends["claude"] == msgspec.structs.replace(unchanged.backends["claude"], model="opus")
    assert settings.backends["codex"] == unchanged.backends["codex"]
    assert settings.server == msgspec.structs.replace(unchanged.server, port=1)


def test_a_backend_of_ones_own_needs_protocol_and_command_only(file):
    settings = load(of(file('[backends.my-agent]\nprotocol = "acp"\ncommand = ["agent", "--acp"]')), {})
    assert settings.backends["my-agent"].command == ("agent", "--acp")
    assert settings.backends["my-agent"].max_processes == 8
    assert "claude" in settings.backends


def test_the_model_variable_of_a_backend_of_ones_own_has_underscores(file):
    path = file('[backends.my-agent]\nprotocol = "acp"\ncommand = ["agent"]')
    assert load(of(path), {"CLINVK_MY_AGENT_MODEL": "m1"}).backends["my-agent"].model == "m1"


def test_echo_is_run_by_our_own_interpreter():
    assert load(Options(), {}).backends["echo"].command == (sys.executable, "-m", "clinvoker.backends.echo")


def test_seconds_may_be_whole_or_fractions(file):
    server = load(of(file("[server]\nheartbeat_secs = 0.5\nkill_grace_secs = 1")), {}).server
    assert (server.heartbeat_secs, server.kill_grace_secs) == (0.5, 1.0)


def test_unset_extra_flags_differ_from_none_allowed(file):
    assert load(Options(), {}).backends["claude"].allowed_extra is None
    assert load(of(file("backends.claude.allowed_extra = []")), {}).backends["claude"].allowed_extra == ()


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        load(Options(), {}).server.port = 1


def test_loading_leaves_the_defaults_alone(file):
    before = copy.deepcopy(msgspec.structs.asdict(defaults()))
    load(of(file('[backends.claude]\nmodel = "opus"')), {"CLINVK_CODEX_MODEL": "x"})
    assert msgspec.structs.asdict(defaults()) == before


# --- paths -------------------------------------------------------------------------------------------------------


def test_the_state_directory_is_the_platforms_own_by_default(a_home_of_its_own):
    assert load(Options(), {}).state_dir == str(a_home_of_its_own / ".local/state/clinvoker")


def test_a_tilde_is_the_users_home_wherever_a_path_is_configured(file, a_home_of_its_own):
    text = 'state_dir = "~/s"\n[server]\nallowed_workdir_prefixes = ["~/src"]\n[backends.claude]\ncommand = ["~/bin/claude"]'
    settings = load(of(file(text)), {})
    assert settings.state_dir == f"{a_home_of_its_own}/s"
    assert settings.server.allowed_workdir_prefixes == (f"{a_home_of_its_own}/src",)
    assert f"{a_home_of_its_own}/.ssh" in settings.server.blocked_workdir_prefixes
    # Also where the daemon runs as root with another home.
    assert f"{pwd.getpwnam('root').pw_dir}/.ssh" in settings.server.blocked_workdir_prefixes
    assert settings.backends["claude"].command == (f"{a_home_of_its_own}/bin/claude",)


def test_a_typed_state_directory_is_relative_to_where_one_stands():
    assert load(Options(state_dir="here"), {}).state_dir == str(Path.cwd() / "here")
    assert load(Options(), {"CLINVK_STATE_DIR": "here"}).state_dir == str(Path.cwd() / "here")


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("server.port = 99999", "server.port: expected int <= 65535, got 99999"),
        ("server.port = -1", "server.port: expected int >= 0, got -1"),
        ('server.port = "80"', "server.port: expected int, got str"),
        ("server.port = true", "server.port: expected int, got bool"),
        ("server.port = 80.0", "server.port: expected int, got float"),
        (f"server.port = 0x{'f' * 5000}", "server.port: expected int <= 65535"),
        ("server.heartbeat_secs = 0", "server.heartbeat_secs: expected float > 0.0, got 0"),
        ("server.heartbeat_secs = nan", "server.heartbeat_secs: expected float > 0.0"),
        ("server.heartbeat_secs = inf", "server.heartbeat_secs: expected float <= 86400.0"),
        ("server.kill_grace_secs = 61", "server.kill_grace_secs: expected float <= 60.0, got 61"),
        ("server.max_connections = 0", "server.max_connections: expected int >= 1, got 0"),
        ("server.metrics_enabled = 1", "server.metrics_enabled: expected bool, got int"),
        ("server.host = ''", "server.host: expected a host name or an IP address"),
        ("server.host = 'unix:/x'", "server.host: expected a host name or an IP address"),
        ("server = 3", "server: expected a table, got int"),
        ("server = []", "server: expected a table, got array"),
        ("[[server]]", "server: expected a table, got array"),
        ("server.prot = 1", 'server.prot: unknown key (did you mean "port"?)'),
        ("server.zzzzzz = 1", "server.zzzzzz: unknown key"),
        ("sever.port = 1", 'sever: unknown key (did you mean "server"?)'),
        ("api_keys = ['x']", "api_keys: unknown key"),
        ("config_file = 'x'", "config_file: unknown key"),
        ("server.cors_allowed_origins = ['*']", "server.cors_allowed_origins[0]: expected an exact origin"),
        (
            "server.cors_allowed_origins = ['https://a.b', 'https://a.b/']",
            "server.cors_allowed_origins[1]: expected",
        ),
        (
            "server.cors_allowed_origins = 'https://a.b'",
            "server.cors_allowed_origins: expected array, got str",
        ),
        ("server.allowed_hosts = ['*']", "server.allowed_hosts[0]: expected a host"),
        (
            "server.allowed_workdir_prefixes = ['src']",
            "server.allowed_workdir_prefixes[0]: expected an absolute path",
        ),
        (
            "server.blocked_workdir_prefixes = ['']",
            "server.blocked_workdir_prefixes[0]: expected text that is not empty",
        ),
        ("state_dir = 'here'", "state_dir: expected an absolute path"),
        (
            "default_backend = 'nope'",
            "default_backend: no such backend; there are claude, codex, echo, gemini",
        ),
        ("backends.claude.enabled = false", "default_backend: claude is not enabled"),
        ("backends = 1", "backends: expected a table, got int"),
        ("backends.claude = 1", "backends.claude: expected a table, got int"),
        ("backends.claude.modle = ''", 'backends.claude.modle: unknown key (did you mean "model"?)'),
        ("backends.claude.model = '--yolo'", "backends.claude.model: expected a model's name"),
        ('backends.claude.model = "a\\n"', "backends.claude.model: expected a model's name"),
        ("backends.claude.models = ['']", "backends.claude.models[0]: expected a model's name"),
        ("backends.claude.protocol = 'x'", "backends.claude.protocol: expected one of claude, codex, acp"),
        (
            "backends.claude.sandbox_mode = 1",
            "backends.claude.sandbox_mode: expected one of default, read-only",
        ),
        ("backends.claude.command = []", "backends.claude.command: expected a program and its arguments"),
        ("backends.claude.command = ['']", "backends.claude.command[0]: expected text that is not empty"),
        (
            'backends.claude.command = ["a\\u0000b"]',
            "backends.claude.command[0]: expected text that is not empty",
        ),
        ("backends.claude.command = 'claude'", "backends.claude.command: expected array, got str"),
        ("backends.claude.allowed_extra = ['--a=b']", "backends.claude.allowed_extra[0]: expected a flag"),
        ("backends.claude.allowed_extra = 1", "backends.claude.allowed_extra: expected array, got int"),
        (
            "backends.claude.env = { 'A B' = 'x' }",
            "backends.claude.env.A B: expected the name of an environment variable",
        ),
        ("backends.claude.env = { A = 1 }", "backends.claude.env.A: expected str, got int"),
        (
            "backends.claude.env = { CLINVK_X = '' }",
            "backends.claude.env.CLINVK_X: CLINVK_* variables are never",
        ),
        ("backends.claude.env = []", "backends.claude.env: expected a table, got array"),
        ("backends.claude.spares = 9", "backends.claude.spares: more than max_processes (8), got 9"),
        ("backends.Own.protocol = 'acp'", "backends.Own: expected a name of at most 32"),
        (
            "backends.own.protocol = 'acp'",
            "backends.own.command: missing; a backend of your own needs protocol and",
        ),
        ("backends.own.command = ['x']", "backends.own.protocol: missing"),
        ("[backends.own]\nprotocol = 'acp'\ncommand = []", "backends.own.command: expected a program"),
        ('[backends."a\\nb"]', "backends.a\\nb: expected a name"),
        ("log.level = 'loud'", "log.level: expected one of debug, info, warning, error"),
        ("log.level = 2026-01-01", "log.level: expected one of debug, info, warning, error"),
    ],
)
def test_a_wrong_value_is_named_by_its_file_and_key(file, text, problem):
    path = file(text)
    assert told(of(path)).startswith(f"{path}: {problem}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\n\nb = = 2\n", "line 3: invalid value"),
        ("a = 1\nb =", "line 2: invalid value"),
        ("a = 1\nb", "line 2: expected '=' after a key in a key/value pair"),
        ("a = 1\na = 2\n", "line 2: cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", "line 2: not UTF-8"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "9" * 5000, "Exceeds the limit (4300 digits) for integer string conversion"),
        (b"#" * (2**20 + 1), "cannot be read: it is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_toml_is_named_with_the_line(file, text, problem):
    path = file(text)
    assert told(of(path)).startswith(f"{path}: {problem}")


def test_a_file_may_begin_with_a_byte_order_mark(file):
    assert load(of(file(b"\xef\xbb\xbfserver.port = 5")), {}).server.port == 5


def test_a_named_file_that_is_not_there_is_an_error(tmp_path):
    path = tmp_path / "nope.toml"
    assert told(of(path)) == f"{path}: no such file (named by --config)"
    assert told(None, {"CLINVK_CONFIG": str(path)}) == f"{path}: no such file (named by CLINVK_CONFIG)"


def test_a_directory_is_no_configuration(tmp_path):
    assert told(of(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_pipe_that_nobody_writes_to_does_not_stop_the_start(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert told(of(path)) == f"{path}: cannot be read: it is not a file"


def test_a_file_that_may_not_be_read_is_an_error(file, monkeypatch):
    path = file("")

    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("clinvoker.config.document.os.open", refuse)  # permissions do not stop root
    assert told(of(path)) == f"{path}: cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"CLINVK_PORT": "99999"}, "CLINVK_PORT: expected int <= 65535, got 99999"),
        ({"CLINVK_PORT": "http"}, "CLINVK_PORT: expected int, got str"),
        ({"CLINVK_PORT": " 80"}, "CLINVK_PORT: expected int, got str"),
        ({"CLINVK_PORT": "1e3"}, "CLINVK_PORT: expected int, got str"),
        ({"CLINVK_HOST": "a b"}, "CLINVK_HOST: expected a host name or an IP address"),
        ({"CLINVK_HOST": "\udcff"}, "CLINVK_HOST: expected a host name or an IP address"),
        ({"CLINVK_HOST": "0.0.0.0"}, "CLINVK_HOST: 0.0.0.0 is not a loopback address"),
        ({"CLINVK_BACKEND": "nope"}, "CLINVK_BACKEND: no such backend"),
        ({"CLINVK_CLAUDE_MODEL": "--yolo"}, "CLINVK_CLAUDE_MODEL: expected a model's name"),
        ({"CLINVK_LOG_LEVEL": "loud"}, "CLINVK_LOG_LEVEL: expected one of"),
        ({"CLINVK_API_KEY": "ключ"}, "CLINVK_API_KEY: a key may hold printable ASCII"),
        ({"CLINVK_API_KEYS": "a,b c"}, "CLINVK_API_KEYS: a key may hold printable ASCII"),
    ],
)
def test_a_wrong_variable_is_named(environ, problem):
    assert told(None, environ).startswith(f"environment: {problem}")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (Options(port=65536), "--port: expected int <= 65535, got 65536"),
        (Options(port="x"), "--port: expected int, got str"),
        (Options(host="0.0.0.0"), "--host: 0.0.0.0 is not a loopback address"),
        (Options(backend="nope"), "--backend: no such backend"),
        (Options(backend=""), "--backend: no such backend"),
        (Options(log_level="x"), "--log-level: expected one of"),
        (Options(state_dir="\0"), "--state-dir: expected text without NUL"),
    ],
)
def test_a_wrong_option_is_named(options, problem):
    assert told(options).startswith(f"command line: {problem}")


def test_a_mistake_is_the_sources_that_won():
    wide = {"CLINVK_HOST": "::"}
    assert told(None, wide).startswith("environment: CLINVK_HOST:")
    assert told(Options(host="0.0.0.0"), wide).startswith("command line: --host:")


def test_the_path_of_the_file_cannot_break_the_line():
    assert (
        told(Options(config="/nope\n\x1b[31m\udcff"))
        == r"/nope\n\x1b[31m\udcff: no such file (named by --config)"
    )


# --- reload ------------------------------------------------------------------------------------------------------


def test_a_file_that_vanished_from_the_usual_place_is_an_error_at_reload(a_home_of_its_own):
    path = a_home_of_its_own / ".config/clinvoker/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("server.port = 1111", encoding="utf-8")
    before = load(Options(), {})
    path.unlink()
    assert told(before=before) == f"{path}: the file has gone"


def test_a_file_that_never_was_is_not_missed_at_reload():
    before = load(Options(), {})
    assert load(Options(), {}, before=before) == before


# --- who may listen where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"])
def test_a_loopback_address_needs_no_key(host):
    assert is_loopback(host)
    assert load(Options(host=host), {}).server.host == host


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "192.168.1.2",
        "example.com",
        "127.1",
        "localhost.evil.example",
    ],
)
def test_any_other_address_needs_a_key(host, file):
    assert not is_loopback(host)
    path = file(f"server.host = '{host}'")
    assert told(of(path)).startswith(
        f"{path}: server.host: {host} is not a loopback address: set CLINVK_API_KEY"
    )
    key = "k" * 24
    assert load(of(path), {"CLINVK_API_KEY": key}).server.host == host
    assert load(of(path), {"CLINVK_API_KEYS": key}).server.host == host


def test_a_key_that_can_be_guessed_is_none_for_any_other_address(file):
    path = file("server.host = '0.0.0.0'")
    for keys in ({"CLINVK_API_KEY": "k" * 23}, {"CLINVK_API_KEYS": f"{'k' * 24},changeme"}):
        assert "keys must have 24 characters or more" in told(of(path), keys)
    assert load(Options(), {"CLINVK_API_KEY": "k"}).api_keys


def test_blanks_and_commas_alone_are_no_key():
    told(Options(host="::"), {"CLINVK_API_KEY": " ", "CLINVK_API_KEYS": " , ,"})


# --- keys --------------------------------------------------------------------------------------------------------


def test_keys_come_from_both_variables_each_once():
    keys = load(Options(), {"CLINVK_API_KEY": "a", "CLINVK_API_KEYS": " b,a,,c "}).api_keys
    assert [key.reveal() for key in keys] == ["a", "b", "c"]


def test_a_comma_in_the_single_key_belongs_to_it():
    assert [key.reveal() for key in load(Options(), {"CLINVK_API_KEY": "a,b"}).api_keys] == ["a,b"]


def test_secrets_are_equal_by_their_text():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_key_never_shows_in_settings_however_they_are_written(file):
    path = file(f"backends.claude.env = {{ ANTHROPIC_API_KEY = '{KEY}' }}")
    settings = load(of(path), {"CLINVK_API_KEY": KEY, "CLINVK_API_KEYS": f"{KEY}2"})
    assert settings.api_keys[0].reveal() == settings.backends["claude"].env["ANTHROPIC_API_KEY"] == KEY
    for shown in (
        repr(settings),
        str(settings),
        f"{settings}",
        f"{settings.api_keys[0]!s:>30}",
        f"{settings.api_keys}",
    ):
        assert "canary" not in shown
    assert "ANTHROPIC_API_KEY" in repr(settings)


def test_a_secret_cannot_leave_by_encoding_or_by_its_attributes():
    secret = Secret(KEY)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)


@pytest.mark.parametrize(
    "text",
    [
        f"backends.claude.env = {{ A = ['{KEY}'] }}",
        f"backends.claude.env = '{KEY}'",
        f"backends.claude.model = '-{KEY}'",
        f"server.host = '-{KEY} '",
        f"server.port = '{KEY}'",
        f"server.cors_allowed_origins = ['{KEY}']",
        f"log.level = '{KEY}'",
        f"api_keys = ['{KEY}']",
        f"server.api_key = '{KEY}'",
        f"server.api_key = '{KEY}",
        f"server.api_key = {KEY}",
    ],
)
def test_no_error_repeats_a_text_of_the_file(file, text):
    assert "canary" not in told(of(file(text)), {"CLINVK_API_KEY": KEY})


@pytest.mark.parametrize("name", ["CLINVK_API_KEY", "CLINVK_API_KEYS", "CLINVK_PORT", "CLINVK_CLAUDE_MODEL"])
def test_no_error_repeats_a_text_of_the_environment(name):
    assert "canary" not in told(None, {name: f"{KEY} \n{KEY}"})


def test_variables_of_a_built_in_backend_stay_when_others_are_given(file):
    env = load(of(file("backends.gemini.env = { MINE = 'x', NO_BROWSER = '0' }")), {}).backends["gemini"].env
    assert env["MINE"] == "x"
    assert env["NO_BROWSER"] == "0"
    assert env["GEMINI_CLI_NO_RELAUNCH"] == "true"


def test_keys_that_would_have_to_come_from_gopass_are_refused_not_passed_over():
    told(Options(), {"CLINVK_API_KEYS_GOPASS_PATH": "clinvoker/keys"})
