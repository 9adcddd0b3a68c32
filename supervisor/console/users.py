"""Who may sign in to the page: a file with one line a person, readable by its owner alone.

A line is ``NAME ROLE sha256:HEX``: the file holds no token, only its digest. ``#`` begins a comment. A file that others
can read or write lets nobody in, and neither does one with an unreadable line: otherwise a half-written file could
still let in a person who is being removed from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from brokers.frozen import dataclass
from brokers.kit.whole_file import write_whole

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_LONGEST_TOKEN = 512


class Role(IntEnum):
    """What a person may do; each role includes those before it."""

    VIEWER = 1  # looks
    OPERATOR = 2  # takes, assigns, proposes and waives breaks; halts and resumes
    APPROVER = 3  # approves corrections


@dataclass(frozen=True, slots=True)
class User:
    """A person who may sign in. ``digest`` is the SHA-256 of their token."""

    name: str
    role: Role
    digest: str


class TokensUnusable(Exception):
    """The token file lets nobody in: ``found`` is the reason, ``remedy`` what to do."""

    def __init__(self, file: str, found: str, remedy: str) -> None:
        super().__init__(file, found, remedy)
        self.file = file
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"nobody can sign in: {self.file} {self.found}. {self.remedy}"


class Users:
    """The people of a token file, read again whenever it changes: a removed person is signed out at once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._seen: tuple[int, int, int] | None = None
        self._users: tuple[User, ...] = ()

    def all(self) -> tuple[User, ...]:
        """Everybody. Raises :class:`TokensUnusable`."""
        add = "Add somebody with: python -m supervisor console --add NAME --role approver"
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise TokensUnusable(self.file, "does not exist", add) from None
        except OSError as error:
            raise TokensUnusable(self.file, f"cannot be read ({error.strerror})", "Run this as its owner") from None
        with contextlib.closing(os.fdopen(descriptor, encoding="utf-8", errors="replace")) as opened:
            found = os.fstat(descriptor)  # of the file that is read, and not of one that replaces it a moment later
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                remedy = f"It must be its owner's alone: chmod 600 {self.file}"
                raise TokensUnusable(self.file, f"has mode {stat.S_IMODE(found.st_mode):04o}", remedy)
            key = (found.st_ino, found.st_mtime_ns, found.st_size)
            if key != self._seen:
                self._users = parsed(self.file, opened.read())
                self._seen = key
        if not self._users:
            raise TokensUnusable(self.file, "names nobody", add)
        return self._users

    def by_token(self, token: str) -> User | None:
        """The owner of a token; every line is compared, in constant time. Raises :class:`TokensUnusable`."""
        given = digest(token[:_LONGEST_TOKEN])
        found = None
        for user in self.all():
            if hmac.compare_digest(user.digest, given):
                found = user
        return found

    def still(self, user: User) -> User | None:
        """The user as the file has them now; ``None`` where their line is gone or has another token."""
        try:
            return next((one for one in self.all() if (one.name, one.digest) == (user.name, user.digest)), None)
        except TokensUnusable:
            return None


def digest(token: str) -> str:
    """The digest of a token. A token is 32 random bytes, which no list of guesses contains: no salt is needed."""
    return hashlib.sha256(token.encode("utf-8", errors="replace")).hexdigest()


def parsed(file: str, text: str) -> tuple[User, ...]:
    """The people that a text names. Raises :class:`TokensUnusable` for any line that cannot be read."""
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        matched = _DIGEST.fullmatch(words[2]) if len(words) == 3 else None
        if matched is None or not _NAME.fullmatch(words[0]) or words[1].upper() not in Role.__members__:
            wanted = "Each line is NAME viewer|operator|approver sha256:HEX; the command console --add writes it"
            raise TokensUnusable(file, f"has a line {number} that cannot be read", wanted)
        if words[0] in users:
            raise TokensUnusable(file, f"names {words[0]} a second time in line {number}", "Remove one of the lines")
        users[words[0]] = User(words[0], Role[words[1].upper()], matched[1])
    return tuple(users.values())


def add(file: str, name: str, role: Role) -> str:
    """Add a person, or give them a new role and token; returns the token, which is stored nowhere. Raises
    :class:`TokensUnusable`, ``ValueError`` for an invalid name, and ``OSError``."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, . _ and -, 64 at most")
    before: Sequence[str] = ()
    if os.path.exists(file):
        with contextlib.suppress(TokensUnusable):
            Users(file).all()
        with open(file, encoding="utf-8") as opened:
            before = opened.read().splitlines()
        parsed(file, "\n".join(before))
    token = secrets.token_urlsafe(32)
    kept = [line for line in before if line.split()[:1] != [name]]
    text = "\n".join([*kept, f"{name} {role.name.lower()} sha256:{digest(token)}", ""])
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write_whole(Path(file), text.encode())
    return token
