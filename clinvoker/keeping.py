"""What the actors keep in the store: a run's journal and a session's memory."""

import time
from collections.abc import Sequence

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from actors.errors import Code, Refusal
from actors.messages import Complete, Entry, Failed, Message
from clinvoker.store import (
    AbandonRun,
    AddTurn,
    Ambiguous,
    BeginRun,
    Change,
    FinishRun,
    FinishTurn,
    PutSession,
    RunRecord,
    SessionRecord,
    SetConversation,
    StoreClient,
    TurnRecord,
    batch,
    decode_entries,
)


class RunJournal:
    """Keeps one run, and the turn it takes in a session (actors' port `Journal`).

    A turn is stored when the agent has accepted it. What was refused before that is no turn, and not stored at all
    unless `begin` was called: its caller got the refusal as the answer.
    """

    def __init__(
        self, store: StoreClient, run: RunRecord, prompt: str = "", *, promised: bool = False
    ) -> None:
        self._store = store
        self._run = run
        self._prompt = prompt
        self._promised = promised
        """Whether the caller is answered with the run's id alone, so that it must be found whatever comes of it."""
        self._begun = False
        self._turn = False
        self._texts: list[str] = []

    async def begin(self) -> None:
        """Store the run before its first entry, for a caller who is answered before that."""
        await self._store.write(BeginRun(replace(self._run, session=None)))
        self._begun = True

    async def append(self, entries: Sequence[Entry]) -> None:
        """Keep further entries; the last one of the run ends it."""
        refused = not self._turn and isinstance(entries[0].content, Failed)
        if refused and not self._promised:
            return
        takes_turn = not (self._turn or refused) and self._run.session is not None
        changes: list[Change] = []
        if not self._begun:
            changes.append(BeginRun(self._run if takes_turn else replace(self._run, session=None)))
        if takes_turn:
            changes.append(AddTurn(self._turn_record()))
        changes.append(batch(entries, self._run.backend, self._run.session or ""))
        self._texts.append("".join(entry.content.text for entry in entries if type(entry.content) is Message))
        last = entries[-1]
        if last.task is UNSET and isinstance(last.content, Complete | Failed):
            changes.extend(self._end(last.content, in_turn=self._turn or takes_turn))
        await self._store.write(*changes)
        self._begun = True
        self._turn = self._turn or takes_turn

    async def close(self, failed: Failed) -> None:
        """End what is stored of the run by this failure, if it is stored as going."""
        try:
            await self._store.write(AbandonRun(self._run.id, failed, time.time()))
        except Refusal:
            if self._begun:
                raise

    async def after(self, seq: int, most: int) -> list[Entry]:
        """Return kept entries after number `seq`."""
        lines = await self._store.events(self._run.id, seq, most)
        who = self._run.id, self._run.backend, self._run.session or ""
        return decode_entries(lines, seq, *who)

    def _turn_record(self) -> TurnRecord:
        session = self._run.session or ""
        return TurnRecord(
            session=session, number=0, run=self._run.id, prompt=self._prompt, started=time.time()
        )

    def _end(self, last: Complete | Failed, *, in_turn: bool) -> list[Change]:
        now = time.time()
        failed = isinstance(last, Failed)
        changes: list[Change] = []
        if in_turn:
            changes.append(
                FinishTurn(
                    self._run.session or "",
                    self._run.id,
                    now,
                    output="".join(self._texts),
                    code=last.code if failed else None,
                    message=last.message if failed else "",
                    usage=None if failed else last.token_usage,
                )
            )
        outcome = msgspec.json.encode(last)
        changes.append(FinishRun(self._run.id, "error" if failed else "complete", now, outcome))
        return changes


class SessionMemory:
    """Remembers one session (actors' port `Memory`). A new one is stored when its agent has a conversation."""

    def __init__(self, store: StoreClient, session: SessionRecord, *, stored: bool) -> None:
        self._store = store
        self._session = session
        self._stored = stored

    async def conversation(self) -> str | None:
        """Return the agent's own id of the conversation, as it is stored now."""
        if not self._stored:
            return None
        session = await self._store.session(self._session.id, self._session.owner)
        if session is None or isinstance(session, Ambiguous) or session.id != self._session.id:
            raise Refusal(Code.NOT_FOUND, f"no session {self._session.id}", param="session_id")
        return session.conversation

    async def set_conversation(self, conversation: str) -> None:
        """Remember the agent's own id of the conversation."""
        if self._stored:
            await self._store.write(SetConversation(self._session.id, conversation))
        else:
            await self._store.write(PutSession(replace(self._session, conversation=conversation)))
            self._stored = True

    async def history(self) -> list[tuple[str, str]]:
        """Return prompts and answers of the turns that ended well."""
        if not self._stored:
            return []
        turns = await self._store.turns(self._session.id)
        return [(turn.prompt, turn.output) for turn in turns if turn.ended is not None and turn.code is None]
