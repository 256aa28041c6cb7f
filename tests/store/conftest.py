import tempfile
from pathlib import Path

import pytest

from tests.store.support import MEMORY


@pytest.fixture
def memory_path():
    """A directory in memory."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)
