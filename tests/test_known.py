"""Sessions that were in use a moment ago."""

from actors.messages import Options
from clinvoker.known import KnownSessions
from clinvoker.store import SessionRecord


def session(name, owner="me"):
    return SessionRecord(id=name, owner=owner, backend="echo", created=1.0, updated=1.0, options=Options())


def test_a_session_is_known_by_its_whole_id_to_its_owner_alone():
    known = KnownSessions()
    known.add(session("ses_12345"))
    assert known.get("ses_12345", "me") == session("ses_12345")
    assert known.get("ses_1234", "me") is None
    assert known.get("ses_12345", "another") is None


def test_a_deleted_session_is_known_no_longer():
    known = KnownSessions()
    known.add(session("ses_12345"))
    known.discard("ses_12345")
    known.discard("ses_never")
    assert known.get("ses_12345", "me") is None


def test_what_was_used_longest_ago_makes_room():
    known = KnownSessions(most=2)
    known.add(session("one"))
    known.add(session("two"))
    assert known.get("one", "me")
    known.add(session("three"))
    assert [name for name in ("one", "two", "three") if known.get(name, "me")] == ["one", "three"]
