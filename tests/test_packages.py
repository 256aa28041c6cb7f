"""The direction of the packages, and that nobody asks for a backend by its name."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BACKENDS = {"claude", "codex", "gemini"}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def names(paths):
    return [str(path.relative_to(ROOT)) for path in paths]


def imported(path):
    """The top-level packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name.partition(".")[0] for alias in aliases)
            case ast.ImportFrom(module=module, level=level):
                yield path.relative_to(ROOT).parts[0] if level else module.partition(".")[0]
            case _:
                pass


def literals(path):
    """The strings of a file that are not documentation."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def knows_backends(path):
    """Backends themselves, the shipped configuration, and the names of protocols that one may write there."""
    return "backends" in path.parts or path.name in {"builtin.py", "settings.py"}


@pytest.mark.parametrize("path", names(modules("actors")))
def test_the_actors_import_trio_msgspec_and_the_standard_library_only(path):
    allowed = {"actors", "trio", "msgspec"} | sys.stdlib_module_names
    assert set(imported(ROOT / path)) <= allowed


def test_the_guardians_program_imports_nothing_that_is_not_in_the_standard_library():
    assert set(imported(ROOT / "actors" / "guardian_main.py")) <= sys.stdlib_module_names | {"actors"}


@pytest.mark.parametrize("path", names(path for path in modules("clinvoker") if not knows_backends(path)))
def test_no_one_but_a_backend_and_the_shipped_configuration_knows_a_backend_by_name(path):
    assert [text for text in literals(ROOT / path) if text.lower() in BACKENDS] == []


@pytest.mark.parametrize("path", names(modules("clinvoker/backends")))
def test_a_backend_does_not_know_the_api(path):
    found = [
        node.module
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    assert not [
        module
        for module in found
        if module.startswith(("clinvoker.api", "clinvoker.http", "clinvoker.daemon"))
    ]
