"""What all connections of one `serve()` share."""

import msgspec
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext

from clinvoker.http.exchange import App
from clinvoker.http.limits import Limits
from clinvoker.http.refusal import RenderError


class Shared(msgspec.Struct, frozen=True):
    """The app, its bounds, and hypercorn's view of both; `context.terminated` is set when the server ends.

    Requests that came before the answer to the one before them go one by one through `turnstile`, those of all
    connections together: a few deep pipelines would else be served at the cost of everyone else.
    """

    app: App
    limits: Limits
    render_error: RenderError
    config: Config
    context: WorkerContext
    turnstile: trio.Lock
