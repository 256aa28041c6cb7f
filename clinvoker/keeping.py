"""What the actors keep in the store: a run's journal and a session's memory."""

import time
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import UNSET, UnsetType
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


class _Turn:
    """A turn that a run takes in a session, and what was said in it so far."""

    def __init__(self, session: str, prompt: str) -> None:
        self.session = session
        self.prompt = prompt
        self.begun = False
        self.texts: list[str] = []


class RunJournal:
    """Keeps one run, and the turns it takes in sessions (actors' port `Journal`).

    A turn is stored when the agent has accepted it. What was refused before that is no turn, and not stored at all
    unless `begin` was called: its caller got the refusal as the answer.
    """

    def __init__(
        self, store: StoreClient, run: RunRecord, prompt: str = "", *, promised: bool = False
    ) -> None:
        self._store = store
        self._run = run
        self._promised = promised
        """Whether the caller is answered with the run's id alone, so that it must be found whatever comes of it."""
        self._begun = False
        self._turns: dict[int | UnsetType, _Turn] = {}
        """By task; a run that is one turn has it under UNSET."""
        if run.session is not None:
            self._turns[UNSET] = _Turn(run.session, prompt)

    def expect(self, task: int, session: str, prompt: str) -> None:
        """A task of the run is about to take a turn in a session that is kept."""
        self._turns[task] = _Turn(session, prompt)

    async def begin(self) -> None:
        """Store the run before its first entry, for a caller who is answered before that."""
        await self._store.write(BeginRun(replace(self._run, session=None)))
        self._begun = True

    async def append(self, entries: Sequence[Entry]) -> None:
        """Keep further entries; the last one of the run ends it."""
        first = entries[0]
        refused = first.task is UNSET and isinstance(first.content, Failed)
        if refused and not (self._begun or self._promised):
            return
        changes: list[Change] = []
        if not self._begun:
            changes.append(BeginRun(replace(self._run, session=None) if refused else self._run))
        for entry in entries:
            changes.extend(self._turn_changes(entry))
        changes.append(batch(entries, self._run.backend, self._run.session or ""))
        last = entries[-1]
        if last.task is UNSET and isinstance(last.content, Complete | Failed):
            status = "error" if isinstance(last.content, Failed) else "complete"
            changes.append(FinishRun(self._run.id, status, time.time(), msgspec.json.encode(last.content)))
        await self._store.write(*changes)
        self._begun = True

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

    def _turn_changes(self, entry: Entry) -> Iterator[Change]:
        """What an entry changes of the turn that it belongs to."""
        turn = self._turns.get(entry.task)
        if turn is None:
            return
        event = entry.content
        if not turn.begun and not isinstance(event, Failed):
            turn.begun = True
            yield AddTurn(self._record(turn), sole=entry.task is UNSET)
        if type(event) is Message:
            turn.texts.append(event.text)
        elif isinstance(event, Complete | Failed) and turn.begun:
            yield self._end(turn, event)

    def _record(self, turn: _Turn) -> TurnRecord:
        return TurnRecord(
            session=turn.session, number=0, run=self._run.id, prompt=turn.prompt, started=time.time()
        )

    def _end(self, turn: _Turn, last: Complete | Failed) -> FinishTurn:
        failed = isinstance(last, Failed)
        return FinishTurn(
            turn.session,
            self._run.id,
            time.time(),
            output="".join(turn.texts),
            code=last.code if failed else None,
            message=last.message if failed else "",
            usage=None if failed else last.token_usage,
        )


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


class PassingMemory:
    """Remembers a session for as long as somebody has this in hand, and stores nothing (actors' port `Memory`)."""

    def __init__(self) -> None:
        self._conversation: str | None = None

    async def conversation(self) -> str | None:
        """Return the agent's own id of the conversation."""
        return self._conversation

    async def set_conversation(self, conversation: str) -> None:
        """Remember the agent's own id of the conversation."""
        self._conversation = conversation

    async def history(self) -> list[tuple[str, str]]:
        """Return nothing: what was said is not kept."""
        return []
