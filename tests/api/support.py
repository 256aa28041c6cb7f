"""What the tests of the API share."""

import trio

PROMPT = "/api/v1/prompt"


def error_of(answer):
    """The error of an answer, which has the one shape that errors have (api-design.md, "Error Format")."""
    assert answer.headers["content-type"] == "application/json", answer
    assert answer.json.keys() == {"error"}, answer
    error = answer.json["error"]
    assert error.keys() == {"code", "message", "param", "type"}, error
    assert error["message"], error
    for trace in ("Traceback", 'File "', ".py", "object at 0x"):
        assert trace not in error["message"], error
    return error


async def prompt(client, **fields):
    """Prompt with exactly these fields."""
    return await client.call("POST", PROMPT, fields)


async def eventually(condition, within=3.0):
    """Wait until an asynchronous condition holds."""
    with trio.fail_after(within):
        while not await condition():
            await trio.sleep(0.03)
