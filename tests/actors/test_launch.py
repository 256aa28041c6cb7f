"""A program is started in the directory that was checked, and in no other."""

import os
import threading

import pytest

from actors.launch import Launch, LaunchError, start


async def where(directory):
    """Start a program there; return where it finds itself, or None if it was not started."""
    launch = Launch(("/bin/sh", "-c", "/bin/pwd -P"), {"PATH": "/usr/bin:/bin"}, str(directory))
    try:
        popen, pidfd = await start(launch, "test-0")
    except LaunchError:
        return None
    os.close(pidfd)
    with popen:
        return popen.communicate()[0].decode().rstrip("\n")


@pytest.fixture
def place(tmp_path):
    """What was checked, and what must not be entered."""
    work, secret = tmp_path / "work", tmp_path / "secret"
    work.mkdir()
    secret.mkdir()
    return work, secret


async def test_it_starts_where_it_is_told(place):
    assert await where(place[0]) == str(place[0])


async def test_a_link_is_not_followed_wherever_it_is_in_the_path(place, tmp_path):
    work, secret = place
    work.rmdir()
    work.symlink_to(secret)
    with pytest.raises(LaunchError) as error:
        await start(Launch(("/bin/true",), {}, str(work)), "test-0")
    assert error.value.kind == "cwd"
    (secret / "below").mkdir()
    assert await where(work / "below") is None
    assert await where(tmp_path / "absent") is None


async def test_a_link_that_takes_the_directorys_place_at_any_moment_is_never_entered(place, tmp_path):
    work, secret = place
    aside, link = tmp_path / "aside", tmp_path / "link"
    link.symlink_to(secret)
    over = threading.Event()

    def swap():
        while not over.is_set():
            work.rename(aside)
            link.rename(work)
            work.rename(link)
            aside.rename(work)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        found = [await where(work) for _ in range(300)]
    finally:
        over.set()
        swapper.join()
    # A directory that has been moved in the meantime is the one that was checked all the same.
    assert {*found} <= {None, str(work), str(aside)}
    assert str(secret) not in found


async def test_the_directory_is_not_left_open_in_the_program(place):
    launch = Launch(("/bin/sh", "-c", "ls /proc/self/fd"), {"PATH": "/usr/bin:/bin"}, str(place[0]))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, not paths
    popen, pidfd = await start(launch, "test-0")
    os.close(pidfd)
    with popen:
        assert popen.communicate()[0].split() == [b"0", b"1", b"2", b"3"]  # the last is that of ls itself
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
