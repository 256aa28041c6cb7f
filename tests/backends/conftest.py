"""What several tests of recorded ACP agents begin with."""

import pytest

from tests.backends.acp_player import Player


@pytest.fixture
def play(monkeypatch):
    """Play one recorded turn of an agent from its start."""

    async def play(agent, name, leave="allow"):
        player = Player(agent, monkeypatch)
        await player.open()
        events = await player.turn(name, leave=leave)
        assert player.link.unparsed == 0
        return events, player

    return play
