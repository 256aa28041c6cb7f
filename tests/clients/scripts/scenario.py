"""What every client does: plain calls, streamed ones, a chat, and calls that fail; printed as one JSON object.

A script gives `plain(model, messages)`, the text of an answer, and `stream(model, messages)`, its pieces. Argument 1
is what `tests.clients.clients.Played` says: agents, mark, and the daemon's address and key. Runs in any client's own
environment, so the standard library alone.
"""

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Messages = list[dict[str, str]]
GIVEN = json.loads(sys.argv[1])
FAILING = {
    "unknown model": ("nobody", "hello"),
    "rate limit": (GIVEN["failing"], "[[err:429]]"),
    "refused key": (GIVEN["failing"], "[[err:401]]"),
    "too long": (GIVEN["failing"], "[[errtype:context]]"),
    "breaks off": (GIVEN["failing"], "[[mid:cutalways]]"),
}


def play(
    version: str, plain: Callable[[str, Messages], str], stream: Callable[[str, Messages], Iterator[str]]
) -> None:
    """Play the scenario."""
    mark = GIVEN["mark"]

    def user(text: str) -> dict[str, str]:
        return {"role": "user", "content": text}

    def chat(agent: str) -> list[str]:
        messages: Messages = []
        for turn in range(3):
            messages.append(user(f"turn {turn} of {mark} with {agent} [[history]]"))
            answer = "".join(stream(agent, messages)) if turn == 1 else plain(agent, messages)
            messages.append({"role": "assistant", "content": answer})
        return [message["content"] for message in messages[1::2]]

    def failure(model: str, text: str, *, streamed: bool) -> Any:
        messages = [user(f"{text} for {mark} {'streamed' if streamed else 'plain'}")]
        try:
            return "".join(stream(model, messages)) if streamed else plain(model, messages)
        except Exception as error:  # noqa: BLE001 - which one it is, is the question
            status = getattr(error, "status_code", None)
            return {"kind": type(error).__name__, "status": status, "message": str(error)}

    with ThreadPoolExecutor(2 * len(FAILING)) as pool:
        # What fails is tried again, after a while: the others need not wait for that.
        failing, streamed = (
            {name: pool.submit(failure, *call, streamed=streamed) for name, call in FAILING.items()}
            for streamed in (False, True)
        )
        result = {
            "version": version,
            "plain": {agent: plain(agent, [user(f"plain {mark}")]) for agent in GIVEN["agents"]},
            "streamed": {
                agent: list(stream(agent, [user(f"[[long:30]] {mark}")])) for agent in GIVEN["agents"]
            },
            "chats": {agent: chat(agent) for agent in GIVEN["chatting"]},
            "failures": {name: failed.result() for name, failed in failing.items()},
            "streamed failures": {name: failed.result() for name, failed in streamed.items()},
        }
    print(json.dumps(result))  # noqa: T201
