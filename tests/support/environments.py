"""Isolation: what makes each CLI talk to the fake model only, from a home of its own, and to nobody else.

Every function starts from an allow-list, never from the caller's whole environment: a developer's keys must not leak
into a test, nor a test's settings into the developer's home.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

CODEX_MODEL = "gpt-6.1-sol"
GEMINI_MODEL = "gemini-2.5-flash"
OPENCODE_MODEL = "fake/fake-model"
_ALLOWED = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE")
_GEMINI_SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "general": {
        "enableAutoUpdate": False,
        "enableAutoUpdateNotification": False,
        "maxAttempts": 2,
        "retryFetchErrors": False,
    },
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
}


@dataclass(frozen=True, slots=True)
class Setup:
    """Environment variables, and flags to put right after the program's own first words."""

    env: dict[str, str]
    flags: list[str] = field(default_factory=list)


def base(home: Path) -> dict[str, str]:
    """Give what every CLI gets; makes the home and a private TMPDIR in it."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    allowed = {name: os.environ[name] for name in _ALLOWED if name in os.environ}
    return allowed | {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "NO_COLOR": "1",
        "TERM": "dumb",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def claude(base_url: str, home: Path, *, retries: int = 2) -> Setup:
    """Set up claude."""
    env = base(home) | {
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": "fake-key",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(retries),
        "IS_SANDBOX": "1",  # else it refuses some permission modes to root
    }
    return Setup(env)


def codex(base_url: str, home: Path, *, retries: int = 2) -> Setup:
    """Set up codex; the flags work for `codex FLAGS app-server` and `codex FLAGS exec` alike."""
    codex_home = home / ".codex"
    codex_home.mkdir(parents=True, exist_ok=True)  # set but missing is fatal
    env = base(home) | {"CODEX_HOME": str(codex_home), "FAKE_KEY": "fake-key"}
    provider = (
        f'{{name="fake",base_url="{base_url}/v1",env_key="FAKE_KEY",wire_api="responses",'
        f"request_max_retries={retries},stream_max_retries={retries}}}"
    )
    settings = (
        'model_provider="fake"',
        f"model_providers.fake={provider}",
        f'model="{CODEX_MODEL}"',
        "analytics.enabled=false",  # else it lingers 5 s after every turn
        "check_for_update_on_startup=false",
    )
    flags = [word for setting in settings for word in ("-c", setting)]
    flags += ["--disable", "plugins", "--disable", "unbounded_connection_retries"]
    return Setup(env, flags)


def gemini(base_url: str, home: Path) -> Setup:
    """Set up gemini, by the user settings of a home of its own.

    GEMINI_CLI_SYSTEM_SETTINGS_PATH will not do: the file is ignored, with no more than a warning, unless it and every
    directory above it belong to root and only root may write there, which nothing under /tmp fulfils.
    """
    settings = home / ".gemini" / "settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(_GEMINI_SETTINGS))
    env = base(home) | {
        "GEMINI_API_KEY": "fake-key",
        "GOOGLE_GEMINI_BASE_URL": base_url,
        "GEMINI_CLI_NO_RELAUNCH": "true",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_HOME": str(home),
    }
    return Setup(env, ["-m", GEMINI_MODEL])


def opencode(base_url: str, home: Path) -> Setup:
    """Set up opencode with one provider, one model, and nothing fetched."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "fake",
        "options": {"baseURL": f"{base_url}/v1", "apiKey": "fake-key"},
        "models": {"fake-model": {"name": "fake", "limit": {"context": 200_000, "output": 8_000}}},
    }
    config = {
        "provider": {"fake": provider},
        "model": OPENCODE_MODEL,
        "small_model": OPENCODE_MODEL,
        "autoupdate": False,
        "share": "disabled",
    }
    env = base(home) | {
        "OPENCODE_CONFIG_CONTENT": json.dumps(config),
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "npm_config_offline": "true",  # else it installs @opencode-ai/plugin from the registry
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_STATE_HOME": str(home / ".local/state"),
    }
    return Setup(env)
