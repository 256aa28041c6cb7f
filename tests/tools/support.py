"""Two tools of a client's, and how each agent has its model call them."""

import json

KEY = "sesame-of-the-tools"
AGENTS = ("claude", "codex", "gemini", "opencode")
PREFIXES = {
    "claude": "mcp__clinvoker__",
    "codex": "client_",
    "gemini": "mcp_clinvoker_",
    "opencode": "clinvoker_",
}
NUMBERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
FUNCTIONS = [
    {"type": "function", "function": {"name": name, "description": f"{name}s", "parameters": NUMBERS}}
    for name in ("add", "subtract")
]
RESPONSE_FUNCTIONS = [{"type": "function", **tool["function"], "strict": False} for tool in FUNCTIONS]
CLIENT_TOOLS = [
    {"name": name, "description": f"{name}s", "input_schema": NUMBERS} for name in ("add", "subtract")
]


def call(agent, name, given, *, along=False):
    """A prompt's mark that has the model call a tool of the client's."""
    return f"[[{'along' if along else 'tool'}:{PREFIXES[agent]}{name} {json.dumps(given)}]]"


def one_call(agent):
    return call(agent, "add", {"a": 2, "b": 3})


def two_calls(agent):
    return one_call(agent) + call(agent, "subtract", {"a": 9, "b": 4}, along=True)


def run(name, given):
    """What the client's tools do."""
    return str(given["a"] + given["b"] if name == "add" else given["a"] - given["b"])
