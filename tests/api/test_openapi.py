"""GET /openapi.json: a document of every route there is, and of none that is not."""

import json
import re
from types import SimpleNamespace

import jsonschema
import pytest

from actors.errors import Code
from actors.log import Log
from actors.messages import Complete, Failed, Message, Permission, Start, Thinking, ToolResult, ToolUse, Usage
from clinvoker import __version__
from clinvoker.api import frames
from clinvoker.api.app import make_app
from clinvoker.api.openapi import document, routes_of
from clinvoker.config import Settings
from clinvoker.metrics import Metrics
from tests.api.support import error_of
from tests.support.daemon import Daemon

pytestmark = pytest.mark.daemon

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
async def told(client):
    """The document."""
    answer = await client.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


def resolved(told, ref):
    """What a reference stands for."""
    value = told
    for part in ref.removeprefix("#/").split("/"):
        value = value[part]
    return value


def references(value):
    """All references within a document."""
    if isinstance(value, dict):
        if isinstance(ref := value.get("$ref"), str):
            yield ref
        if isinstance(value.get("discriminator"), dict):
            yield from value["discriminator"]["mapping"].values()
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from references(part)


def check(told, name, value):
    """Check a value against a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": told["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


@pytest.fixture(scope="module")
def app():
    """The application's routes; no actor is behind them."""
    return make_app(SimpleNamespace(backends={}, settings=Settings(), store=None), Metrics())


async def test_every_route_is_in_the_document(app):
    described = document(app)["paths"]
    documented = {route.path: route for route in routes_of(app)}
    others = {path for route in documented.values() for path in route.others}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule)
        if rule.rule in others:
            continue
        for method in METHODS & (rule.methods or {"GET"}):
            assert method.lower() in described[path], (method, path)


