"""``audit verify`` and ``audit head``: is the journal unchanged, and where does it end? Nothing here writes."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from actors.events import to_iso
from actors.journal.archived_leaves import archived_leaves
from actors.journal.head_checks import check_heads, check_since, notes_in
from actors.journal.signed_head import HeadError, PublicKey
from actors.journal.signing_keys import read_public
from actors.journal.store import Journal
from actors.journal.types import JournalCorrupt, Verification
from brokers.frozen import dataclass
from supervisor.cli.audit_evidence import trusted_keys_of
from supervisor.cli.audit_selection import Source, reading, whole
from supervisor.cli.console import Failure, print_json, say
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK, EXIT_UNVERIFIED

Head = tuple[int, str, str]
"""``seq``, ``hash`` and time of the last record."""

NOT_PROVEN = (
    "this does not prove that its owner has not rewritten all of it: for that, compare it with a head that somebody "
    "else kept (--head HASH or --heads FILE)"
)
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Held:
    """What the journal was compared with besides its chain: ``count`` signed heads, and ``reason`` for a contradiction.
    ``keys``: their signatures could be checked. ``elsewhere`` heads were given, ``archived`` of them not compared: the
    archives with their records are not here."""

    count: int
    reason: str | None
    keys: bool
    archived: int = 0
    elsewhere: int = 0


def verify(
    of: Source,
    *,
    head: str | None,
    as_json: bool,
    heads: Sequence[Path] = (),
    key: str | None = None,
    archives: Sequence[Path] = (),
    tree: bool = False,
) -> int:
    """Read the whole journal and print whether it is unchanged; with ``head``, a hash noted earlier, also whether
    everything up to it is still there. It is compared with its signed heads and those in ``heads``, using ``key`` or
    the public keys beside the journal. Raises ``JournalError`` where it cannot be read now."""
    if head is not None and not _HASH.fullmatch(head.lower()):
        raise Failure(f"--head {head}: a hash is 64 hexadecimal digits, as `audit head` prints it")
    found = verified(of, _Progress(), head=head, heads=heads, key=key, archives=archives, tree=tree)
    result, held = found.result, found.held
    if as_json:
        said = {"signed_heads": held.count, "signatures": held.keys, "heads_in_archives": held.archived}
        print_json({**_document(result, found.last), **said})
    else:
        print(found.words(head))
        if result.ok and head is None and not heads:
            say(NOT_PROVEN)
    if result.ok and held.archived and held.archived == held.elsewhere:
        return EXIT_UNVERIFIED
    return EXIT_OK if result.ok else EXIT_BREAK_OPEN


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification, of chain and heads together in ``result``; ``last`` is where the journal ended when
    it began; ``gone``: the archive with the earlier records is no longer where it was put."""

    result: Verification
    last: Head | None
    held: Held
    gone: bool = False

    def words(self, head: str | None = None) -> str:
        """The result for a person; ``head`` is the hash that it was compared with."""
        return _words(self.result, self.last, head, gone=self.gone) + (_held_words(self.held) if self.result.ok else "")


def verified(
    of: Source,
    progress: Callable[[int, int], None],
    *,
    head: str | None = None,
    heads: Sequence[Path] = (),
    key: str | None = None,
    archives: Sequence[Path] = (),
    tree: bool = False,
) -> Verified:
    """Read the journal as :func:`verify` does; ``progress`` receives how many of how many records were read."""
    last: Head | None = None
    held, gone = Held(0, None, keys=False), False
    try:
        with reading(of) as journal:
            # The head is read first: what is appended meanwhile is verified too.
            last = _written(journal.head())
            result = journal.verify(head=None if head is None else head.lower(), progress=progress)
            held = _held(of, journal, heads, key, archives, tree=tree)
            if journal.file is not None and of.folder is not None and result.archive is not None:
                gone = not (of.folder / result.archive).exists()
    except JournalCorrupt as error:
        result = Verification(False, 0, None, error.found)
    if held.reason is not None:
        reasons = [] if result.reason is None else [result.reason]
        result = replace(result, ok=False, reason="; ".join([held.reason, *reasons]))
    return Verified(result, last, held, gone)


def verify_since(of: Source, head: Path, *, key: str | None, archives: Sequence[Path], as_json: bool) -> int:
    """Print whether everything added since a signed head is unchanged, given a journal that was verified up to it.
    Raises ``JournalError`` where it cannot be read now."""
    try:
        note = notes_in(head)[-1]
        keys = _keys(of, key)
    except HeadError as error:
        raise Failure(str(error)) from None
    with reading(of) as journal:
        last = _written(journal.head())
        leaves = partial(archived_leaves, folder=of.folder, archives=archives)
        size, after, new, wrong = journal.with_connection(
            lambda connection: check_since(connection, note, keys, leaves=leaves)
        )
    if as_json:
        document = {"ok": wrong is None, "records": new, "since": size, "reason": wrong, "head": _head_document(last)}
        print_json({**document, "archived_seq": after if after > size else None, "signatures": keys is not None})
    elif wrong is None:
        which = f"since the head over {size}, chain intact"
        if after > size:
            which = f"after {after}, chain intact, in accord with the head over {size} (those between were archived: "
            which += "verify each archive by itself)"
        print(f"{new} records {which}, head {' '.join(map(str, (last or ())[:2]))}")
    else:
        print(f"NOT intact: {wrong}")
    return EXIT_OK if wrong is None else EXIT_BREAK_OPEN


def _keys(of: Source, key: str | None) -> list[PublicKey] | None:
    if key is not None:
        return trusted_keys_of(key)
    return read_public(Path(of.public)) if of.public is not None and Path(of.public).exists() else None


class _Progress:
    """The progress of a long verification, on a terminal's standard error only, once a second."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, read: int, of: int) -> None:
        if sys.stderr.isatty() and (read == of or time.monotonic() - self._said_at >= 1.0):
            self._said_at = time.monotonic()
            sys.stderr.write(f"\r{read:,} of {of:,} records ({100 * read // of} %)" + ("\n" if read == of else ""))
            sys.stderr.flush()


def _held(
    of: Source, journal: Journal, heads: Sequence[Path], key: str | None, archives: Sequence[Path], *, tree: bool
) -> Held:
    leaves = partial(archived_leaves, folder=of.folder, archives=archives)
    try:
        keys = _keys(of, key)
        elsewhere = [note for file in heads for note in notes_in(file)]
    except HeadError as error:
        raise Failure(str(error)) from None
    found = journal.with_connection(
        lambda connection: check_heads(connection, keys, elsewhere, leaves=leaves, anew=tree)
    )
    return Held(found.heads, found.wrong, keys is not None, found.archived, len(elsewhere))


def _held_words(held: Held) -> str:
    if not held.count:
        # A key is made with the journal, and a head is signed within a minute of its first record.
        taken_out = ", or its signed heads were removed" if held.keys else ""
        return f"\nno head has been signed yet{taken_out}"
    judged = "" if held.keys else " (signatures not checked: there is no public key; give one with --key)"
    more = f"{held.archived} of your heads were not compared" if held.archived else ""
    more = more and f"\n{more}: what they cover is archived. Name each archive (--archive FILE), or put it beside"
    return f"\nagrees with {held.count} signed head{'' if held.count == 1 else 's'}{judged}{more}"


def head(of: Source, *, as_json: bool) -> int:
    """Print ``seq``, ``hash`` and time of the last record. Keep them elsewhere for ``verify --head``."""
    with reading(of) as journal:
        last = _written(journal.head())
        status = whole(journal)
    if as_json:
        print_json(_head_document(last) or {"seq": 0, "hash": None, "time": None})
    else:
        print("the journal is empty" if last is None else " ".join(map(str, last)))
    return status


def _written(found: tuple[int, str, Any] | None) -> Head | None:
    return None if found is None else (found[0], found[1], to_iso(found[2]))


def _head_document(last: Head | None) -> dict[str, Any] | None:
    return None if last is None else dict(zip(("seq", "hash", "time"), last, strict=True))


def _document(result: Verification, last: Head | None) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "records": result.records,
        "first_bad_seq": result.first_bad_seq,
        "reason": result.reason,
        "head": _head_document(last),
        "archived_seq": result.archived_seq,
        "archive": result.archive,
    }


def _words(result: Verification, last: Head | None, head: str | None, *, gone: bool) -> str:
    if result.ok:
        end = "it is empty" if last is None else f"head {last[0]} {last[1]}"
        proven = "" if head is None else f", and nothing is missing since {head.lower()}"
        place = f"{result.archive}, which {'is not there any more' if gone else 'was not read'}"
        before = f", the {result.archived_seq} before are in {place}" if result.archived_seq else ""
        return f"{result.records} record{'' if result.records == 1 else 's'}, chain intact, {end}{before}{proven}"
    if result.first_bad_seq is None:
        return f"NOT intact: {result.reason}. {result.records} records were found right"
    return f"NOT intact at record {result.first_bad_seq}: {result.reason}. {result.records} records before it are right"
