"""What can be configured: one frozen struct per table of the TOML file, each value with its default and its bounds.

The meaning of every key is told in `config/clinvoker.toml`; a test keeps that file and these defaults equal.
Every `*_secs` is in seconds and may have a fraction; every `*_bytes` counts bytes.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import asdict

from .secret import Secret

Protocol = Literal["claude", "codex", "acp"]
ApprovalMode = Literal["default", "auto", "none", "always"]
SandboxMode = Literal["default", "read-only", "workspace", "full"]
LogLevel = Literal["debug", "info", "warning", "error"]

_DAY = 86_400
_GIB = 2**30

Secs = Annotated[float, Meta(gt=0, le=_DAY)]
Ttl = Annotated[float, Meta(gt=0, le=30 * _DAY)]
Bytes = Annotated[int, Meta(ge=1024, le=_GIB)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Share = Annotated[int, Meta(ge=1, le=256)]
Many = Annotated[int, Meta(ge=1, le=65_536)]


def _pattern(regex: str, description: str) -> Meta:
    """Bound a text; `description` is what its error message asks for."""
    return Meta(pattern=rf"\A{regex}\Z", description=description)


# Text that ends in an argument list or an environment cannot hold NUL; a model must not read as a flag.
Text = Annotated[str, _pattern(r"[^\0]*", "text without NUL")]
Word = Annotated[str, _pattern(r"[^\0]+", "text that is not empty and has no NUL")]
Line = Annotated[str, _pattern(r"[^\x00-\x1f\x7f]{0,256}", "one line of at most 256 characters")]
Tag = Annotated[str, _pattern(r"[^\x00-\x1f\x7f]{1,64}", "one line of 1 to 64 characters")]
Model = Annotated[
    str,
    _pattern(
        r"([A-Za-z0-9][\w.:/@\[\]-]{0,127})?",
        "a model's name: at most 128 letters, digits and ._:/@[]- beginning with a letter or digit",
    ),
]
ModelPattern = Annotated[
    str, _pattern(r"[\w.:/@*?\[\]-]{1,128}", "a model's name, where * and ? stand for any text")
]
Flag = Annotated[str, _pattern(r"--?[A-Za-z][A-Za-z0-9-]*", "a flag like --name, without a value")]
EnvName = Annotated[str, _pattern(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]
OptionalEnvName = Annotated[
    str, _pattern(r"([A-Za-z_][A-Za-z0-9_]*)?", "the name of an environment variable, or nothing")
]
EnvPattern = Annotated[
    str,
    _pattern(r"[A-Za-z_*][A-Za-z0-9_*]*", "the name of an environment variable, where * stands for any text"),
]
Host = Annotated[str, _pattern(r"[A-Za-z0-9.:%_-]{1,255}", "a host name or an IP address")]
HostName = Annotated[
    str, _pattern(r"[A-Za-z0-9.:\[\]_-]{1,255}", "a host as a browser names it, no wildcard")
]
Origin = Annotated[
    str,
    _pattern(
        r"[a-z][a-z0-9+.-]*://[^/\s*]+", "an exact origin like https://app.example.com, no wildcard, no path"
    ),
]

Endpoint = Annotated[str, _pattern(r"(https?://[^\s?#]+)?", "an http:// or https:// URL, or nothing")]


GopassPath = Annotated[
    str,
    _pattern(
        r"([^\x00-\x1f\x7f-][^\x00-\x1f\x7f]{0,255})?", "the path of an entry, which begins with no hyphen"
    ),
]
Network = Annotated[str, _pattern(r"[0-9A-Fa-f.:/]{1,64}", "an IP address, or a network like 10.0.0.0/8")]
Digest = Annotated[
    str,
    _pattern(r"sha256:[0-9a-f]{64}", "a hash as `clinvoker keys add` writes it: sha256: and 64 hex digits"),
]
Moment = Annotated[
    str, _pattern(r"\d{4}-\d\d-\d\d([T ][0-9:.]{5,15}(Z|[+-]\d\d:\d\d)?)?", "a date, or a date with a time")
]
PerSecond = Annotated[float, Meta(gt=0, le=1_000_000)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file."""


class ServerSettings(Table, frozen=True, kw_only=True):
    """`[server]`: the listener, its limits, and who may call."""

    host: Host = "127.0.0.1"
    port: Port = 8080
    unix_socket: Text = ""
    unix_socket_uids: tuple[Annotated[int, Meta(ge=0, le=2**32 - 2)], ...] = ()
    request_timeout_secs: Secs = 300
    read_timeout_secs: Secs = 30
    write_timeout_secs: Secs = 300
    idle_timeout_secs: Secs = 120
    first_event_timeout_secs: Secs = 120
    idle_event_timeout_secs: Secs = 120
    permission_timeout_secs: Secs = 60
    client_tool_timeout_secs: Secs = 300
    client_tool_grace_secs: Secs = 10
    reattach_grace_secs: Annotated[float, Meta(ge=0, le=600)] = 1
    heartbeat_secs: Secs = 15
    write_stall_secs: Secs = 30
    kill_grace_secs: Annotated[float, Meta(gt=0, le=60)] = 3
    shutdown_grace_secs: Annotated[float, Meta(gt=0, le=600)] = 10
    max_request_body_bytes: Bytes = 10_485_760
    max_transcript_bytes: Bytes = 16_777_216
    max_connections: Many = 512
    max_concurrent_runs: Annotated[int, Meta(ge=1, le=1024)] = 32
    max_concurrent_runs_per_caller: Annotated[int, Meta(ge=0, le=1024)] = 0
    queue_size: Annotated[int, Meta(ge=0, le=65_536)] = 128
    queue_timeout_secs: Secs = 120
    rate_limit_enabled: bool = False
    rate_limit_rps: PerSecond = 10
    rate_limit_burst: Count = 20
    trusted_proxies: tuple[Network, ...] = ()
    api_keys_gopass_path: GopassPath = ""
    cors_allowed_origins: tuple[Origin, ...] = ()
    allowed_hosts: tuple[HostName, ...] = ()
    allowed_workdir_prefixes: tuple[Word, ...] = ()
    blocked_workdir_prefixes: tuple[Word, ...] = (
        "/boot",
        "/dev",
        "/etc",
        "/proc",
        "/sys",
        "~/.gnupg",
        "~/.ssh",
        "~root/.ssh",
    )
    max_approval_mode: ApprovalMode = "auto"
    max_sandbox_mode: SandboxMode = "full"
    metrics_enabled: bool = True