async def test_everything_in_the_document_is_a_route(app):
    routes = {
        (method.lower(), re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or {"GET"}
    }
    for path, methods in document(app)["paths"].items():
        for method in methods:
            assert (method, path) in routes


async def test_a_path_that_is_described_under_another_is_named_there(told):
    count = told["paths"]["/anthropic/v1/messages/count_tokens"]["post"]
    for other in ("/anthropic/messages/count_tokens", "/anthropic/v1/v1/messages/count_tokens"):
        assert other in count["description"]
        assert other not in told["paths"]


async def test_a_route_of_which_nothing_is_told_is_an_error(app):
    async def forgotten():
        pass

    class Forgetful:
        url_map = app.url_map
        view_functions = dict.fromkeys(app.view_functions, forgotten)

    with pytest.raises(LookupError, match="its handler needs @Operation"):
        document(Forgetful())


async def test_the_document_is_openapi_3_1(told):
    assert told["openapi"] == "3.1.0"
    assert told["info"]["title"] == "clinvoker"
    assert told["info"]["version"] == __version__
    ids = [operation["operationId"] for methods in told["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    for name, schema in told["components"]["schemas"].items():
        assert re.fullmatch(r"[A-Za-z]+", name), name
        jsonschema.Draft202012Validator.check_schema(schema)
    for path, methods in told["paths"].items():
        for operation in methods.values():
            placed = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            assert placed == set(re.findall(r"\{(\w+)\}", path))


async def test_every_reference_leads_somewhere(told):
    refs = set(references(told))
    assert refs
    for ref in refs:
        assert resolved(told, ref)


@pytest.mark.parametrize(
    ("surface", "prompt", "error"),
    [
        ("/api/v1/prompt", "PromptRequest", "NativeError"),
        ("/openai/v1/chat/completions", "OpenAIChatRequest", "OpenAIError"),
        ("/openai/v1/responses", "OpenAIResponsesRequest", "OpenAIError"),
        ("/anthropic/v1/messages", "AnthropicMessagesRequest", "AnthropicError"),
    ],
)
async def test_each_surface_has_its_own_requests_streams_and_errors(told, surface, prompt, error):
    operation = told["paths"][surface]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": f"#/components/schemas/{prompt}"}
    assert operation["requestBody"]["required"]
    answers = operation["responses"]
    assert {"application/json", "text/event-stream"} <= answers["200"]["content"].keys()
    refusals = {"400", "401", "403", "404", "409", "413", "415", "429", "500", "502", "503", "504"}
    assert refusals <= answers.keys()
    for status in refusals:
        schema = answers[status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{error}"}
    assert ("529" in answers) == surface.startswith("/anthropic")


async def test_native_streams_are_described_in_both_media_types(told):
    content = told["paths"]["/api/v1/prompt"]["post"]["responses"]["200"]["content"]
    event = {"$ref": "#/components/schemas/Event"}
    assert content["application/x-ndjson"]["schema"] == event
    data = content["text/event-stream"]["schema"]["properties"]["data"]
    assert data == {"type": "string", "contentMediaType": "application/json", "contentSchema": event}


async def test_the_ways_to_present_a_key_are_described_and_health_needs_none(told):
    assert told["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "api_key": {"type": "apiKey", "in": "query", "name": "api_key"},
    }
    assert told["security"] == [{"bearer": []}, {"x-api-key": []}, {"api_key": []}]
    open_paths = [
        path for path, methods in told["paths"].items() if methods.get("get", {}).get("security") == []
    ]
    assert open_paths == ["/health"]


@pytest.mark.parametrize(
    "event",
    [
        Start("m", "/w"),
        Message("a"),
        Thinking("b"),
        ToolUse("1", "ls", {"path": ["/"]}),
        ToolResult("1", "", is_error=True),
        Permission("p", "ls", None, ("allow", "deny")),
        Failed(Code.TIMEOUT, "late", retry_after=1.5),
        Complete("end_turn", Usage(1, 2)),
    ],
    ids=lambda event: event.TYPE,
)
async def test_every_kind_of_event_is_as_described(told, event):
    log = Log("run_1", 1 << 20)
    log.append([event], "echo", "ses_1", 2)
    check(told, "Event", json.loads(frames.ndjson(log.after(0, 1))))


async def test_an_event_that_is_not_as_described_is_told_apart(told):
    with pytest.raises(jsonschema.ValidationError):
        check(told, "Event", {"type": "message", "content": {"text": 1}})


async def test_errors_are_as_described_in_each_dialect(told, client):
    check(told, "NativeError", (await client.get("/api/v1/runs/none")).json)
    check(told, "OpenAIError", (await client.get("/openai/v1/models/none")).json)
    check(told, "AnthropicError", (await client.get("/anthropic/v1/models/none")).json)


async def test_the_websocket_is_described_in_words_and_schemas(told):
    assert "websocket" in told["info"]["description"]
    check(told, "ClientFrame", {"op": "prompt", "ref": "a", "prompt": "x"})
    check(told, "ServerFrame", {"type": "ended", "ref": "a", "run_id": "run_0"})
    assert "101" in told["paths"]["/api/v1/ws"]["get"]["responses"]


async def test_a_websocket_path_without_an_upgrade_says_so(client):
    answer = await client.get("/api/v1/ws")
    assert answer.status == 400
    assert "upgrade" in error_of(answer)["message"]


async def test_nothing_of_this_daemon_is_in_the_document(tmp_path):
    key = "secret-key-of-a-caller"
    backends = {"mine": {"protocol": "acp", "command": ["/opt/hidden/agent"], "spares": 0}}
    with Daemon(tmp_path, backends=backends, env={"CLINVK_API_KEY": key}) as daemon:
        for path in ("/openapi.json", "/docs"):
            assert (await daemon.client.get(path)).status == 401
            answer = await daemon.client.call("GET", path, headers={"authorization": f"Bearer {key}"})
            assert answer.status == 200
            for hidden in (key, "hidden", str(tmp_path), "mine"):
                assert hidden.encode() not in answer.body
