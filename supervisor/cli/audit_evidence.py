"""``audit prove``, ``audit check``, ``audit heads`` and ``audit key``: evidence for people who trust neither us nor
this program. Only `audit key --new` writes, and needs exclusive use of the journal."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.events import to_iso
from actors.journal.evidence_tables import (
    StoredHead,
    grow,
    has_tables,
    origin_of,
    put_rotation,
    rotation_notes,
    signed_head,
    stored_heads,
)
from actors.journal.head_checks import notes_in
from actors.journal.merkle_tree import ProofError
from actors.journal.parquet_archive import readable
from actors.journal.proof_reading import ProofReader
from actors.journal.proofs import Proven, check
from actors.journal.signed_head import HeadError, PublicKey, parse_head, rotation_text, signed, verified_head
from actors.journal.signing_keys import load_or_make, new_key, read_public, write_private, write_public
from actors.journal.store import Journal
from actors.journal.time_stamp import StampError, claimed_time, verified_time
from actors.names import instrument_name
from brokers.frozen import dataclass
from brokers.kit.foreign_row import read_json
from supervisor.cli.audit_selection import Source, reading
from supervisor.cli.console import Failure, print_json, say, write_out
from supervisor.cli.operator_action import journal_action
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK, EXIT_UNVERIFIED


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to prove: records by their ``seq``, or everything that a book rests on at a time."""

    seqs: tuple[int, ...] = ()
    account: str | None = None
    instrument: str | None = None
    at: datetime | None = None


def prove(
    of: Source, wanted: Wanted, to: str | None, since: str | None, archives: Sequence[Path], out: Path | None
) -> int:
    """Write one document with the proof. Raises ``JournalError`` and :class:`Failure`."""
    with reading(of) as journal:
        reader = ProofReader(journal, archives, of.folder)
        seqs, caution = wanted.seqs, None
        if wanted.account is not None and wanted.instrument is not None:
            seqs, caution = _book_rests_on(journal, archives, wanted.account, wanted.instrument, wanted.at)
        newer = reader.head(_head(to, "--to"), covering=max(seqs, default=0))
        older = None if since is None else reader.head(_head(since, "--since"))
        if older is None and not seqs:
            raise Failure(
                "nothing to prove: give a record, a book (--account, --instrument) or an older head (--since)"
            )
        if max(seqs, default=0) > newer.size:
            raise Failure(f"--to {to}: that head covers {newer.size} records, and record {max(seqs)} came later")
        if older is not None and older.size > newer.size:
            raise Failure(f"--since {since}: that head covers {older.size} records, more than the {newer.size} of --to")
        document = reader.proof(seqs, newer, older)
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
    if caution is not None:
        say(caution)
    if out is None:
        print(text, end="")
        return EXIT_OK
    try:
        write_out(out, text)
    except OSError as error:
        raise Failure(f"could not write {out}: {error.strerror or error}") from None
    say(f"{out}: {len(seqs)} records under the head over {newer.size}, {len(text.encode())} bytes")
    return EXIT_OK


def check_proof(file: Path, keys: str, heads: Sequence[Path], roots: Path | None, *, as_json: bool) -> int:
    """Print what a proof shows to a person who trusts the keys: 0 it holds, 1 it does not, 3 it holds and none of
    ``heads`` is over as many records as one of its own, so that it says nothing of them. Raises :class:`Failure`."""
    try:
        document = read_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise Failure(f"{file} cannot be read as a proof: {getattr(error, 'strerror', None) or error}") from None
    trusted = trusted_keys_of(keys)
    try:
        proven = check(document, trusted)
        stamped = None
        if roots is not None:
            if proven.stamp is None:
                raise ProofError("it has no time stamp, and --roots asks for one")
            stamped = verified_time(proven.stamp, proven.note, roots)
        agree = [_same_view(proven, note) for one in heads for note in notes_in(one)]
    except (ProofError, HeadError, StampError) as error:
        if as_json:
            print_json({"ok": False, "reason": str(error)})
        else:
            print(f"NOT proven: {error}")
        return EXIT_BREAK_OPEN
    if as_json:
        print_json({**_document(proven, stamped), "heads": {"agree": sum(agree), "not_compared": agree.count(False)}})
    else:
        print("\n".join(_words(proven, stamped)))
    if not agree:
        return EXIT_OK
    if not any(agree):
        say(
            f"none of the {len(agree)} heads of --heads is over as many records as a head of the proof, so it does not "
            "show that they agree: ask for a proof --since one of them"
        )
        return EXIT_UNVERIFIED
    if not as_json:
        print(f"  agrees with your head{'' if sum(agree) == 1 else 's'} over as many records")
    return EXIT_OK


def heads(of: Source, *, count: int, as_json: bool) -> int:
    """Print the signed heads, the newest last; a single one in full, as signed. Raises ``JournalError``."""
    with reading(of) as journal:
        found = journal.with_connection(_all_heads)[-count:]
    if as_json:
        print_json([{"size": one.size, "time": one.time, "note": one.note, "stamped": _stamped(one)} for one in found])
    elif count == 1 and found:
        print(found[0].note, end="")
    else:
        for one in found:
            print(one.size, one.time, parse_head(one.note).chain, _stamped(one) or "")
    return EXIT_OK


def key(of: Source, private: str | None, *, new: bool) -> int:
    """Print the public keys; with ``new``, first switch to another key.

    Raises ``JournalError`` and :class:`Failure`.
    """
    if of.public is None:
        raise Failure("give the configuration (-c) or the journal's file (--journal)")
    public = Path(of.public)
    if new:
        if private is None:
            raise Failure("--new needs the configuration (-c), which says where the private key is")
        _rotate(of, private, public)
    if not public.exists():
        found = f"there is no list of public keys {public}: it is made when a supervisor first writes this journal"
        raise Failure(found, EXIT_UNVERIFIED)
    try:
        for one in read_public(public):
            print(one)
    except HeadError as error:
        raise Failure(str(error)) from None
    return EXIT_OK


