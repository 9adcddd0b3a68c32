"""Who asks for something, how it came in, and by which version of the program: what the journal keeps of every act of
an operator.

The person is the operating system's user of the process that asks, by its user id: what the environment says of a user
is anybody's to set. Where the system keeps who logged in (Linux does, over ``su`` and ``sudo``), it is that user. Who
may reach the supervisor at all is not decided here (SECURITY.md).
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from actors.events import Json


class Via(StrEnum):
    """The way something came in."""

    HANDLE = "handle"  # a program or a notebook that called supervisor.connect()
    COMMAND_LINE = "command line"
    PAGE = "page"  # who is signed in at the page, by the name in its token file
    START = "start"  # the process of `start`, when it was told to end


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked, how, by which version of this program, from which ``process`` (its number and what it runs), and for
    which ``strategy`` where one was named."""

    by: str
    via: str
    program: str
    process: str = ""
    strategy: str | None = None

    def __str__(self) -> str:
        return self.by


Who = Asked | str | None
"""Who asks, as far as it is known: a caller of an earlier version tells a name alone."""

_NOBODY_LOGGED_IN = 2**32 - 1
_way = Via.HANDLE


def came_by(way: Via) -> None:
    """From now on what this process asks for came in this way, in whichever of its threads."""
    global _way
    _way = way


def asked(strategy: str | None = None) -> Asked:
    """Who asks now, and how; ``strategy`` is the one it is asked for."""
    return Asked(asked_by(), _way.value, program_version(), process_words(), strategy)


def process_words() -> str:
    """This process, by its number and the name of what it runs; no argument of it, as one could be a secret."""
    script = Path(sys.argv[0] if sys.argv else "")
    name = script.parent.name if script.name == "__main__.py" else script.name
    return f"{os.getpid()} {name if name not in ('', '-', '-c', '-m') else 'python'}"


def asked_by() -> str:
    """Who asks: the user and the machine."""
    return f"{user_name()}@{socket.gethostname()}"


def said_of(who: Who) -> dict[str, Json]:
    """The keys by which a payload tells who asked. Where that is not known, ``program`` is the version that does it."""
    match who:
        case Asked(by, via, program, process, strategy):
            told: dict[str, Json] = {"by": by, "via": via, "program": program}
            told |= {"process": process} if process else {}
            return told | ({"strategy": strategy} if strategy is not None else {})
        case str():
            return {"by": who, "program": program_version()}
        case None:
            return {"program": program_version()}


def told_by(who: Who) -> dict[str, Json] | None:
    """The keys that tell in the records of a report who made it; ``None`` where nobody is known. Its strategy is the
    report's own."""
    if who is None:
        return None
    return {key: value for key, value in said_of(who).items() if key != "strategy"}


@cache
def program_version() -> str:
    """The version of this program; ``unknown`` where it runs without being installed."""
    try:
        return version("reconciliation-supervisor")
    except PackageNotFoundError:
        return "unknown"


def user_name() -> str:
    """The user whose process this is, by the operating system and not by the environment."""
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
    """The user who logged in, where the system tells; else the one whose process this is."""
    try:
        with open("/proc/self/loginuid", encoding="ascii") as told:
            uid = int(told.read())
    except (OSError, ValueError):
        return os.getuid()
    return os.getuid() if uid == _NOBODY_LOGGED_IN else uid
