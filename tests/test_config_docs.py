"""The documented configuration file and the built-in defaults are the same, both ways."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from clinvoker.config import Options, defaults, load

DOCUMENT = Path(__file__).parent.parent / "config" / "clinvoker.toml"
TEXT = DOCUMENT.read_text(encoding="utf-8")
NOT_IN_THE_FILE = {"api_keys", "config_file"}


def plain(value):
    """Bring structs, tuples and mappings into the form in which TOML is read."""
    if isinstance(value, msgspec.Struct):
        return {key: plain(each) for key, each in msgspec.structs.asdict(value).items() if each is not None}
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, tuple) else value


def flat(table, path=""):
    """Give every leaf its dotted path. An empty table is a leaf."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def tables_of(text):
    """Split the file at its table headers: path of the table -> its lines."""
    tables, path = {"": []}, ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(.+)\]", line):
            path = header[1]
        tables.setdefault(path, []).append(line)
    return tables


IN_FILE = dict(flat(tomllib.loads(TEXT)))
DEFAULTS = {key: value for key, value in flat(plain(defaults())) if key not in NOT_IN_THE_FILE}


def test_every_setting_is_in_the_file():
    assert set(DEFAULTS) - set(IN_FILE) == set()


def test_the_file_has_no_setting_that_does_not_exist():
    assert set(IN_FILE) - set(DEFAULTS) == set()


@pytest.mark.parametrize("key", sorted(DEFAULTS))
def test_the_file_shows_the_default_of(key):
    assert IN_FILE[key] == DEFAULTS[key]


@pytest.mark.parametrize("name", sorted(defaults().backends))
def test_a_setting_without_a_default_is_shown_as_a_comment_in_backend(name):
    unset = [key for key, value in msgspec.structs.asdict(defaults().backends[name]).items() if value is None]
    lines = tables_of(TEXT)[f"backends.{name}"]
    assert unset == ["allowed_extra"]
    assert any(re.match(rf"# {key} = ", line) for key in unset for line in lines)


@pytest.mark.parametrize("path", ["", "server", "backends.claude", "session", "parallel", "log"])
def test_every_key_has_a_comment_above_it_in_table(path):
    lines = tables_of(TEXT)[path]
    bare = [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if re.match(r"\w+ = ", line) and not above.startswith("# ")
    ]
    assert bare == []


def test_the_file_as_it_is_changes_nothing():
    shown, without = load(Options(config=str(DOCUMENT)), {}), load(Options(config="/dev/null"), {})
    assert msgspec.structs.replace(shown, config_file="") == msgspec.structs.replace(without, config_file="")


def test_the_example_of_a_backend_of_ones_own_works(tmp_path):
    _, _, example = TEXT.partition("# A backend of your own")
    lines = [line.removeprefix("# ") for line in example.splitlines() if re.match(r"# (\[|\w+ = )", line)]
    file = tmp_path / "config.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    assert load(Options(config=str(file)), {}).backends["opencode"].command == ("opencode", "acp")


def test_the_file_tells_of_every_variable():
    for variable in (
        "HOST",
        "PORT",
        "BACKEND",
        "<BACKEND>_MODEL",
        "STATE_DIR",
        "LOG_LEVEL",
        "API_KEY",
        "API_KEYS",
    ):
        assert f"CLINVK_{variable}" in TEXT
