"""What schemathesis (its own process, see test_schemathesis) does to the cases it makes, so that they reach an agent."""

import json
import random

import schemathesis

chance = random.Random(6)  # noqa: S311 - the same cases each time


@schemathesis.hook
def map_body(context, body):
    """Name the one agent there is, and end most chats as chats end; what a body breaks on purpose stays broken."""
    if not isinstance(body, dict):
        return body
    name = "backend" if context.operation.path.startswith("/api/") else "model"
    if isinstance(body.get(name), str) and 0 < len(body[name]) <= 256:
        body[name] = "echo"
    if isinstance(body.get("workdir"), str) and chance.random() < 0.9:
        del body["workdir"]
    messages = body.get("messages")
    if isinstance(messages, list) and messages and chance.random() < 0.8:
        messages[-1] = {"role": "user", "content": f"{len(messages)} words to say"}
    return body


@schemathesis.deserializer("application/x-ndjson")
def last_line(_context, response):
    """The last event, which says most: the schema is that of one."""
    return json.loads(response.content.splitlines()[-1])
