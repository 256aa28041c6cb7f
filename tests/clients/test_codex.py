"""Codex itself, with the daemon as its `responses` provider. It offers its own tools with every request."""

import subprocess

import pytest

from tests.clients.conftest import KEY
from tests.support import environments
from tests.support.clis import ensure_installed

pytestmark = [pytest.mark.real, pytest.mark.daemon]


def test_its_own_tools_are_refused_in_words_that_it_shows(url, tmp_path):
    setup = environments.codex(f"{url}/openai", tmp_path / "home")
    flags = [flag.replace(environments.CODEX_MODEL, "claude") for flag in setup.flags]
    done = subprocess.run(
        [*ensure_installed().codex, *flags, "exec", "--json", "--skip-git-repo-check", "hello from codex"],
        env={**setup.env, "FAKE_KEY": KEY},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "the agents behind this daemon use their own tools" in done.stdout
