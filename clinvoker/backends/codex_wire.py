"""What codex's app-server says, as far as we listen: typed shapes of its notifications, requests and answers.

Read off codex 0.169.0 (`codex app-server generate-ts --experimental`, and its transcripts). Unknown members are skipped
and missing ones have defaults, so that a newer codex is understood as far as it still speaks the same.
"""

from typing import Any

from msgspec import Struct, field


class Delta(Struct, rename="camel", gc=False):
    """A piece of text: of the answer, or of reasoning."""

    thread_id: str
    turn_id: str
    delta: str


class PartNotice(Struct, rename="camel", gc=False):
    """A further part of the reasoning summary begins."""

    thread_id: str
    turn_id: str
    summary_index: int = 0


class Item(Struct, rename="camel"):
    """Anything a turn consists of; `type` says which members mean something."""

    type: str = ""
    id: str = ""
    text: str = ""
    status: Any = None
    command: Any = None
    cwd: Any = None
    aggregated_output: str | None = None
    exit_code: int | None = None
    changes: list[dict[str, Any]] | None = None
    server: Any = None
    namespace: Any = None
    tool: Any = None
    arguments: Any = None
    prompt: Any = None
    result: Any = None
    error: Any = None
    content_items: Any = None
    success: bool | None = None
    query: Any = None
    action: Any = None
    path: Any = None
    revised_prompt: Any = None
    duration_ms: Any = None
    results: Any = None
    summary: list[str] = []
    content: Any = None


class ItemNotice(Struct, rename="camel"):
    """An item begins, or is complete."""

    thread_id: str
    turn_id: str
    item: Item


class Trouble(Struct, rename="camel"):
    """Why a turn failed, or why codex tries again. `codex_error_info` is a word, or one as the key of details."""

    message: str = ""
    codex_error_info: Any = None
    additional_details: str | None = None


class TroubleNotice(Struct, rename="camel"):
    """Something went wrong; the turn goes on if codex will retry."""

    thread_id: str
    turn_id: str
    error: Trouble
    will_retry: bool = False


class Tokens(Struct, rename="camel"):
    """A count of tokens; input includes cached."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0


class TokenUsage(Struct, rename="camel"):
    """`last` is of one call of the model, of which a turn with tools makes several; `total` is of the whole thread."""

    total: Tokens
    last: Tokens


class UsageNotice(Struct, rename="camel"):
    """A call of the model is complete."""

    thread_id: str
    turn_id: str
    token_usage: TokenUsage


class TurnState(Struct, rename="camel"):
    """A turn; that of a subagent names the turn it works for as `root_turn_id`."""

    id: str
    status: str = ""
    error: Trouble | None = None
    root_turn_id: str | None = None


class TurnNotice(Struct, rename="camel"):
    """A turn has started, or has ended."""

    thread_id: str
    turn: TurnState


class TurnStarted(Struct):
    """The answer to `turn/start`."""

    turn: TurnState


class _Thread(Struct):
    id: str


class ThreadOpened(Struct):
    """The answer to `thread/start` and `thread/resume`."""

    thread: _Thread
    model: str = ""
    cwd: str = ""


class Account(Struct, rename="camel"):
    """The answer to `account/read`. A key in the environment is no account (0.169.0)."""

    account: Any = None
    requires_openai_auth: bool = False


class Asked(Struct, rename="camel"):
    """Any request that wants a decision: on a command, a change of files, more permissions, a call of an MCP server; or a call of a tool of ours."""

    thread_id: str
    item_id: str = ""
    command: Any = None
    cwd: Any = None
    reason: str | None = None
    permissions: dict[str, Any] | None = None
    available_decisions: list[Any] | None = None
    server_name: str = ""
    message: str = ""
    meta: Any = field(name="_meta", default=None)
    tool: str = ""
    arguments: Any = None
