"""A Unix socket in the place of a port."""

import os
import socket
import stat

import pytest

from clinvoker.http.sockets import BindError
from clinvoker.http.unix import bind_unix, closing_all, peer_uid


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s"


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_its_owners_alone_whatever_the_umask(path):
    before = os.umask(0)
    try:
        with bind_unix(str(path)):
            assert mode_of(path) == 0o600
    finally:
        os.umask(before)


def test_one_that_nobody_listens_on_gives_way(path):
    bind_unix(str(path)).close()
    assert path.is_socket()
    with bind_unix(str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_one_that_is_listened_on_stays(path):
    with bind_unix(str(path)), pytest.raises(BindError, match="already in use"):
        bind_unix(str(path))
    assert path.is_socket()


def test_what_is_no_socket_stays(path):
    path.write_text("precious")
    with pytest.raises(BindError, match="no socket"):
        bind_unix(str(path))
    assert path.read_text() == "precious"


@pytest.mark.parametrize("where", ["absent/s", "x" * 200])
def test_a_path_that_cannot_be_is_one_line(tmp_path, where):
    with pytest.raises(BindError) as error:
        bind_unix(str(tmp_path / where))
    assert "\n" not in str(error.value)
    assert where in str(error.value)


def test_its_file_goes_with_it_but_not_anothers(path):
    with closing_all([bind_unix(str(path))]):
        pass
    assert not path.exists()
    with closing_all([bind_unix(str(path))]):
        path.unlink()
        other = bind_unix(str(path))
    assert path.is_socket()
    other.close()


def test_the_kernel_says_who_connects(path):
    with bind_unix(str(path)) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.settimeout(5)
        client.connect(str(path))
        connected, _ = listener.accept()
        with connected:
            assert peer_uid(connected) == os.getuid()
