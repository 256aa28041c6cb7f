"""What of a request an agent is told, and what is refused with the name of the place."""

from base64 import b64encode

import msgspec
import pytest

from actors.errors import Code, Refusal
from actors.messages import Image, Tool, ToolAnswer
from clinvoker.api.anthropic.counting import estimate
from clinvoker.api.anthropic.reading import read_chat, read_schema, read_tools
from clinvoker.api.anthropic.request import CountRequest, MessagesRequest
from clinvoker.api.requests import decode
from clinvoker.chat.conversation import Said
from clinvoker.chat.tools import Offered

PIXEL = b64encode(b"\x89PNG not really").decode()
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


def asked(*messages, **fields):
    """A request of these messages; a plain one is the user's."""
    spoken = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    body = {"model": "claude", "max_tokens": 9, "messages": spoken, **fields}
    return decode(msgspec.json.encode(body), MessagesRequest)


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(said):
    return {"type": "text", "text": said}


def test_text_is_text_as_a_string_and_in_blocks():
    for content in (
        "one\n\ntwo",
        [text("one"), text(""), {**text("two"), "cache_control": {"type": "ephemeral"}}],
    ):
        assert read_chat(asked({"role": "user", "content": content})).newest == Said("user", "one\n\ntwo")


def test_the_system_prompt_may_be_a_string_blocks_or_the_first_message():
    for request in (
        asked("hi", system="be brief"),
        asked("hi", system=[text("be brief")]),
        asked({"role": "system", "content": "be brief"}, "hi"),
    ):
        assert read_chat(request).system == "be brief"
    assert read_chat(asked("hi")).system == ""


def test_what_the_system_says_later_stands_where_it_was_said():
    chat = read_chat(asked("one", assistant(text("two")), "three", {"role": "system", "content": "four"}))
    assert chat.system == ""
    assert chat.newest.text == "three\n\n<system>\nfour\n</system>"


def test_pictures_go_beside_the_text():
    chat = read_chat(asked(user(text("what is it?"), PICTURE)))
    assert chat.newest == Said("user", "what is it?", (Image("image/png", PIXEL),))


def test_a_history_with_tools_is_told_in_words_and_without_thoughts():
    chat = read_chat(
        asked(
            "weather?",
            assistant(
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                text("I look."),
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "Rome"}},
            ),
            user(
                {"type": "tool_result", "tool_use_id": "t1", "content": [text("sunny"), PICTURE]},
                {"type": "tool_result", "tool_use_id": "t2", "content": "no", "is_error": True},
                {"type": "tool_result", "tool_use_id": "t3"},
            ),
        )
    )
    assert chat.history[1].text == 'I look.\n\n[tool_use look t1]\n{"at":"Rome"}'
    assert chat.newest.text == "[tool_result t1]\nsunny\n\n[tool_result t2 failed]\nno\n\n[tool_result t3]\n"
    assert chat.newest.images == (Image("image/png", PIXEL),)


def test_a_document_of_plain_text_is_told():
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}
    assert (
        read_chat(asked(user(document, text("sum up")))).newest.text
        == "<document>\nabc\n</document>\n\nsum up"
    )


FOUND = {
    "type": "search_result",
    "source": "https://example.com/a",
    "title": "A page",
    "content": [text("one"), text("two")],
    "citations": {"enabled": True},
}


def test_a_search_result_is_told_as_text_also_in_a_tools_result():
    told = "<search_result>\nhttps://example.com/a\nA page\none\ntwo\n</search_result>"
    assert read_chat(asked(user(FOUND, text("sum up")))).newest.text == f"{told}\n\nsum up"
    result = {"type": "tool_result", "tool_use_id": "1", "content": [FOUND]}
    assert read_chat(asked(user(result))).newest.text == f"[tool_result 1]\n{told}"


def document(**source):
    return {"type": "document", "source": source}


def image(**source):
    return {"type": "image", "source": source}


REFUSED = [
    ("a picture by URL", image(type="url", url="http://x/y.png"), ".source"),
    ("a picture of no type", {"type": "image"}, ".source"),
    (
        "a picture of a strange type",
        image(type="base64", media_type="image/bmp", data=PIXEL),
        ".source.media_type",
    ),
    ("a picture that is no base64", image(type="base64", media_type="image/png", data="!"), ".source.data"),
    ("a PDF", document(type="base64", media_type="application/pdf", data=PIXEL), ""),
    ("a PDF by URL", document(type="url", url="http://x/y.pdf"), ""),
    ("a file", {"type": "container_upload", "file_id": "f"}, ""),
    ("an unknown block", {"type": "hologram"}, ""),
    ("a block without a type", {"text": "a"}, ".type"),
    ("a NUL", text("a\0b"), ""),
    (
        "a picture by URL in a result",
        {"type": "tool_result", "content": [image(type="url")]},
        ".content[0].source",
    ),
    (
        "a result within a result",
        {"type": "tool_result", "content": [{"type": "tool_result", "content": "a"}]},
        ".content[0]",
    ),
    ("a picture in a search result", {"type": "search_result", "content": [PICTURE]}, ".content[0]"),
    ("a result of no shape", {"type": "tool_result", "content": 7}, ".content"),
]


