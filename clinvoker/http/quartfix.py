"""What has to be set on a QuartTrio app so that the HTTP ground's bounds are the only ones."""

from typing import Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIWebsocketConnection


class WebsocketConnection(TrioASGIWebsocketConnection):
    """quart-trio's websocket, whose `receive()` returned None for an empty binary message (platform.md row 11)."""

    async def handle_messages(self, nursery: trio.Nursery, receive: ASGIReceiveCallable) -> None:  # type: ignore[override]
        """Hand the peer's messages to the handler, and cancel it when the peer has gone."""
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                break
            if event["type"] == "websocket.receive":
                data, text = event.get("bytes"), event.get("text")
                await self.send_channel.send(data if data is not None else text or "")
        nursery.cancel_scope.cancel()


def fix(app: QuartTrio) -> None:
    """Take quart's own limits away and its websocket class in hand. `serve()` does this for an app it is given bare.

    RESPONSE_TIMEOUT cut every stream after 60 s without a word; BODY_TIMEOUT and MAX_CONTENT_LENGTH answered but left
    the connection open (rows 5 and 9). `Limits` has all three, and ends the connection.
    """
    app.config["RESPONSE_TIMEOUT"] = None
    app.config["BODY_TIMEOUT"] = None
    app.config["MAX_CONTENT_LENGTH"] = None
    app.asgi_websocket_class = cast("Any", WebsocketConnection)
