"""The gate, through the bridge that agents start."""

import json
import os
import subprocess
from contextlib import asynccontextmanager

import pytest
import trio

from actors.messages import Image, Tool, ToolAnswer
from clinvoker.mcp import connection
from clinvoker.mcp.gate import Gate

ADD = Tool("add", "adds", {"properties": {"a": {"type": "integer"}}})


async def answer(name, given, number):
    await trio.sleep(given.get("wait", 0))
    return ToolAnswer("", f"{name} {given}", images=(Image("image/png", "AA=="),))


class Bridge:
    """An agent's end of a bridge."""

    def __init__(self, process):
        self.process = process
        self.rest = b""
        self.serial = 0

    async def say(self, method, **fields):
        message = {"jsonrpc": "2.0", "method": method, **fields}
        await self.process.stdin.send_all(json.dumps(message).encode() + b"\n")

    async def hear(self):
        while b"\n" not in self.rest:
            piece = await self.process.stdout.receive_some()
            if not piece:
                return None
            self.rest += piece
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    async def ask(self, method, **params):
        self.serial += 1
        await self.say(method, id=self.serial, params=params)
        return await self.hear()


@asynccontextmanager
async def bridged(gate, server, env=None):
    variables = {each["name"]: each["value"] for each in server["env"]} | (env or {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.serve)
        process = await trio.lowlevel.open_process(
            [server["command"], *server["args"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **variables},
        )
        try:
            with trio.fail_after(10):
                yield Bridge(process)
        finally:
            process.kill()
            await process.wait()
        nursery.cancel_scope.cancel()


async def test_tools_are_listed_and_called():
    gate = Gate()
    _, server = gate.offer("clinvoker", (ADD,), answer)
    async with bridged(gate, server) as bridge:
        hello = await bridge.ask("initialize", protocolVersion="2025-06-18", capabilities={})
        assert hello["result"]["protocolVersion"] == "2025-06-18"
        await bridge.say("notifications/initialized")
        [tool] = (await bridge.ask("tools/list"))["result"]["tools"]
        assert (tool["name"], tool["inputSchema"]["type"]) == ("add", "object")
        called = (await bridge.ask("tools/call", name="add", arguments={"a": 1}))["result"]
        assert called["content"][0] == {"type": "text", "text": "add {'a': 1}"}
        assert called["content"][1]["mimeType"] == "image/png"
        assert (await bridge.ask("ping"))["result"] == {}
        assert (await bridge.ask("resources/list"))["error"]["code"] == -32601
        assert (await bridge.ask("tools/call", wrong=1))["error"]["code"] == -32602


async def test_calls_are_answered_side_by_side_and_can_be_cancelled():
    gate = Gate()
    _, server = gate.offer("clinvoker", (ADD,), answer)
    async with bridged(gate, server) as bridge:
        await bridge.say("tools/call", id="slow", params={"name": "add", "arguments": {"wait": 60}})
        await bridge.say("tools/call", id="quick", params={"name": "add", "arguments": {}})
        assert (await bridge.hear())["id"] == "quick"
        await bridge.say("notifications/cancelled", params={"requestId": "slow"})
        assert (await bridge.ask("ping"))["result"] == {}


async def test_a_call_that_waits_gives_signs_of_life(monkeypatch):
    monkeypatch.setattr(connection, "SIGN_S", 0.05)
    gate = Gate()
    _, server = gate.offer("clinvoker", (ADD,), answer)
    async with bridged(gate, server) as bridge:
        params = {"name": "add", "arguments": {"wait": 0.2}, "_meta": {"progressToken": 9}}
        first = await bridge.ask("tools/call", **params)
        assert first["method"] == "notifications/progress"
        assert first["params"] == {"progressToken": 9, "progress": 1}


async def test_a_wrong_key_opens_nothing():
    gate = Gate()
    _, server = gate.offer("clinvoker", (ADD,), answer)
    address = server["env"][0]["value"].partition(":")[0]
    async with bridged(gate, server, {"CLINVOKER_TOOLS": f"{address}:guessed"}) as bridge:
        assert await bridge.hear() is None


async def test_a_bridge_ends_when_the_offer_is_taken_back():
    gate = Gate()
    key, server = gate.offer("clinvoker", (ADD,), answer)
    async with bridged(gate, server) as bridge:
        await bridge.ask("ping")
        gate.withdraw(key)
        assert await bridge.hear() is None
        await bridge.process.wait()


@pytest.mark.parametrize("nonsense", [b"nonsense\n", b"[]\n", b"{}\n", b"\xff\n"])
async def test_nonsense_is_passed_over(nonsense):
    gate = Gate()
    _, server = gate.offer("clinvoker", (ADD,), answer)
    async with bridged(gate, server) as bridge:
        await bridge.process.stdin.send_all(nonsense)
        assert (await bridge.ask("ping"))["result"] == {}
