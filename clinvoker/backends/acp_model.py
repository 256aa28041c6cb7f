"""The choice of a session's model, in the two ways that agents offer it."""

from actors.errors import Code, Refusal
from clinvoker.backends import acp_errors
from clinvoker.backends.acp_wire import ConfigOption, Session
from clinvoker.backends.jsonrpc import Peer, RpcError


def offers_models(session: Session) -> bool:
    """Tell whether the model of a session can be chosen."""
    return session.models is not None or _option(session) is not None


async def choose_model(peer: Peer, conversation: str, session: Session, wanted: str) -> str:
    """Set the model of a session that was just opened, unless `wanted` is empty; return the one it has then.

    gemini 0.61.0 has `session/set_model` (unstable in the protocol) and takes any name; opencode 1.18.33 has a
    configuration option and knows its models.
    """
    option = _option(session)
    if session.models is not None:
        current = session.models.current_model_id
        method, params = "session/set_model", {"modelId": wanted}
    elif option is not None:
        current = option.current_value if isinstance(option.current_value, str) else ""
        method, params = "session/set_config_option", {"configId": option.id, "value": wanted}
    elif wanted:
        raise Refusal(Code.UNSUPPORTED, "this agent does not let its model be chosen", param="model")
    else:
        return ""
    if not wanted or wanted == current:
        return current
    try:
        await peer.request(method, {"sessionId": conversation, **params}, object)
    except RpcError as error:
        raise acp_errors.refusal(error, param="model") from None
    return wanted


def _option(session: Session) -> ConfigOption | None:
    options = session.config_options or ()
    return next((option for option in options if "model" in (option.category, option.id)), None)