@pytest.mark.parametrize(("block", "place"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_no_agent_can_be_told_is_refused_with_its_place(block, place):
    with pytest.raises(Refusal) as refused:
        read_chat(asked("one", assistant(text("two")), user(text("three"), block)))
    assert refused.value.param == f"messages[2].content[1]{place}"
    assert refused.value.message.startswith(refused.value.param)
    assert refused.value.code in {Code.UNSUPPORTED, Code.INVALID_REQUEST}


def test_the_agents_turn_cannot_be_begun_for_it():
    with pytest.raises(Refusal) as refused:
        read_chat(asked("one", assistant(text("The answer is ("))))
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_field_of_the_wrong_shape_is_named(fields, param):
    with pytest.raises(Refusal) as refused:
        asked("a", **fields)
    assert refused.value.param == param


def test_what_is_unknown_or_null_is_passed_over():
    nothing = dict.fromkeys(
        (
            "system",
            "stream",
            "stop_sequences",
            "tools",
            "tool_choice",
            "output_config",
            "thinking",
            "metadata",
        )
    )
    request = asked("a", temperature=1, top_k=3, service_tier="auto", brand_new={"x": [1]}, **nothing)
    assert read_chat(request).newest.text == "a"
    assert read_schema(request) is None
    assert read_tools(request) == Offered()


SCHEMA = {"type": "object"}


def test_the_schema_of_the_answer_is_read_where_either_version_has_it():
    wanted = {"type": "json_schema", "schema": SCHEMA}
    assert read_schema(asked("a", output_config={"format": wanted})) == SCHEMA
    assert read_schema(asked("a", output_format=wanted)) == SCHEMA
    assert read_schema(asked("a", output_config={"effort": "high"})) is None
    with pytest.raises(Refusal) as refused:
        read_schema(asked("a", output_config={"format": {"type": "xml"}}))
    assert refused.value.param == "output_config.format"


CLIENTS = {"name": "look", "input_schema": {"type": "object"}}


@pytest.mark.parametrize("tool", [CLIENTS, {**CLIENTS, "type": "custom"}])
def test_tools_of_the_callers_own_are_told_from_those_that_the_agent_has_itself(tool):
    request = asked("a", tools=[{"type": "web_search_20260318", "name": "web_search"}, tool])
    assert read_tools(request).tools == (Tool("look", "", {"type": "object"}),)


def test_tools_that_may_not_be_used_are_not_offered():
    assert read_tools(asked("a", tools=[CLIENTS], tool_choice={"type": "none"})) == Offered()


def test_a_result_is_read_with_what_was_said_beside_it():
    result = {"type": "tool_result", "tool_use_id": "c", "content": "5", "is_error": True}
    said = {"role": "user", "content": [result, {"type": "text", "text": "go on"}]}
    chat = read_chat(asked(said))
    assert chat.newest.results == (ToolAnswer("c", "5\n\ngo on", is_error=True),)
    assert chat.newest.text == "[tool_result c failed]\n5\n\ngo on"


def counted(content="", **fields):
    body = {"model": "m", "messages": [{"role": "user", "content": content}], **fields}
    return estimate(decode(msgspec.json.encode(body), CountRequest))


def test_tokens_grow_with_all_that_is_sent():
    least = counted("a")
    assert least >= 1
    assert 200 < counted("word " * 250) < 400
    for more in (
        counted("a", system="be brief"),
        counted("a", system=[text("be brief")]),
        counted("a", tools=[{"name": "look", "description": "d" * 100, "input_schema": SCHEMA}]),
        counted([text("a"), PICTURE]),
        counted([{"type": "tool_use", "id": "1", "name": "n", "input": {"a": "b" * 40}}]),
        counted([{"type": "tool_result", "tool_use_id": "1", "content": [text("b" * 40)]}]),
        counted([document(type="text", data="b" * 40)]),
        counted([FOUND]),
        counted([{"type": "hologram", "content": "b" * 40}]),
    ):
        assert more > least


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram", "source": ["a"], "text": None, "id": 7},
        {"type": "search_result", "source": "https://example.com/a", "content": [[["a"]]]},
        {"type": None},
        {"text": 5},
        {"type": "image", "source": "x"},
        {"type": "tool_result", "content": {"a": {"b": 1}}},
        {"type": "tool_result", "content": msgspec.json.decode("[" * 400 + "]" * 400)},
    ],
)
def test_a_block_that_nobody_knows_can_be_counted(block):
    assert counted([block]) >= 1


def test_what_is_counted_beforehand_is_what_the_message_counts():
    blocks = [text("a" * 99), PICTURE, FOUND, document(type="text", data="b" * 400)]
    request = asked(user(*blocks), system="be brief")
    assert estimate(request) == counted(blocks, system="be brief")


def test_a_picture_counts_as_one_however_many_bytes_it_has():
    large = {**PICTURE, "source": {**PICTURE["source"], "data": PIXEL * 10_000}}
    assert counted([large]) == counted([PICTURE]) == counted([{"type": "tool_result", "content": [large]}])
