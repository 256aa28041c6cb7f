"""What schemathesis (its own process, see test_schemathesis) does to the cases it makes, so that they reach an agent."""

import json
import random

import schemathesis

chance = random.Random(6)  # noqa: S311 - the same cases each time

JSON = ("json_object", "json_schema")
"""What echo cannot answer in: it is the agent's fault then, a 502 in its place."""


@schemathesis.hook
def map_body(context, body):
    """Name the one agent there is, and end most chats as chats end; what a body breaks on purpose stays broken."""
    if not isinstance(body, dict):
        return body
    name = "backend" if context.operation.path.startswith("/api/") else "model"
    if isinstance(body.get(name), str) and 0 < len(body[name]) <= 256:
        body[name] = "echo"
    workdir = body.get("workdir")
    if isinstance(workdir, str) and len(workdir) <= 4096 and chance.random() < 0.9:
        del body["workdir"]
    text = body.get("text")
    for asked in (body.get("response_format"), text.get("format") if isinstance(text, dict) else None):
        if isinstance(asked, dict) and asked.get("type") in JSON:
            asked["type"] = "text"
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, dict) and last.get("role") == "user" and chance.random() < 0.8:
        messages[-1] = {"role": "user", "content": f"{len(messages)} words to say"}
    return body


@schemathesis.deserializer("application/x-ndjson")
def last_line(_context, response):
    """The last event, which says most: the schema is that of one."""
    return json.loads(response.content.splitlines()[-1])
