"""The ids by which clients name their conversations."""

import json

import pytest

from clinvoker.chat.sources import MOST, Source, source_of

EVERYTHING = [
    ({"x-claude-code-session-id": "cc"}, {}, Source("x-claude-code-session-id:cc", agent=True)),
    ({}, {"metadata": {"user_id": json.dumps({"session_id": "js"})}}, Source("metadata:js", agent=True)),
    ({"session-id": "codex"}, {}, Source("session-id:codex", agent=True)),
    ({"session_id": "codex"}, {}, Source("session_id:codex", agent=True)),
    ({"x-session-id": "x"}, {}, Source("x-session-id:x", latest=True)),
    ({"x-session-affinity": "aff"}, {}, Source("x-session-affinity:aff", agent=True)),
    ({"x-opencode-session": "oc"}, {}, Source("x-opencode-session:oc", agent=True)),
    ({"x-openwebui-chat-id": "ow"}, {}, Source("x-openwebui-chat-id:ow")),
    ({"x-client-request-id": "pi"}, {}, Source("x-client-request-id:pi")),
    ({}, {"session_id": "body"}, Source("session_id:body", latest=True)),
    ({}, {"prompt_cache_key": "key"}, Source("prompt_cache_key:key")),
    ({}, {"conversation": {"id": "conv"}}, Source("conversation:conv", latest=True)),
]


@pytest.mark.parametrize(("headers", "body", "source"), EVERYTHING)
def test_each_source_is_known(headers, body, source):
    assert source_of(headers, body) == source


@pytest.mark.parametrize("first", range(len(EVERYTHING)))
def test_an_earlier_source_counts_before_the_later_ones(first):
    headers, body = {}, {}
    for more_headers, more_body, _ in reversed(EVERYTHING[first:]):
        headers |= more_headers
        body |= more_body
    assert source_of(headers, body) == EVERYTHING[first][2]


@pytest.mark.parametrize(
    ("user_id", "name"),
    [
        ("user_abc_account__session_0af3-99", "metadata:0af3-99"),
        (json.dumps({"device_id": "d", "session_id": "s"}), "metadata:s"),
        ("just-a-user", ""),
        ('{"session_id": 7}', ""),
        ("[" * 5000, ""),
        (7, ""),
    ],
)
def test_the_session_in_a_user_id_is_found_as_claude_code_writes_it(user_id, name):
    assert source_of({}, {"metadata": {"user_id": user_id}}).name == name


@pytest.mark.parametrize(
    "body", [{}, {"metadata": 3}, {"session_id": ["x"]}, {"session_id": "x" * (MOST + 1)}]
)
def test_what_is_no_id_names_nothing(body):
    assert source_of({}, body) == Source()
