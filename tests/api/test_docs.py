"""GET /docs: the document for people, as one page that needs nothing from anywhere."""

import re
from html.parser import HTMLParser

import pytest

from clinvoker.api import docs

pytestmark = pytest.mark.daemon


class Page(HTMLParser):
    """What is in a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.words = [], [], set(), []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.links += [value for name, value in attrs if name in {"href", "src", "action"}]
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
async def answer(client):
    return await client.get("/docs")


@pytest.fixture
def page(answer):
    return Page(answer.body.decode())


async def test_every_operation_and_every_schema_is_on_the_page(client, page):
    told = (await client.get("/openapi.json")).json
    words = "".join(page.words)
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            summary = operation["summary"].replace("`", "")
            assert f"{method.upper()} {path} {summary}" in words
    assert told["components"]["schemas"].keys() <= page.ids


async def test_the_page_loads_nothing_and_runs_nothing(answer, page):
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "form", "object"}
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert not re.search(r"https?://|@import|url\(", answer.body.decode())


async def test_links_lead_to_schemas_on_the_page(page):
    assert page.links
    for link in page.links:
        assert link.startswith("#")
        assert link.removeprefix("#") in page.ids


async def test_what_the_document_says_is_text_on_the_page():
    bad = "<script>alert(1)</script>"
    told = {
        "info": {"title": bad, "version": "1", "description": bad},
        "tags": [{"name": "t"}],
        "paths": {
            f"/{bad}": {"get": {"tags": ["t"], "summary": bad, "responses": {"200": {"description": bad}}}}
        },
        "components": {"schemas": {bad: {"description": bad}}},
    }
    assert "<script" not in docs.page(told)