def trusted_keys_of(text: str) -> list[PublicKey]:
    """The keys that an option names: a file, or one key itself. Raises :class:`Failure`."""
    try:
        return read_public(Path(text)) if os.path.exists(text) else [PublicKey.parse(text)]
    except HeadError as error:
        raise Failure(f"--key: {error}") from None


def _rotate(of: Source, private: str, public: Path) -> None:
    with contextlib.closing(Journal.open(of.url, exclusive=True, beside=of.beside)) as journal:
        while journal.with_connection(grow):
            pass
        origin = journal.with_connection(_origin)
        old = load_or_make(private, public, origin)
        origin = origin or old.public.name
        following, key_ = new_key(origin, private)
        now = datetime.now(UTC)
        note = signed(rotation_text(origin, following.public, now), [old, following])
        # First the note that the old key signs, then the key: if killed in between, we still have the old one.
        journal.with_connection(lambda connection: put_rotation(connection, note))
        journal.with_connection(lambda connection: signed_head(connection, [old, following], origin, now))
        write_public(public, [*read_public(public), following.public])
        write_private(private, key_)
        journal_action(journal, "new key", key=str(following.public))


def _book_rests_on(
    journal: Journal, archives: Sequence[Path], account: str, instrument: str, at: datetime | None
) -> tuple[tuple[int, ...], str | None]:
    """The records from the last checkpoint before that time to the first record after it, so that an omission shows;
    and a sentence where there is no such record yet."""
    from supervisor.cli.audit_replay import Past

    with contextlib.ExitStack() as stack:
        others = [Journal.open(f"sqlite:///{readable(file.absolute())}", read_only=True) for file in archives]
        for other in others:
            stack.callback(other.close)
        past = Past([journal, *others], account, instrument)
        found = past.at(at or datetime.now(UTC))
        if found.last is None:
            raise Failure(
                f"nothing was recorded for {instrument_name(account, instrument)} by then, so there is nothing to prove"
            )
        own = past.between(0, found.last.seq)
        begin = max((n for n, one in enumerate(own) if one.event.type == "CHECKPOINT"), default=0)
        seqs = tuple(record.seq for record in own[begin:])
        stream = instrument_name(account, instrument)
        after = next(journal.records(stream=stream, after_seq=found.last.seq, limit=1), None)
        newest = journal.with_connection(_all_heads)
        if after is not None and newest and after.seq <= newest[-1].size:
            return (*seqs, after.seq), None
        missing = "there is no record" if after is None else "no signed head covers a record"
        return seqs, (
            f"{missing} of {stream} after {to_iso(found.at)} yet, so this proof cannot show that none before it was "
            "left out: prove it again once there is one. A book writes one a day at least, also where nothing happens"
        )


def _head(text: str | None, option: str) -> str | int | None:
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    try:
        return notes_in(Path(text))[-1]
    except HeadError as error:
        raise Failure(f"{option} {text}: {error}. Give a number of records, or a file with a signed head") from None


def _same_view(proven: Proven, note: str) -> bool:
    """Whether a head of somebody's is one of the proof's; ``False`` where it is over other records. Raises
    :class:`HeadError` where no trusted key signed it, and :class:`ProofError` where it contradicts the proof."""
    try:
        other = verified_head(note, proven.trusted)
    except HeadError as error:
        raise HeadError(f"a head of --heads does not count: {error}") from None
    compared = False
    for head in (proven.head, proven.older):
        if head is None:
            continue
        if other.origin != head.origin:
            raise ProofError(f"your head belongs to another journal, {other.origin}")
        if other.size == head.size and other.root != head.root:
            raise ProofError(f"split view: your head and the proof's, over {head.size} records, have different roots")
        compared = compared or other.size == head.size
    return compared


def _all_heads(connection: Any) -> list[StoredHead]:
    if not has_tables(connection):
        return []
    with connection.begin():
        return list(stored_heads(connection))


def _origin(connection: Any) -> str | None:
    with connection.begin():
        return origin_of(connection)


def _rotations(connection: Any) -> list[str]:
    with connection.begin():
        return rotation_notes(connection)


def _stamped(head: StoredHead) -> str | None:
    return None if head.stamp is None else to_iso(claimed_time(head.stamp))


def _document(proven: Proven, stamped: datetime | None) -> dict[str, Any]:
    head, older = proven.head, proven.older
    return {
        "ok": True,
        "origin": head.origin,
        "size": head.size,
        "signed_at": to_iso(head.time),
        "stamped_at": None if stamped is None else to_iso(stamped),
        "unchanged_since": None if older is None else {"size": older.size, "signed_at": to_iso(older.time)},
        "records": [dict(one) for one in proven.contents],
    }


def _words(proven: Proven, stamped: datetime | None) -> Iterator[str]:
    head, older = proven.head, proven.older
    yield f"holds: journal {head.origin}, {head.size} records, signed {to_iso(head.time)}"
    if stamped is not None:
        yield f"  existed by {to_iso(stamped)}, by the time stamp"
    elif proven.stamp is not None:
        yield "  has a time stamp; give the roots of its server (--roots) to verify it"
    if older is not None:
        yield f"  nothing in its first {older.size} records was changed or removed since {to_iso(older.time)}"
    for one in proven.contents:
        yield f"  record {one['seq']}, {one['stream']} version {one['version']}, {one['time']} {one['type']}"
        yield f"    {json.dumps(one['payload'], ensure_ascii=False)}"
