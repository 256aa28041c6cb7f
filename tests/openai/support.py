"""What the tests of the OpenAI surface share."""

CHAT = "/openai/v1/chat/completions"
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
)
NUMBER = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def ask(*texts):
    """Messages in turns, the user first."""
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]


def as_format(schema):
    """A response format."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def content(completion):
    """The text of a completion's first answer."""
    return completion.choices[0].message.content


def read(chunks):
    """The text of a stream, and its chunks."""
    chunks = list(chunks)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks
