"""What a writer and the journal say to each other; imports no database driver, so that any actor may use it.

* An append names the version of the stream it continues. It is answered :class:`Appended` when its events are
  durable, and :class:`Stale` when somebody else continued that stream first: nothing of it is then in the journal.
* An append that was offered before and is already in, event for event, is answered :class:`Appended` again.
* Errors are split by remedy. Each says what was attempted, what was found and what the reader can do, and
  round-trips through pickle.
"""

from __future__ import annotations

from actors.events import Event, JournalError
from brokers.frozen import dataclass
from brokers.versions import across_versions


@dataclass(frozen=True, slots=True)
class Append:
    """Events that continue ``stream`` after ``expected_version`` (0 for a stream that is new), all or none."""

    stream: str
    expected_version: int
    events: tuple[Event, ...]


@across_versions
@dataclass(frozen=True, slots=True)
class Appended:
    """The events are durable. ``version`` and ``last_seq`` are those of the last of them; an append of no events
    that names the right version gets the stream's own (0 and 0 for a new stream)."""

    version: int
    last_seq: int


@across_versions
@dataclass(frozen=True, slots=True)
class Stale:
    """The stream is not at the version the writer believed; nothing was written. It reloads and decides again."""

    stream: str
    expected_version: int
    actual_version: int


@across_versions
@dataclass(frozen=True, slots=True)
class Verification:
    """The result of reading the whole journal again.

    ``records`` is how many were read and found right. ``first_bad_seq`` is the first place at which something is
    wrong, where a place can be named: an altered record, a missing one, or the first that was cut off the end.
    ``head_seq`` is where the hash stands that was asked for, and ``None`` where it was not asked for or not found.
    ``archived_seq`` is the last record that was moved into an archive, whose file was named ``archive``; reading
    begins after it.
    """

    ok: bool
    records: int
    first_bad_seq: int | None = None
    reason: str | None = None
    head_seq: int | None = None
    archived_seq: int = 0
    archive: str | None = None

    @property
    def last_whole_seq(self) -> int:
        """The last record that was found right, with all before it."""
        return self.archived_seq + self.records


@dataclass(frozen=True, slots=True)
class Archived:
    """The records that are now in ``file`` and no longer in the journal: ``first_seq`` to ``last_seq``, whose hash is
    ``last_hash``.

    Where there were none, no file was made, ``last_seq`` is where the journal was cut before and ``first_seq`` the one
    after it. ``held_by`` is the stream that needs the record after ``last_seq``, so that no more could go; a new
    checkpoint of it lets go.
    """

    records: int
    first_seq: int
    last_seq: int
    last_hash: str
    file: str | None = None
    held_by: str | None = None


class JournalUnavailable(JournalError):
    """The journal cannot be read or written now (disk full, read-only, locked). Trying again may help.

    Whether the events of a failed append are in is not known: offering the same append again finds out.
    """


class JournalMissing(JournalUnavailable):
    """There is no journal where one was to be read."""


class JournalInUse(JournalUnavailable):
    """Another process is the writer of this journal."""


class JournalCorrupt(JournalError):
    """The journal is not as it was written. Nothing is appended to it any more."""


class JournalTooNew(JournalError):
    """The journal was written by a newer version of this program, which this one does not understand."""


class ArchiveRefused(JournalError):
    """This cut cannot be made as it was asked for; nothing was changed."""


class AppendRefused(JournalError):
    """This append is wrong in itself (an event that JSON cannot hold exactly, one event twice): it will be refused
    again. The other appends of the same commit are not concerned."""


__all__ = [
    "Append",
    "AppendRefused",
    "Appended",
    "ArchiveRefused",
    "Archived",
    "JournalCorrupt",
    "JournalError",
    "JournalInUse",
    "JournalMissing",
    "JournalTooNew",
    "JournalUnavailable",
    "Stale",
    "Verification",
]
