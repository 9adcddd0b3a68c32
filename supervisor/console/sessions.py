"""The sessions, in this process's memory: after a restart of the page everybody signs in again.

A random cookie that scripts cannot read names a session. A request that changes something carries a second secret of
the session, which a page of another site can neither read nor guess.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from brokers.frozen import dataclass
from supervisor.console.users import User, Users

COOKIE = "supervisor_session"
ENDS_AFTER_S = 12 * 3600.0
"""A page on a wall display is never clicked: that alone ends no session."""
_MOST = 1_000


@dataclass(slots=True)
class Session:
    """A person who is signed in. ``csrf`` is the secret in their forms."""

    key: str
    user: User
    csrf: str
    began_s: float

    def proves(self, given: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), given.encode("utf-8", errors="replace"))


class Sessions:
    """All sessions."""

    def __init__(self, users: Users, monotonic_s: Callable[[], float]) -> None:
        self._users = users
        self._monotonic_s = monotonic_s
        self._sessions: dict[str, Session] = {}

    def begin(self, token: str) -> Session | None:
        """Sign in with a token; ``None`` for an unknown one. Raises ``TokensUnusable``."""
        user = self._users.by_token(token)
        if user is None:
            return None
        now_s = self._monotonic_s()
        self._forget_the_old(now_s)
        made = Session(secrets.token_urlsafe(32), user, secrets.token_urlsafe(32), now_s)
        self._sessions[made.key] = made
        return made

    def of(self, key: str | None) -> Session | None:
        """The session of a cookie, if it is valid, with the role that its user has now."""
        found = self._sessions.get(key) if key else None
        if found is None:
            return None
        user = self._users.still(found.user)
        if user is None or self._monotonic_s() - found.began_s > ENDS_AFTER_S:
            self.end(found.key)
            return None
        found.user = user
        return found

    def end(self, key: str | None) -> None:
        """Sign out."""
        if key:
            self._sessions.pop(key, None)

    def _forget_the_old(self, now_s: float) -> None:
        for key in [one.key for one in self._sessions.values() if now_s - one.began_s > ENDS_AFTER_S]:
            del self._sessions[key]
        while len(self._sessions) >= _MOST:
            del self._sessions[next(iter(self._sessions))]
