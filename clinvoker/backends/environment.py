"""The environment of an agent: an allow list, so that the daemon's own secrets reach no agent and no tool of one.

Nothing passes because nobody thought of it. What passes is what any program needs of a user's session, what the
configuration lets through by name, and what it sets outright.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from clinvoker.config.settings import BackendSettings

TEMPORARY = ".tmp"
"""The agent's `TMPDIR` within its scratch directory; hidden, for the scratch directory may be its working directory.

CLIs leave sockets and caches in `TMPDIR`, and take those of others they find there for their own.
"""

PASSED = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "XDG_*",
    "SSL_CERT_*",
    "NODE_EXTRA_CA_CERTS",
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
"""What every agent gets of the daemon's environment."""

WITHHELD = ("CLINVK_*", "CLINVOKER_*", "NOTIFY_SOCKET", "LISTEN_*")
"""Ours and the service manager's: no agent gets these, whatever the configuration says."""

FIXED = {"TERM": "dumb", "NO_COLOR": "1"}
"""An agent's output is read by a program."""


def agent_environment(settings: BackendSettings, environ: Mapping[str, str], scratch: str) -> dict[str, str]:
    """Return the whole environment of an agent; `scratch` is a directory of its own.

    The configuration's literal `env` has the last word. The directory that `TMPDIR` names has yet to be made.
    """
    passed = PASSED + settings.env_passthrough
    inherited = {name: value for name, value in environ.items() if _matches(name, passed)}
    whole = {**inherited, **FIXED, "TMPDIR": f"{scratch}/{TEMPORARY}", **settings.env}
    return {name: value for name, value in whole.items() if not _matches(name, WITHHELD)}


def tool_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program of the user's that is no agent."""
    return {**{name: value for name, value in environ.items() if _matches(name, PASSED)}, **FIXED}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
