"""What several tests of a session begin with."""

import pytest

from tests.actors.session_world import World


@pytest.fixture
def world():
    return World()
