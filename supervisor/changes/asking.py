"""Who requested something, by which way, and with which version of the program: what the journal keeps of every act of
an operator.

The person is the operating system's user of the requesting process, by user id, since anybody can set what the
environment says of a user. Where the system records who logged in (Linux does, through ``su`` and ``sudo``), it is that
user. Who may reach the supervisor at all is not decided here (SECURITY.md).
"""

from __future__ import annotations

import os
import socket
import sys
from enum import StrEnum
from pathlib import Path

from actors.events import Json
from brokers.frozen import dataclass
from brokers.versions import across_versions, program_version


class Via(StrEnum):
    """The way a request came in."""

    HANDLE = "handle"  # a program or a notebook that called supervisor.connect()
    COMMAND_LINE = "command line"
    PAGE = "page"  # the person signed in at the page, by the name in its token file
    START = "start"  # the process of `start`, when it was requested to end


@across_versions
@dataclass(frozen=True, slots=True)
class Asked:
    """A requester: the user, the way, the version of this program, the ``process`` (its number and what it runs), and
    the ``strategy`` where one was named."""

    by: str
    via: str
    program: str
    process: str = ""
    strategy: str | None = None

    def __str__(self) -> str:
        return self.by


Who = Asked | str | None
"""The requester, as far as it is known: a caller of an earlier version sends a name alone."""

_NOBODY_LOGGED_IN = 2**32 - 1
_way = Via.HANDLE


def came_by(way: Via) -> None:
    """Record all further requests of this process, from any of its threads, as made in this way."""
    global _way
    _way = way


def asked(strategy: str | None = None) -> Asked:
    """The requester of this process, now; ``strategy`` is the strategy on whose behalf it acts."""
    return Asked(asked_by(), _way.value, program_version(), process_words(), strategy)


def process_words() -> str:
    """This process: its number and the name of its program, without arguments, as one could be a secret."""
    script = Path(sys.argv[0] if sys.argv else "")
    name = script.parent.name if script.name == "__main__.py" else script.name
    return f"{os.getpid()} {name if name not in ('', '-', '-c', '-m') else 'python'}"


def asked_by() -> str:
    """The user and the machine."""
    return f"{user_name()}@{socket.gethostname()}"


def said_of(who: Who) -> dict[str, Json]:
    """The payload keys that name the requester. Where it is unknown, ``program`` is the version of this process."""
    match who:
        case Asked(by, via, program, process, strategy):
            keys: dict[str, Json] = {"by": by, "via": via, "program": program}
            keys |= {"process": process} if process else {}
            return keys | ({"strategy": strategy} if strategy is not None else {})
        case str():
            return {"by": who, "program": program_version()}
        case None:
            return {"program": program_version()}


def sender_keys(who: Who) -> dict[str, Json] | None:
    """The payload keys that name the sender of a report; ``None`` where it is unknown. The strategy is left out, since
    a report names its own."""
    if who is None:
        return None
    return {key: value for key, value in said_of(who).items() if key != "strategy"}


def user_name() -> str:
    """The user of this process, from the operating system and not from the environment."""
    try:
        import pwd
    except ImportError:  # Windows: the environment is all there is without another library
        return os.environ.get("USERNAME", "unknown")
    uid = _login_uid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's user need not have a name
        return f"user {uid}"


def _login_uid() -> int:
    """The user who logged in, where the system records that; else the user of this process."""
    try:
        with open("/proc/self/loginuid", encoding="ascii") as login:
            uid = int(login.read())
    except (OSError, ValueError):
        return os.getuid()
    return os.getuid() if uid == _NOBODY_LOGGED_IN else uid