class BackendSettings(Table, frozen=True, kw_only=True):
    """`[backends.NAME]`: one agent CLI, how to start it, and how many of it to hold.

    After loading, `command` is complete: a program and its first arguments; the driver adds its protocol's own.
    `allowed_extra` is None when the driver's own list applies. `model` is empty for the agent's own choice.
    """

    enabled: bool = True
    title: Line = ""
    protocol: Protocol
    command: tuple[Word, ...]
    model: Model = ""
    models: tuple[ModelPattern, ...] = ()
    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"
    system_prompt: Text = ""
    system_prompt_env: OptionalEnvName = ""
    extra_flags: tuple[Word, ...] = ()
    allowed_extra: tuple[Flag, ...] | None = None
    env: Mapping[EnvName, Text] = {}
    env_passthrough: tuple[EnvPattern, ...] = ()
    spares: Annotated[int, Meta(ge=0, le=64)] = 1
    max_processes: Share = 8
    max_spawning: Annotated[int, Meta(ge=1, le=64)] = 2
    max_idle: Annotated[int, Meta(ge=0, le=256)] = 4
    max_conversations: Annotated[int, Meta(ge=1, le=4096)] = 64
    idle_ttl_secs: Ttl = 600
    start_timeout_secs: Annotated[float, Meta(gt=0, le=600)] = 30

    def __repr__(self) -> str:
        """Show everything but the values of `env`, which may be keys."""
        shown = {**asdict(self), "env": dict.fromkeys(self.env, "…")}
        return f"BackendSettings({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


class KeyDefaults(Table, frozen=True, kw_only=True):
    """`[keys.NAME.defaults]`: what holds for the key's requests that say nothing. `model` is for `backend` alone."""

    backend: Annotated[str, Meta(max_length=32)] = ""
    model: Model = ""
    workdir: Text = ""
    approval_mode: ApprovalMode = "default"
    sandbox_mode: SandboxMode = "default"


class KeySettings(Table, frozen=True, kw_only=True):
    """`[keys.NAME]`: one caller's key, and what it may. Empty lists mean all, None means no limit of its own.

    `hash` is the SHA-256 of the key. That is enough, where a password would need a slow hash with salt: the keys that
    `clinvoker keys add` makes are 256 random bits, which nobody can try out or look up; and it is checked for each request.
    """

    hash: Digest
    backends: tuple[str, ...] = ()
    workdirs: tuple[Word, ...] = ()
    rate: PerSecond | None = None
    burst: Count | None = None
    max_concurrent: Annotated[int, Meta(ge=1, le=1024)] | None = None
    daily_tokens: Annotated[int, Meta(ge=1, le=10**15)] | None = None
    expires: Moment | None = None
    defaults: KeyDefaults = KeyDefaults()


class SessionSettings(Table, frozen=True, kw_only=True):
    """`[session]`: what is remembered of conversations."""

    retention_days: Annotated[int, Meta(ge=1, le=36_500)] = 30
    default_tags: tuple[Tag, ...] = ()


class TelemetrySettings(Table, frozen=True, kw_only=True):
    """`[telemetry]`: where traces go."""

    otlp_endpoint: Endpoint = ""


class ParallelSettings(Table, frozen=True, kw_only=True):
    """`[parallel]`: runs of several tasks."""

    max_workers: Annotated[int, Meta(ge=1, le=1024)] = 3
    max_parallel: Annotated[int, Meta(ge=1, le=1024)] = 64
    max_tasks: Annotated[int, Meta(ge=1, le=4096)] = 256
    fail_fast: bool = False
    check_timeout_secs: Secs = 120


class LogSettings(Table, frozen=True, kw_only=True):
    """`[log]`: what is worth a line."""

    level: LogLevel = "info"


class Settings(Table, frozen=True, kw_only=True):
    """The whole configuration. `load` makes it; it is passed to whoever needs a part of it.

    Once loaded, `state_dir` is an absolute path and `config_file` the path of the file that was read, empty without
    one. `api_keys` come from the environment and gopass, never from the file. `keys_needed`: callers must present a key,
    also when there is none that would do.
    """

    default_backend: str = "claude"
    state_dir: Text = ""
    server: ServerSettings = ServerSettings()
    backends: Mapping[str, BackendSettings] = {}
    session: SessionSettings = SessionSettings()
    parallel: ParallelSettings = ParallelSettings()
    log: LogSettings = LogSettings()
    keys: Mapping[str, KeySettings] = {}
    telemetry: TelemetrySettings = TelemetrySettings()
    api_keys: tuple[Secret, ...] = ()
    keys_needed: bool = False
    config_file: str = ""
