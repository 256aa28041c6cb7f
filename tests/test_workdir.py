"""Which directories an agent may be started in."""

import pytest

from actors.errors import Code, Refusal
from clinvoker.workdir import resolve


@pytest.fixture
def tree(tmp_path):
    """Directories, links and a file."""
    root = tmp_path.resolve()
    for name in ("desk/project", "desk/secret", "desks", "other"):
        (root / name).mkdir(parents=True)
    (root / "desk/file").write_text("")
    (root / "link").symlink_to(root / "desk/project")
    (root / "to-secret").symlink_to(root / "desk/secret")
    (root / "dangling").symlink_to(root / "nowhere")
    (root / "loop").symlink_to(root / "loop")
    return root


def refused(path, allowed=(), blocked=()):
    with pytest.raises(Refusal) as error:
        resolve(str(path), map(str, allowed), map(str, blocked), param="tasks[1].workdir")
    assert error.value.param == "tasks[1].workdir"
    assert error.value.message.startswith("tasks[1].workdir ")
    return error.value.code


def test_a_directory_is_given_as_its_real_path(tree):
    for path in ("desk/project", "link", "desk/./project/", "other/../desk//project", "link/../project"):
        assert resolve(f"{tree}/{path}", [], []) == str(tree / "desk/project")
    assert resolve("/", [], []) == "/"


@pytest.mark.parametrize("path", ["", ".", "desk", "./desk", "~", "~root", "C:\\", "-", "a\0b"])
def test_a_path_must_be_absolute(path):
    assert refused(path) is Code.INVALID_REQUEST


@pytest.mark.parametrize(
    "path", ["absent", "desk/file", "desk/file/below", "dangling", "loop", "a" * 300, "x/" * 3000]
)
def test_a_path_must_be_a_directory(tree, path):
    assert refused(f"{tree}/{path}") is Code.INVALID_REQUEST


def test_a_path_with_nul_is_refused():
    assert refused("/usr\0/x") is Code.INVALID_REQUEST


def test_with_a_list_of_allowed_directories_all_others_are_forbidden(tree):
    allowed = [tree / "desk", tree / "other"]
    for path in ("desk", "desk/project", "link", "other"):
        assert resolve(str(tree / path), map(str, allowed), [])
    for path in (tree, tree / "desks", tree / "desk/..", "/"):
        assert refused(path, allowed) is Code.FORBIDDEN


def test_an_allowed_directory_may_be_a_link_itself(tree):
    assert resolve(str(tree / "desk/project"), [str(tree / "link")], []) == str(tree / "desk/project")


def test_a_blocked_directory_is_forbidden_with_all_below_it(tree):
    (tree / "desk/secret/below").mkdir()
    blocked = [f"{tree}/desk/secret/"]
    for path in ("desk/secret", "desk/secret/below", "to-secret", "link/../secret"):
        assert refused(tree / path, [], blocked) is Code.FORBIDDEN
    assert resolve(str(tree / "desk"), [], blocked)


def test_a_blocked_directory_is_blocked_within_an_allowed_one(tree):
    assert refused(tree / "desk/secret", [tree / "desk"], [tree / "desk/secret"]) is Code.FORBIDDEN


def test_to_block_the_root_is_to_block_all(tree):
    assert refused(tree, [], ["/"]) is Code.FORBIDDEN
    assert resolve(str(tree), ["/"], []) == str(tree)
