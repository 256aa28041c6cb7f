"""Sessions that were in use a moment ago, so that the next turn of a live one does not wait for the disk."""

from collections import OrderedDict

from clinvoker.store import SessionRecord

MOST = 1024


class KnownSessions:
    """The latest stored sessions by id, as far as they never change: whose they are, their backend, their options.

    One that was deleted elsewhere may still be known here; it is refused when its turn is to be stored.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._records: OrderedDict[str, SessionRecord] = OrderedDict()

    def get(self, session_id: str, owner: str) -> SessionRecord | None:
        """The owner's session of exactly that id, if it is known."""
        record = self._records.get(session_id)
        if record is None or record.owner != owner:
            return None
        self._records.move_to_end(session_id)
        return record

    def add(self, record: SessionRecord) -> None:
        """Know a session that is stored."""
        self._records[record.id] = record
        self._records.move_to_end(record.id)
        if len(self._records) > self._most:
            self._records.popitem(last=False)

    def discard(self, session_id: str) -> None:
        """Know it no longer."""
        self._records.pop(session_id, None)
