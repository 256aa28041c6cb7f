"""Killing everything of a kind, though it forks, makes its own sessions and drops its environment.

Standard library only: the guardian loads this into a bare interpreter.
"""

import errno
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from actors.marker import Found, everyone, kill, now_ticks

_STEP_S = 0.01
_AGAIN_S = 0.001
"""Between two looks that see somebody: what forks all the time must be caught between two forks."""
_LOOKS = 3
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Sweep:
    """Ends every marked process that matches, and its kin: what descends from it, and what shares its session.

    Iterating does the work and yields the seconds to wait before the next step, so that one recipe serves trio and the
    guardian, which sleeps: `for pause in sweep: await trio.sleep(pause)`.

    Until `term_s` seconds have passed each gets one SIGTERM, with its process group; then SIGKILL, until nothing has been
    seen for `quiet_s` seconds and three looks: one is not enough, as a process may fork after /proc was listed and die before it
    is read. It gives up after `limit_s` seconds (what is stuck in the kernel cannot be killed).

    `sessions` are known to be ours from the start, and must be kept from being reused by whoever names them.
    """

    def __init__(
        self,
        match: Callable[[Found], bool],
        *,
        sessions: Iterable[int] = (),
        term_s: float = 0.0,
        quiet_s: float = 0.02,
        limit_s: float = 2.0,
    ) -> None:
        self._match = match
        self._term_s = term_s
        self._quiet_s = quiet_s
        self._limit_s = limit_s
        self._begun = now_ticks()
        self._known: set[tuple[int, int]] = set()
        self._sessions = set(sessions)
        self.killed: set[tuple[int, int]] = set()
        """What has been signalled so far, by pid and start time."""
        self.left: list[Found] = []
        """What the last look saw."""
        self.done = False
        """Whether it ended because nothing is left."""

    def __iter__(self) -> Iterator[float]:
        begun = quiet_since = time.monotonic()
        empty_looks = 0
        while True:
            seen = self.look()
            now = time.monotonic()
            try:
                self._signal(signal.SIGTERM if now - begun < self._term_s else signal.SIGKILL)
            except OSError as error:
                _pass_shortage(error)
            empty_looks += 1
            if seen:
                quiet_since, empty_looks = now, 0
            elif now - quiet_since >= self._quiet_s and empty_looks >= _LOOKS:
                self.done = True
                return
            if now - begun >= self._limit_s:
                return
            yield _AGAIN_S if seen else _STEP_S

    def look(self) -> bool:
        """Look who is there, and return whether anybody may be.

        What has been seen once is remembered, though its parent dies: a look before the first signal finds more.
        """
        try:
            rest = everyone()
        except OSError as error:
            # Blind, for want of descriptors or memory: others may give some back.
            _pass_shortage(error)
            return True
        # The number of a session that is gone may come back, but only with a new leader.
        self._sessions -= {one.pid for one in rest if one.pid == one.session and one.ticks > self._begun}
        alive = {one.pid for one in rest}
        self.left = []
        kin = [one for one in rest if self._is_ours(one)]
        while kin:
            self.left += kin
            pids = {one.pid for one in kin}
            # Not the session of a stranger who lives, such as a terminal in which somebody plays with our variable.
            self._sessions |= {
                one.session for one in kin if one.session in pids or one.session not in alive
            } - {0}
            rest = [one for one in rest if one.pid not in pids]
            kin = [one for one in rest if one.ppid in pids or one.session in self._sessions]
        self._known.update((one.pid, one.ticks) for one in self.left)
        return bool(self.left)

    def _is_ours(self, one: Found) -> bool:
        if one.session in self._sessions or (one.pid, one.ticks) in self._known:
            return True
        return bool(one.marker) and self._match(one)

    def _signal(self, signum: int) -> None:
        for one in self.left:
            key = (one.pid, one.ticks)
            if signum == signal.SIGTERM and key in self.killed:
                continue
            if kill(one, signum):
                self.killed.add(key)


def _pass_shortage(error: OSError) -> None:
    if error.errno not in _SHORTAGES:
        raise error
