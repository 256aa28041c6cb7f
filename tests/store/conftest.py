import tempfile
from pathlib import Path

import pytest

from tests.store.support import MEMORY


@pytest.fixture
def tmp_path():
    """A directory in memory: here hundreds of databases are made, and none waits for the disk."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def disk_path(tmp_path_factory):
    """A directory on a real disk."""
    return tmp_path_factory.mktemp("disk")
