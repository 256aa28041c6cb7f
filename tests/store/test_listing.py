"""The list of sessions against a model: a plain Python list, filtered and sorted by hand."""

import tempfile

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from msgspec.structs import replace

from clinvoker.store import (
    AddTurn,
    Database,
    DeleteSession,
    EditSession,
    FinishTurn,
    ForkSession,
    PutSession,
    SessionFilter,
)
from clinvoker.store.listing import count_all, list_sessions
from clinvoker.store.sessions import get_session
from clinvoker.store.turns import turns_of
from tests.store.support import MEMORY, NOW, Clock, a_session, a_turn, apply

OWNERS = st.sampled_from(["me", "you"])
BACKENDS = st.sampled_from(["claude", "codex"])
TAGS = st.lists(st.sampled_from(["red", "blue", "green"]), max_size=3).map(tuple)
WORDS = st.lists(st.sampled_from(["apple", "pear", "plum", "梨子"]), min_size=1, max_size=3).map(" ".join)
TIMES = st.integers(0, 5).map(lambda step: NOW + step)


class Model(RuleBasedStateMachine):
    sessions = Bundle("sessions")

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory(dir=MEMORY)
        self.connection = Database(self.place.name, Clock()).open()
        self.known = {}
        self.words = {}
        self.made = 0

    def teardown(self):
        self.connection.execute("INSERT INTO turn_words (turn_words) VALUES ('integrity-check')")
        self.connection.close()
        self.place.cleanup()

    def new(self, **fields):
        self.made += 1
        return a_session(self.made, **fields)

    @rule(target=sessions, owner=OWNERS, backend=BACKENDS, tags=TAGS, updated=TIMES)
    def put(self, owner, backend, tags, updated):
        session = self.new(owner=owner, backend=backend, tags=tags, updated=updated)
        apply(self.connection, PutSession(session))
        self.known[session.id] = session
        self.words[session.id] = []
        return session.id

    @rule(session=sessions, tags=TAGS)
    def tag(self, session, tags):
        apply(self.connection, EditSession(session, tags=tags))
        self.known[session] = replace(self.known[session], tags=tags)

    @rule(session=sessions, prompt=WORDS, output=WORDS, started=TIMES, failed=st.booleans())
    def take_turn(self, session, prompt, output, started, failed):
        before = self.known[session]
        number = before.turns + 1
        code = "timeout" if failed else None
        turn = a_turn(before, number, prompt=prompt, started=started)
        apply(self.connection, AddTurn(turn), FinishTurn(session, "run_1", started, output=output, code=code))
        self.known[session] = replace(
            before,
            turns=number,
            status="error" if failed else "idle",
            updated=max(before.updated, started),
        )
        self.words[session].append({*prompt.split(), *output.split()})

    @rule(target=sessions, parent=sessions, updated=TIMES)
    def fork(self, parent, updated):
        owner = self.known[parent].owner
        session = self.new(owner=owner, updated=updated, parent=parent)
        apply(self.connection, ForkSession(session))
        self.known[session.id] = replace(session, turns=self.known[parent].turns)
        self.words[session.id] = list(self.words[parent])
        return session.id

    @rule(session=consumes(sessions))
    def delete(self, session):
        apply(self.connection, DeleteSession(session))
        del self.known[session], self.words[session]

    @rule(
        owner=OWNERS,
        backend=BACKENDS | st.just(""),
        status=st.sampled_from(["", "idle", "error", "running"]),
        tag=st.sampled_from(["", "red", "blue", "none"]),
        q=st.sampled_from(["", "apple", "plum pear", "梨", "子子"]),
        limit=st.integers(0, 4),
        offset=st.integers(0, 4),
    )
    def look(self, owner, backend, status, tag, q, limit, offset):
        wanted = SessionFilter(
            owner=owner, backend=backend, status=status, tag=tag, q=q, limit=limit, offset=offset
        )
        expected = [
            session
            for session in self.known.values()
            if session.owner == owner
            and backend in {"", session.backend}
            and status in {"", session.status}
            and (not tag or tag in session.tags)
            and (not q or self.mentions(session.id, q))
        ]
        expected.sort(key=lambda session: (session.updated, session.id), reverse=True)
        page = list_sessions(self.connection, wanted)
        assert page.total == len(expected)
        assert list(page.sessions) == expected[offset : offset + limit]

    def mentions(self, session, q):
        terms = {"梨": {"梨子"}, "子子": {"never"}}.get(q) or set(q.split())
        return any(terms <= words for words in self.words[session])

    @invariant()
    def everything_is_there(self):
        assert count_all(self.connection).sessions == len(self.known)
        for session in self.known.values():
            assert get_session(self.connection, session.id, session.owner) == session
            assert len(turns_of(self.connection, session.id)) == session.turns


TestListing = Model.TestCase
TestListing.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_a_page_beyond_the_end_is_empty_and_an_enormous_limit_is_bounded(tmp_path):
    connection = Database(tmp_path, Clock()).open()
    try:
        apply(connection, PutSession(a_session()))
        page = list_sessions(connection, SessionFilter(owner="me", offset=10**30, limit=10**30))
        assert (page.sessions, page.total) == ((), 1)
        assert len(list_sessions(connection, SessionFilter(owner="me", limit=10**30)).sessions) == 1
    finally:
        connection.close()
