"""The web application: every surface's routes, one error handler, and what each response carries."""

from typing import cast

from quart import Response, has_websocket_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import WebsocketMismatch

from actors.errors import ActorDied, Code, Refusal
from clinvoker.api import anthropic, backends, docs, fanout, health, native, openai, openapi, runs, sessions
from clinvoker.api import websocket as websockets
from clinvoker.api.errors import render
from clinvoker.api.exchange import check_declared
from clinvoker.api.guard import REQUEST_ID, ROUTE
from clinvoker.backends.probe import Versions
from clinvoker.chat.turn import Chats
from clinvoker.http import quartfix
from clinvoker.logs import get_logger
from clinvoker.metrics import Metrics
from clinvoker.service import Service

_log = get_logger("clinvoker.api")


def make_app(service: Service, metrics: Metrics) -> QuartTrio:
    """Build the application."""
    app = QuartTrio("clinvoker", static_folder=None)
    quartfix.fix(app)
    app.url_map.merge_slashes = False  # a redirect is no answer to a program
    native.register(app, service)
    fanout.register(app, service)
    backends.register(app, service, Versions())
    runs.register(app, service)
    sessions.register(app, service)
    websockets.register(app, service)
    chats = Chats(service)
    openai.register(app, chats)
    anthropic.register(app, chats)
    health.register(app, service, metrics)
    docs.register(app)
    openapi.register(app)
    _register_hooks(app, metrics)
    _register_errors(app, service)
    return app


def _register_hooks(app: QuartTrio, metrics: Metrics) -> None:
    @app.before_request
    async def declared() -> None:  # pyright: ignore[reportUnusedFunction] - quart keeps it
        if request.routing_exception is None:
            check_declared()

    @app.after_request
    async def count(response: Response) -> Response:  # pyright: ignore[reportUnusedFunction]
        route = request.url_rule.rule if request.url_rule is not None else "none"
        cast("dict[str, str]", request.scope)[ROUTE] = route
        metrics.count_request(route, request.method, response.status_code)
        return response

    @app.before_websocket
    async def name() -> None:  # pyright: ignore[reportUnusedFunction]
        cast("dict[str, str]", websocket.scope)[ROUTE] = (
            websocket.url_rule.rule if websocket.url_rule else "none"
        )


def _register_errors(app: QuartTrio, service: Service) -> None:
    @app.errorhandler(Refusal)
    async def refused(refusal: Refusal) -> Response:  # pyright: ignore[reportUnusedFunction]
        return _error(refusal)

    @app.errorhandler(ActorDied)
    async def died(death: ActorDied) -> Response:  # pyright: ignore[reportUnusedFunction]
        if service.stopping:
            return _error(Refusal(Code.DRAINING, "the daemon is shutting down", retry_after=5.0))
        _log.error("an actor died under a request", error=str(death), request_id=_request_id())
        return _error(Refusal(Code.INTERNAL, f"the daemon failed; its log has {_request_id()}"))

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:  # pyright: ignore[reportUnusedFunction]
        response = _error(_refusal_of(error))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    async def failed(error: Exception) -> Response:  # pyright: ignore[reportUnusedFunction]
        _log.error("a request failed", exc_info=error, request_id=_request_id())
        return _error(Refusal(Code.INTERNAL, f"the daemon failed; its log has {_request_id()}"))


def _refusal_of(error: HTTPException) -> Refusal:
    """What the framework itself refuses, in our words."""
    path = _scope()["path"]
    if has_websocket_context():
        return Refusal(Code.NOT_FOUND, f"there is no websocket at {path}")
    if isinstance(error, NotFound):
        return Refusal(Code.NOT_FOUND, f"there is no {path}")
    if isinstance(error, MethodNotAllowed):
        return Refusal(Code.METHOD_NOT_ALLOWED, f"{path} does not take {request.method}")
    if isinstance(error, WebsocketMismatch):
        return Refusal(Code.INVALID_REQUEST, f"{path} is a websocket: ask for an upgrade")
    return Refusal(Code.INVALID_REQUEST, error.description or error.name)


def _scope() -> dict[str, str]:
    """The ASGI scope at hand: a request for a websocket that is not there ends here as well."""
    return cast("dict[str, str]", websocket.scope if has_websocket_context() else request.scope)


def _request_id() -> str:
    return _scope()[REQUEST_ID]


def _error(refusal: Refusal) -> Response:
    status, body, headers = render(refusal, _scope()["path"], _request_id())
    return Response(body, status=status, headers=headers)
