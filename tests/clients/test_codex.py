"""Codex itself, with the daemon as its `responses` provider. It offers its own tools with every request."""

import subprocess

import pytest

from tests.clients.conftest import KEY
from tests.support import environments
from tests.support.clis import ensure_installed

pytestmark = [pytest.mark.real, pytest.mark.daemon]


@pytest.fixture
def codex(url, tmp_path):
    """Run Codex once, with a model of the daemon's."""
    setup = environments.codex(f"{url}/openai", tmp_path / "home")

    def run(model, prompt):
        flags = [flag.replace(environments.CODEX_MODEL, model) for flag in setup.flags]
        return subprocess.run(
            [*ensure_installed().codex, *flags, "exec", "--json", "--skip-git-repo-check", prompt],
            env={**setup.env, "FAKE_KEY": KEY},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_it_is_answered_by_claude(codex):
    done = codex("claude", "hello from codex")
    assert done.returncode == 0
    assert "echo: hello from codex" in done.stdout


def test_a_model_that_nobody_has_is_refused_in_words_that_it_shows(codex):
    done = codex("nobodys-model", "hello from codex")
    assert done.returncode == 1
    assert "nobodys-model" in done.stdout


@pytest.mark.parametrize("mark", ["[[err:400]]", "[[mid:cutalways]]"])
def test_a_turn_that_fails_is_executed_once_however_often_it_tries(codex, daemon, mark):
    before = len(daemon.logged("run ended"))
    done = codex("claude", f"{mark} from codex")
    assert done.returncode == 1
    assert len(daemon.logged("run ended")) == before + 1
