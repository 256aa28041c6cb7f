"""One daemon per state directory."""

import os
import subprocess
import sys

import pytest

from clinvoker.lock import StateError, lock_state

HOLD = "import sys, time; from clinvoker.lock import lock_state\nwith lock_state(sys.argv[1]): print('held', flush=True); time.sleep(60)"


def test_the_directory_is_made_for_its_owner_alone(tmp_path):
    with lock_state(str(tmp_path / "deep/state")) as directory:
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "lock").stat().st_mode & 0o777 == 0o600
        assert (directory / "lock").read_text() == f"{os.getpid()}\n"


def test_a_second_holder_is_told_who_is_the_first(tmp_path):
    with lock_state(str(tmp_path)):
        told = rf"^already running \(pid {os.getpid()}\) on {tmp_path}$"
        with pytest.raises(StateError, match=told), lock_state(str(tmp_path)):
            pass
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_is_free_again_after_its_block(tmp_path):
    for _ in range(3):
        with lock_state(str(tmp_path)):
            pass


def test_a_lock_is_gone_with_its_holder_however_that_ended(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=rf"pid {holder.pid}\b"), lock_state(str(tmp_path)):
            pass
        holder.kill()
        holder.wait()
    with lock_state(str(tmp_path)):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_what_a_left_over_file_says_means_nothing(tmp_path):
    (tmp_path / "lock").write_text("999999999999 and much more than a pid\n")
    with lock_state(str(tmp_path)):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_child_does_not_keep_the_lock(tmp_path):
    with lock_state(str(tmp_path)):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with lock_state(str(tmp_path)):
            pass
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("place", ["file", "file/below", "lock-is-a-directory"])
def test_a_directory_that_cannot_be_used_is_one_line(tmp_path, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "lock-is-a-directory/lock").mkdir(parents=True)
    with pytest.raises(StateError) as error, lock_state(str(tmp_path / place)):
        pass
    assert str(error.value).startswith(f"{tmp_path / place} cannot be used: ")
    assert "\n" not in str(error.value)
