"""From a model's name to a backend."""

import pytest

from actors.errors import Code, Refusal
from clinvoker.chat.models import Choice, listed, resolve
from tests.test_choice import EVERYTHING
from tests.test_service import make_backend

BACKENDS = {
    "claude": make_backend("claude", EVERYTHING, models=("claude-*", "opus")),
    "codex": make_backend("codex", EVERYTHING, models=("gpt-*", "o3*")),
}


@pytest.mark.parametrize(
    ("name", "choice"),
    [
        ("claude", Choice("claude", "")),
        ("claude/sonnet", Choice("claude", "sonnet")),
        ("claude/any/model", Choice("claude", "any/model")),
        ("claude-opus-9", Choice("claude", "claude-opus-9")),
        ("opus", Choice("claude", "opus")),
        ("gpt-7", Choice("codex", "gpt-7")),
        ("o3", Choice("codex", "o3")),
        ("claude-via-codex", Choice("codex", "")),
        ("claude-via-codex/gpt-7", Choice("codex", "gpt-7")),
        ("claude-via-claude", Choice("claude", "")),
    ],
)
def test_a_name_leads_to_its_backend(name, choice):
    assert resolve(BACKENDS, name) == choice


@pytest.mark.parametrize(
    "name",
    [
        *("", "gemini", "gemini/pro", "llama", "claude/", "/x", "claude/--flag", "CLAUDE"),
        *(
            "claude-via-",
            "claude-via-gemini",
            "claude-via-gemini/pro",
            "claude-via-codex/",
            "claude-via-gpt-7",
        ),
    ],
)
def test_a_name_that_is_nobodys_never_falls_to_somebody(name):
    with pytest.raises(Refusal) as refused:
        resolve(BACKENDS, name)
    assert (refused.value.code, refused.value.param) == (Code.MODEL_NOT_FOUND, "model")


def test_the_list_has_the_backends_and_the_names_that_are_no_patterns():
    assert listed(BACKENDS) == ["claude", "codex", "opus"]
