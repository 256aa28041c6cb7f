"""LangChain's standard integration tests run against both surfaces; those that cannot hold are named, with the reason."""

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.clients.conftest import KEY
from tests.support.clients import CLIENTS, ensure_environment

pytestmark = [pytest.mark.real, pytest.mark.daemon, pytest.mark.slow, pytest.mark.timeout(300)]

UNASKED = "the model must call a tool unasked: the fake one does so only where its prompt has a directive"
NEEDS_A_MODEL = dict.fromkeys(
    (
        "test_tool_calling",
        "test_tool_calling_async",
        "test_bind_runnables_as_tools",
        "test_tool_choice",
        "test_tool_calling_with_no_arguments",
        "test_structured_output_pydantic_2_v1",
        "test_agent_loop",
        "test_unicode_tool_call_integration",
    ),
    UNASKED,
)
CANNOT_HOLD = {
    "openai": NEEDS_A_MODEL,
    # LangChain asks Anthropic for a structured answer by way of a tool.
    "anthropic": NEEDS_A_MODEL
    | dict.fromkeys(
        (
            "test_structured_output",
            "test_structured_output_async",
            "test_structured_output_optional_param",
        ),
        UNASKED,
    ),
}
"""By surface: the tests that fail, with the reason. The README says the same in words."""


@pytest.fixture(scope="module", params=CANNOT_HOLD)
def outcomes(request, url, environment, tmp_path_factory):
    """The surface, and how each test ended: parameters of a test count as that test."""
    surface, report = request.param, tmp_path_factory.mktemp("standard") / "report.xml"
    command = [str(ensure_environment("langchain") / "python"), "-m", "pytest", str(CLIENTS / "standard")]
    given = {"CLINVOKER_SURFACE": surface, "CLINVOKER_URL": url, "CLINVOKER_KEY": KEY}
    flags = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    done = subprocess.run(
        [*command, *flags],
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert report.exists(), done.stdout + done.stderr
    return surface, read(report)


def read(report: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own file
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[outcome].add(re.sub(r"\[.*", "", case.attrib["name"]))
    return found


def test_all_hold_but_those_that_are_known_not_to(outcomes):
    surface, found = outcomes
    assert found["failed"] == set(CANNOT_HOLD[surface])
    assert len(found["passed"]) > 10
