"""The server: routes each path to its API and keeps the log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import h11
import trio

from tests.fake_model import anthropic, chat, gemini, responses, side
from tests.fake_model.connection import Call, ClientGoneError, Connection, Tell
from tests.fake_model.reply import Failure, Reply, compose
from tests.fake_model.request_log import Request, RequestLog
from tests.fake_model.stream import dump

_JSON = {"content-type": "application/json"}
_MODELS = ("fake-model", "gpt-fake", "claude-fake")


@dataclass(frozen=True, slots=True)
class FakeModel:
    """What a test holds: where the server is, and all it was asked."""

    base_url: str
    requests: RequestLog


async def serve(
    *,
    port: int = 0,
    log_file: Path | None = None,
    keep_bodies: bool = True,
    task_status: trio.TaskStatus[FakeModel] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on loopback until cancelled; starts with a FakeModel.

    `keep_bodies=False` forgets each request's body once answered: thousands of agent requests fill the memory.
    """
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    bound = listeners[0].socket.getsockname()[1]
    log = RequestLog(log_file, keep_bodies=keep_bodies)

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await _converse(Connection(stream), log)
        except (h11.RemoteProtocolError, trio.BrokenResourceError, ClientGoneError):
            pass  # the client's own end, noted in the log where it matters
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        task_status.started(FakeModel(f"http://127.0.0.1:{bound}", log))


async def _converse(connection: Connection, log: RequestLog) -> None:
    while call := await connection.next_call():
        path = call.target.partition("?")[0]
        found = _route(call.method, path)
        if found is None:
            status, body = _small_answer(call, path)
            await connection.answer(status, _JSON, b"" if call.method == "HEAD" else dump(body))
        elif not await _reply(connection, call, *found, log):
            return


def _route(method: str, path: str) -> tuple[ModuleType, str] | None:
    """Find the API of a path, and its name in the log."""
    if method != "POST":
        return None
    if path.endswith("/messages"):
        return anthropic, "anthropic"
    if path.endswith("/responses"):
        return responses, "responses"
    if path.endswith("/chat/completions"):
        return chat, "chat"
    if path.endswith((":generateContent", ":streamGenerateContent")):
        return gemini, "gemini"
    return None


def _small_answer(call: Call, path: str) -> tuple[int, Any]:
    """Answer what is no model call: probes, token counts, model lists."""
    tokens = len(call.body) // 4
    if path.endswith("/count_tokens"):
        return 200, {"input_tokens": tokens}
    if path.endswith(":countTokens"):
        return 200, {"totalTokens": tokens}
    if path.endswith("/models"):
        models = [{"id": name, "object": "model", "created": 1, "owned_by": "fake"} for name in _MODELS]
        return 200, {"object": "list", "data": models, "has_more": False}
    return (200, {}) if path == "/" or call.method == "POST" else (404, {"error": {"message": "not found"}})


async def _reply(connection: Connection, call: Call, api: ModuleType, name: str, log: RequestLog) -> bool:
    """Answer one model call; False when the connection is not to be used again."""
    try:
        body = json.loads(call.body)
        talk = api.read(body)
    except (ValueError, AttributeError, TypeError):
        await connection.answer(400, _JSON, dump(api.error(Failure(400))))
        return True
    if api is gemini:  # the one API that names the model in its path
        body["model"] = call.target.partition("/models/")[2].partition(":")[0]
    streamed = bool(body.get("stream")) or ":streamGenerateContent" in call.target
    errand = side.answer(talk)
    attempt = 1 if errand or talk.tool_results else log.attempt(name, talk.text)
    reply = errand or compose(talk, attempt, streamed=streamed)
    request = Request(
        number=len(log) + 1,
        api=name,
        method=call.method,
        path=call.target,
        body=body,
        text=talk.text,
        kind="side" if errand else "tool_result" if talk.tool_results else "turn",
        attempt=attempt,
        headers=call.headers,
    )
    log.open(request)
    tell = partial(log.close, request)
    try:
        tokens = len(call.body) // 4
        return await _deliver(connection, api, request, reply, tokens=tokens, tell=tell, streamed=streamed)
    except ClientGoneError:
        log.close(request, "client_gone")
        raise


async def _deliver(
    connection: Connection,
    api: ModuleType,
    request: Request,
    reply: Reply,
    *,
    tokens: int,
    tell: Tell,
    streamed: bool,
) -> bool:
    """Send the reply as an error, a stream or a whole; False when the connection is not to be used again."""
    failure = reply.failure
    if failure and not (streamed and api is responses and responses.in_stream(failure)):
        request.http_status = failure.status
        headers = _JSON | ({"retry-after": failure.retry_after} if failure.retry_after else {})
        await connection.wait(reply.wait)
        await connection.answer(failure.status, headers, dump(api.error(failure)), tell)
        return True
    request.http_status = 200
    if streamed:
        steps = api.stream(reply, request.body, request.number, tokens)
        return await connection.answer_stream(steps, wait=reply.wait, tell=tell)
    if reply.mid == "cut":
        tell("cut")
        return False
    await connection.wait(reply.wait + reply.slow * max(0, len(reply.words) - 1))
    body = dump(api.message(reply, request.body, request.number, tokens))
    await connection.answer(200, _JSON, body, tell)
    return True
