"""The protocols that a backend can speak: one line each."""

from collections.abc import Callable, Mapping

from actors.driver import Driver
from clinvoker.backends.acp import AcpDriver
from clinvoker.backends.claude import ClaudeDriver
from clinvoker.backends.codex import CodexDriver
from clinvoker.config import BackendSettings

MakeDriver = Callable[[str, BackendSettings, Mapping[str, str]], Driver]

PROTOCOLS: Mapping[str, MakeDriver] = {
    "claude": ClaudeDriver,
    "codex": CodexDriver,
    "acp": AcpDriver,
}
