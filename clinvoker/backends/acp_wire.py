"""The messages of the Agent Client Protocol (version 1) that we read and write, as far as we need them.

Every field has a default: agents leave out, and add, what they like. Names follow agentclientprotocol.com's schema;
what only one agent sends is marked with its name and version.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

VERSION = 1
NULL = Raw(b"null")


class Wire(Struct, rename="camel"):
    """A message or a part of one."""


# initialize


class PromptCapabilities(Struct, rename="camel", frozen=True):
    """What a prompt may hold beside text."""

    image: bool = False


class SessionCapabilities(Struct, rename="camel", frozen=True):
    """Methods that an agent offers by naming them, with an object that is empty so far."""

    close: dict[str, Any] | None = None
    resume: dict[str, Any] | None = None


class AgentCapabilities(Struct, rename="camel", frozen=True):
    """What the agent at the other end can do."""

    load_session: bool = False
    prompt_capabilities: PromptCapabilities = PromptCapabilities()
    session_capabilities: SessionCapabilities = SessionCapabilities()
    mcp_capabilities: dict[str, Any] | None = None
    """Every agent must start the MCP servers that it is told of; one that does not says nothing of MCP at all."""


class Initialized(Wire):
    """The answer to `initialize`."""

    protocol_version: int
    agent_capabilities: AgentCapabilities = AgentCapabilities()


# session/new, session/load, session/resume


class Models(Wire):
    """The models of a session where the agent has `session/set_model` (gemini 0.61.0)."""

    current_model_id: str = ""


class ConfigOption(Wire):
    """A setting of a session where the agent has `session/set_config_option` (opencode 1.18.33)."""

    id: str
    category: str | None = None
    current_value: Any = None


class Session(Wire):
    """A session as the agent describes it; only a new one is told its id."""

    session_id: str = ""
    models: Models | None = None
    config_options: list[ConfigOption] | None = None


# session/update


class Text(Struct, gc=False):
    """A content block, of which only text is of use."""

    type: str = ""
    text: str = ""


class Update(Wire, gc=False):
    """What all updates have; `content` is one block in some and a list in others."""

    session_update: str
    content: Raw = NULL
    message_id: str | None = None


class SessionUpdate(Wire, gc=False):
    """The parameters of `session/update`."""

    session_id: str
    update: Update


class ToolContent(Wire):
    """A piece of what a tool shows: a content block, or a changed file."""

    type: str = ""
    content: Text | None = None
    path: str = ""
    old_text: str | None = None
    new_text: str | None = None


class Location(Wire):
    """A file that a tool works on."""

    path: str = ""


class ToolCall(Wire):
    """A tool call, or what is new about one: what is None is as it was."""

    tool_call_id: str
    title: str | None = None
    kind: str | None = None
    status: str | None = None
    content: list[ToolContent] | None = None
    locations: list[Location] | None = None
    raw_input: Any = None
    raw_output: Any = None


class ToolUpdate(Wire):
    """The parameters of `session/update` for a tool call."""

    update: ToolCall


class Cost(Wire):
    """What a session has cost so far."""

    amount: float
    currency: str


class CostSoFar(Wire):
    """An update of the context's size and the session's cost (opencode 1.18.33)."""

    cost: Cost | None = None


class CostUpdate(Wire):
    """The parameters of `session/update` for that."""

    update: CostSoFar


class Commands(Wire):
    """The commands that an agent finds at the beginning of a prompt, of which only the number is of use."""

    available_commands: list[Raw] | None = None


class CommandsUpdate(Wire):
    """The parameters of `session/update` for those."""

    update: Commands


# session/request_permission


class PermissionOption(Wire):
    """An answer that the agent takes."""

    option_id: str
    kind: str = ""


class PermissionRequest(Wire):
    """The parameters of `session/request_permission`."""

    session_id: str
    tool_call: ToolCall
    options: list[PermissionOption] = []


# session/prompt


class TokenUsage(Wire):
    """The tokens of a turn; no count is part of another (opencode 1.18.33)."""

    input_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int | None = None
    cached_read_tokens: int | None = None
    cached_write_tokens: int | None = None


class TokenCount(Struct, frozen=True):
    """The tokens of a turn (gemini 0.61.0)."""

    input_tokens: int = 0
    output_tokens: int = 0


class ModelUsage(Struct):
    """The part of one model in a turn (gemini 0.61.0)."""

    model: str = ""


class Quota(Struct):
    """What a turn took of the user's quota (gemini 0.61.0)."""

    token_count: TokenCount = TokenCount()
    model_usage: list[ModelUsage] | None = None


class PromptMeta(Struct):
    """What an agent adds to the end of a turn outside of the protocol."""

    quota: Quota | None = None


class PromptEnd(Wire):
    """The answer to `session/prompt`."""

    stop_reason: str
    usage: TokenUsage | None = None
    meta: PromptMeta | None = msgspec.field(default=None, name="_meta")


decode_update = msgspec.json.Decoder(SessionUpdate).decode
decode_text = msgspec.json.Decoder(Text).decode
decode_tool = msgspec.json.Decoder(ToolUpdate).decode
decode_commands = msgspec.json.Decoder(CommandsUpdate).decode
decode_cost = msgspec.json.Decoder(CostUpdate).decode
decode_permission = msgspec.json.Decoder(PermissionRequest).decode
