"""Errors in OpenAI's own shape, from every part of the daemon."""

import openai
import pytest

from tests.openai.conftest import sdk
from tests.openai.support import CHAT, ask
from tests.support.client import Client
from tests.support.daemon import Daemon

SHAPE = {"message", "type", "param", "code"}


def runs(scene):
    return len(scene.daemon.logged("run ended"))


def test_a_turn_that_failed_is_not_tried_again(scene):
    before = runs(scene)
    with sdk(scene.daemon, max_retries=2) as retrying, pytest.raises(openai.APIStatusError) as failed:
        retrying.chat.completions.create(model="scripted", messages=ask("{{error:1,once}}"))
    assert failed.value.status_code == 502
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert "once" in str(failed.value)
    assert runs(scene) == before + 1


def test_an_agent_that_dies_is_not_tried_again(scene):
    before = runs(scene)
    with sdk(scene.daemon, max_retries=2) as retrying, pytest.raises(openai.InternalServerError):
        retrying.chat.completions.create(model="scripted", messages=ask("some {{exit:3}}"))
    assert runs(scene) == before + 1


async def test_an_error_has_the_shape_the_sdk_reads(scene):
    answer = await scene.client.call(
        "POST", CHAT, {"model": "scripted", "messages": ask("{{error:1,so it is}}")}
    )
    assert answer.status == 502
    assert answer.json["error"].keys() == SHAPE
    assert answer.json["error"]["message"] == "so it is"
    assert answer.json["error"]["type"] == "server_error"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/openai/v1/nothing", {}, 404),
        ("GET", CHAT, {}, 405),
        ("POST", CHAT, {"content-type": "text/plain"}, 415),
        ("POST", CHAT, {"host": "evil.example"}, 403),
        ("POST", CHAT, {"origin": "https://evil.example"}, 403),
    ],
)
async def test_every_part_of_the_daemon_says_no_in_that_shape(scene, method, path, headers, status):
    answer = await scene.client.call(method, path, {}, headers=headers)
    assert answer.status == status
    assert answer.json["error"].keys() == SHAPE
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"]


async def test_a_body_that_is_too_large_is_refused_in_that_shape(quiet):
    answer = await quiet.client.call("POST", CHAT, {"model": "scripted", "messages": ask("x" * 5000)})
    assert answer.status == 413
    assert answer.json["error"].keys() == SHAPE


def test_a_key_is_needed_where_keys_are_configured(tmp_path):
    with Daemon(tmp_path, backends={"echo": {}}, env={"CLINVK_API_KEY": "right"}) as daemon:
        daemon.client = Client(daemon.client.port)
        with sdk(daemon, api_key="wrong") as stranger, pytest.raises(openai.AuthenticationError) as refused:
            stranger.chat.completions.create(model="echo", messages=ask("hello"))
        assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
        with sdk(daemon, api_key="right") as friend:
            assert friend.models.list().data
