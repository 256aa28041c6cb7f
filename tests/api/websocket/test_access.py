"""Who may connect."""

import pytest

from tests.api.websocket.support import PATH, connected, handshake
from tests.http.support import upgrade
from tests.support.daemon import Daemon


@pytest.mark.daemon
async def test_host_origin_and_key_are_checked_before_the_handshake(tmp_path):
    with Daemon(tmp_path, env={"CLINVK_API_KEY": "key-one", "CLINVK_API_KEYS": "key-two"}) as daemon:
        right = ("authorization", "Bearer key-one")
        bad = [
            *(
                (401, []),
                (401, [("authorization", "Bearer wrong")]),
                (401, [("x-api-key", "key-one,key-two")]),
            ),
            *((403, [right, ("origin", "http://evil.example")]), (403, [right, ("origin", "null")])),
        ]
        for status, headers in bad:
            asked = upgrade(PATH, *(f"{name}: {value}" for name, value in headers))
            assert (await handshake(daemon, asked)).startswith(b"HTTP/1.1 %d " % status)
        async with (
            connected(daemon, extra_headers=[right]) as line,
            connected(daemon, "?api_key=key-two") as other,
        ):
            await line.send("prompt", ref="a", prompt="mine", detach=True)
            await line.ends("a")
            run_id = line.told[0]["run_id"]
            for frame_ in (
                ("attach", {"ref": "b"}),
                ("cancel", {}),
                ("permission", {"id": "p", "option": "o"}),
            ):
                told = await other.ask(frame_[0], run_id=run_id, **frame_[1])
                assert told["content"]["code"] == "not_found"  # another key's run is nobody's
        rebound = upgrade(PATH, "X-Api-Key: key-one").replace(b"Host: localhost", b"Host: evil.example")
        assert (await handshake(daemon, rebound)).startswith(b"HTTP/1.1 403 ")
        plain = await daemon.client.call("GET", f"{PATH}?api_key=key-one")
        assert plain.status == 400
