"""The version of this program, and which versions' messages it reads.

Processes of two versions talk to each other while code is upgraded actor by actor. The promise is stated here, and
``tests/unit/test_versions.py`` holds it, with a list of the fields of each message:

* :data:`MESSAGES` numbers what the actors say to each other: the fields of the messages, the words of their
  enumerations, the methods of the actors. Whoever changes any of it raises the number.
* A program reads the messages of every program from :data:`OLDEST_READ` on, and each of those reads its messages.
  Within that range a field is only ever appended, with a default: a reader takes the default where an older sender has
  no such field (:func:`across_versions`), and leaves out what a newer sender has appended.
* What cannot be so raises :data:`OLDEST_READ`, and code is not rolled over it (``apply --rolling`` refuses).
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from brokers.frozen import dataclass

VERSION: Final = "0.1.0"
"""In the code and not read from the installed package, which may be another one by the time a process asks."""
MESSAGES: Final = 1
OLDEST_READ: Final = 1

T = TypeVar("T")


class Unreadable(TypeError):
    """A message of a version that this one does not read. ``kind`` is what it is, ``lacks`` what it does not have."""

    def __init__(self, kind: str, lacks: str) -> None:
        super().__init__(kind, lacks)
        self.kind = kind
        self.lacks = lacks

    def __str__(self) -> str:
        return (
            f"a {self.kind} of another version of this program cannot be read: it has no {self.lacks}. This is version "
            f"{PROGRAM}, which reads messages from number {OLDEST_READ} on: stop, and start everything with one version"
        )


def across_versions(cls: type[T]) -> type[T]:
    """For a frozen, slotted dataclass that is pickled in one process and read in another, perhaps of another version:
    the fields that the sender did not know get their defaults, those that the reader does not know are left out."""
    made = fields(cls)  # type: ignore[arg-type]  # it is a dataclass
    names = tuple(one.name for one in made)

    def restore(self: Any, state: list[Any]) -> None:
        for name, value in zip(names, state, strict=False):
            object.__setattr__(self, name, value)
        for one in made[len(state) :]:
            if one.default_factory is not MISSING:
                value = one.default_factory()
            elif one.default is not MISSING:
                value = one.default
            else:
                raise Unreadable(cls.__name__, one.name)
            object.__setattr__(self, one.name, value)

    cls.__setstate__ = restore  # type: ignore[attr-defined]  # in place of the dataclass's own
    return cls


@across_versions
@dataclass(frozen=True, slots=True)
class Program:
    """The program that a process runs: its version, the number of its messages, and the oldest that it reads."""

    version: str
    messages: int = 0
    oldest_read: int = 0

    def __str__(self) -> str:
        return self.version

    def to_json(self) -> dict[str, Any]:
        """For the report of an actor that is plain JSON; :func:`program_of` reads it."""
        return {"version": self.version, "messages": self.messages, "oldest_read": self.oldest_read}

    def reads(self, other: Program) -> bool:
        """Whether processes of both can talk to each other. The newer one knows, of either direction."""
        older, newer = sorted((self, other), key=lambda one: one.messages)
        return 0 < newer.oldest_read <= older.messages


def program_of(said: object) -> Program | None:
    """The program that such JSON names; ``None`` where it names none."""
    match said:
        case {"version": str(version), "messages": int(messages), "oldest_read": int(oldest_read)}:
            return Program(version, messages, oldest_read)
    return None


def program_version() -> str:
    """The version of the code in this process."""
    return PROGRAM.version


def commit_of(root: Path) -> str | None:
    """The commit that is checked out in a folder; ``None`` where none can be determined."""
    try:
        folder = root / ".git"
        if folder.is_file():  # of a further working tree
            folder = root / folder.read_text().partition("gitdir:")[2].strip()
        head = (folder / "HEAD").read_text().strip()
        name = head.partition("ref: ")[2]
        if not name:
            return head
        common = folder / "commondir"
        shared = folder / common.read_text().strip() if common.exists() else folder
        if (shared / name).exists():
            return (shared / name).read_text().strip()
        packed = (shared / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except (OSError, ValueError):
        return None


def _version() -> str:
    """As installed, or with the commit where it runs from a checkout: an upgrade by ``git pull`` leaves the rest."""
    commit = commit_of(Path(__file__).resolve().parent.parent)
    return VERSION if commit is None else f"{VERSION}+git.{commit[:10]}"


PROGRAM: Final = Program(_version(), MESSAGES, OLDEST_READ)
"""What this process runs, as it was when it was imported."""
