"""Simon Willison's llm 0.36, told of the daemon by its own configuration of OpenAI-compatible models."""

import json
import subprocess

import pytest

from tests.clients.conftest import KEY
from tests.support.clients import ensure_environment

pytestmark = [pytest.mark.real, pytest.mark.daemon]


@pytest.fixture
def llm(url, environment, tmp_path):
    """One call of the program."""
    models = [
        {
            "model_id": name,
            "model_name": name,
            "api_base": f"{url}/openai/v1",
            "api_key_name": "clinvoker",
        }
        for name in ("claude", "codex", "nobody")
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # JSON is YAML
    (tmp_path / "keys.json").write_text(json.dumps({"clinvoker": KEY}))
    program = ensure_environment("llm") / "llm"

    def asking(*words, model="claude"):
        return subprocess.run(
            [str(program), "-m", model, *words],
            env={**environment, "LLM_USER_PATH": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return asking


@pytest.mark.parametrize("how", [(), ("--no-stream",)])
def test_a_prompt_is_answered_streamed_and_whole(llm, how):
    assert llm("hello llm", *how).stdout == "echo: hello llm\n"


def test_a_chat_reaches_the_agent_as_single_messages(llm, model):
    llm("first for llm [[history]]")
    again = llm("-c", "second for llm [[history]]").stdout
    assert again == "first for llm [[history]] | second for llm [[history]]\n"
    assert len(model.of("for llm [[history]]")) == 2


@pytest.mark.parametrize(
    ("agent", "prompt", "words"),
    [
        ("nobody", "hello", "the model 'nobody' does not exist"),
        ("codex", "[[err:429]] llm", "429"),
        ("codex", "[[err:401]] llm", "Incorrect API key"),
    ],
)
def test_a_failing_call_says_why(llm, agent, prompt, words):
    done = llm(prompt, model=agent)
    assert done.returncode == 1
    assert words in done.stderr
