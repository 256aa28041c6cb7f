"""The backends are the models."""

import openai
import pytest

from tests.openai.support import ask, content


def test_the_list_has_every_backend(scene):
    models = scene.sdk.models.list().data
    assert [model.id for model in models] == ["echo", "scripted", "exact"]
    assert {(model.object, model.owned_by) for model in models} == {("model", "clinvoker")}
    assert all(isinstance(model.created, int) for model in models)


@pytest.mark.parametrize("name", ["echo", "echo/some-model", "script-7", "claude-via-echo"])
def test_one_that_can_be_asked_can_be_looked_up(scene, name):
    assert scene.sdk.models.retrieve(name).id == name


@pytest.mark.parametrize("name", ["nobody", "nobody/echo", "claude-via-nobody", "claude-via-"])
def test_one_that_is_nobodys_is_not_found(scene, name):
    with pytest.raises(openai.NotFoundError) as refused:
        scene.sdk.models.retrieve(name)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as refused:
        scene.chat(model=name, messages=ask("hello"))
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert refused.value.type == "invalid_request_error"


def test_what_is_not_offered_is_not_found_either(scene):
    with pytest.raises(openai.NotFoundError) as refused:
        scene.sdk.embeddings.create(model="echo", input="text")
    assert refused.value.code == "not_found"


def test_a_name_that_a_backend_claims_goes_to_it(scene):
    with pytest.raises(openai.BadRequestError, match="model"):  # that agent has no choice of models
        scene.chat(model="script-7", messages=ask("hello"))
    assert content(scene.chat(model="scripted", messages=ask("hello"))) == "hello"
    assert content(scene.chat(model="claude-via-scripted", messages=ask("hello"))) == "hello"
