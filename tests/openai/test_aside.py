"""Requests on the side of a chat: by themselves, outside the project, and of no consequence to the chat."""

import json

import pytest

from tests.openai.support import CHAT, ask

TITLE = "### Task:\nGenerate a concise, 3-5 word title summarizing the chat history. {{wait:0.5}}"


async def post(scene, *texts, headers=None):
    body = {"model": "scripted", "messages": ask(*texts)}
    answer = await scene.client.call("POST", CHAT, body, headers=headers or {})
    assert answer.status == 200, answer
    return answer.json["choices"][0]["message"]["content"], answer.headers["x-clinvoker-session"]


@pytest.fixture
def project(tmp_path):
    """The headers of a client that works in a project."""
    return {"x-clinvoker-workdir": str(tmp_path)}


async def where(scene, text, headers):
    """The directory in which a streamed request is answered."""
    body = {"model": "scripted", "messages": ask(text), "stream": True}
    async with scene.client.open("POST", CHAT, body, headers=headers) as incoming:
        run = incoming.headers["x-clinvoker-run"]
        wanted = {"accept": "application/x-ndjson"}
        told = await scene.client.call("GET", f"/api/v1/runs/{run}/events", headers=wanted)
        await incoming.whole()
    events = [json.loads(line) for line in told.body.splitlines() if line]
    return next(event["content"]["workdir"] for event in events if event["type"] == "start")


async def test_it_runs_outside_the_project(scene, project):
    assert await where(scene, "work {{wait:0.5}}", project) == project["x-clinvoker-workdir"]
    assert await where(scene, TITLE, project) != project["x-clinvoker-workdir"]


async def test_the_chat_goes_on_as_if_nothing_had_been_asked(scene, project):
    headers = {**project, "x-openwebui-chat-id": "chat-with-a-title"}
    first, session = await post(scene, "hello", headers=headers)
    _, aside = await post(scene, TITLE, headers=headers)
    assert aside != session
    assert await post(scene, "hello", first, "two", headers=headers) == ("two", session)


async def test_nothing_is_kept_of_it(scene):
    _, aside = await post(scene, TITLE)
    assert (await scene.client.get(f"/api/v1/sessions/{aside}")).status == 404


async def test_any_client_can_ask_so_but_not_in_a_directory(scene, project):
    headers = {"x-clinvoker-side": "true"}
    _, session = await post(scene, "anything", headers=headers)
    assert (await scene.client.get(f"/api/v1/sessions/{session}")).status == 404
    body = {"model": "scripted", "messages": ask("anything")}
    answer = await scene.client.call("POST", CHAT, body, headers={**headers, **project})
    assert (answer.status, answer.json["error"]["param"]) == (400, "x-clinvoker-workdir")


async def test_it_is_the_same_on_the_anthropic_surface(scene, project):
    body = {"model": "scripted", "messages": ask(TITLE), "max_tokens": 100}
    answer = await scene.client.call("POST", "/anthropic/v1/messages", body, headers=project)
    assert answer.status == 200, answer
    session = answer.headers["x-clinvoker-session"]
    assert (await scene.client.get(f"/api/v1/sessions/{session}")).status == 404
