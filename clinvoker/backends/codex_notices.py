"""Which notifications of codex concern a turn, and what each does to it; any other is passed over."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from clinvoker.backends.codex_turn import Turn
from clinvoker.backends.codex_wire import (
    Delta,
    ItemNotice,
    PartNotice,
    TroubleNotice,
    TurnNotice,
    UsageNotice,
)


def _entry(shape: type[Any], take: Callable[[Turn, Any], None]) -> tuple[Callable[[Raw], Any], Any]:
    return msgspec.json.Decoder(shape).decode, take


_NOTICES = {
    "item/agentMessage/delta": _entry(Delta, Turn.said),
    "item/reasoning/summaryTextDelta": _entry(Delta, Turn.thought),
    "item/reasoning/textDelta": _entry(Delta, Turn.thought),
    "item/reasoning/summaryPartAdded": _entry(PartNotice, Turn.part_begun),
    "item/started": _entry(ItemNotice, Turn.item_begun),
    "item/completed": _entry(ItemNotice, Turn.item_done),
    "thread/tokenUsage/updated": _entry(UsageNotice, Turn.used),
    "error": _entry(TroubleNotice, Turn.troubled),
    "turn/started": _entry(TurnNotice, Turn.started),
    "turn/completed": _entry(TurnNotice, Turn.completed),
}


def deliver(turns: dict[str, Turn], method: str, params: Raw) -> None:
    """Decode a notification and hand it to its turn, if it has one. Raises `DecodeError`."""
    known = _NOTICES.get(method)
    if known is None:
        return
    decode, take = known
    notice = decode(params)
    turn = turns.get(notice.thread_id)
    if turn is None:
        root = notice.turn.root_turn_id if isinstance(notice, TurnNotice) else None
        turn = employer(turns, notice.thread_id, root)
    if turn is not None:
        take(turn, notice)


def employer(turns: dict[str, Turn], thread_id: str, root_turn_id: str | None = None) -> Turn | None:
    """Find the turn that a subagent's thread works for: known by its thread, at first by the root of its turn."""
    for turn in turns.values():
        if thread_id in turn.subagents or (root_turn_id and root_turn_id == turn.id):
            return turn
    return None
