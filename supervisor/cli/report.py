"""``report``: what happened in a period, as one HTML page and as JSON, from the journal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from actors.events import EventType, to_iso
from actors.journal.store import Journal
from actors.journal.types import Verification
from actors.names import split_name
from actors.runtime.ports import CallError
from supervisor.cli.audit_selection import Source, past, reading, source
from supervisor.cli.audit_verify import verified
from supervisor.cli.break_history import open_breaks
from supervisor.cli.console import Failure, load_place, print_json, say, write_out
from supervisor.client.processes import find
from supervisor.config.errors import ConfigurationError
from supervisor.errors import NotRunning
from supervisor.presentation.json_contract import EXIT_BREAK_OPEN, EXIT_OK, EXIT_UNVERIFIED
from supervisor.presentation.report import DISCREPANCIES, PROOF_HOLDS, REPORTED_TYPES, Report
from supervisor.presentation.report_html import page

_ALL = 10**9


def report(
    config: Path | None,
    file: Path | None,
    *,
    since: str | None,
    until: str | None,
    day: str | None,
    out: Path | None,
    as_json: bool,
    verify: bool,
) -> int:
    """Write the report; the exit status is 1 where the journal is not intact, and 3 where records of the period may be
    in an archive."""
    begin, end = _span(since, until, day, datetime.now(UTC))
    of = source(config, file)
    document = _made(of, begin, end, verify=verify)
    document["latency"] = _latency(config) if file is None else None
    if as_json:
        print_json(document)
    if out is not None or not as_json:
        target = out or Path(f"report-{begin:%Y%m%dT%H%M}-{end:%Y%m%dT%H%M}.html")
        _write(target, page(document))
        if not as_json:
            breaks = document["breaks"]
            print(
                f"{target}: {breaks['total']} breaks, {breaks['open']} open, {len(document['corrections'])} corrected"
            )
    found = document["journal"]
    if found["verified"] is False:
        say(f"the journal is NOT intact, so this may not be all that happened: {found['reason']}")
        return EXIT_BREAK_OPEN
    if found["archived_seq"] is not None:
        say(
            f"records 1 to {found['archived_seq']} were archived, and their part of this time is missing here: "
            "`audit verify` names the archive, `report --journal FILE` reads it"
        )
        return EXIT_UNVERIFIED
    return EXIT_OK


def _span(since: str | None, until: str | None, day: str | None, now: datetime) -> tuple[datetime, datetime]:
    if day is not None:
        if since is not None or until is not None:
            raise Failure("--day covers a whole day: use it without --since and --until")
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}|today|yesterday", day):
            raise Failure(f"--day {day} is not a day. Write it as 2026-01-31, today or yesterday")
        begin = past("--day", day, now)
        return begin, min(now, begin + timedelta(days=1))
    if since is None:
        raise Failure("give a start: --since 24h, --since 2026-01-31, or --day yesterday")
    begin = past("--since", since, now)
    end = now if until is None else past("--until", until, now)
    if begin >= end:
        raise Failure(f"--since {since} is not before --until {until}: nothing lies between them")
    return begin, end


def _made(of: Source, begin: datetime, end: datetime, *, verify: bool) -> dict[str, Any]:
    made = Report(begin, end)
    checked = verified(of, lambda _read, _of: None).result if verify else None
    with reading(of) as journal:
        made.expect(f"{account}/{symbol}" for account, symbols in of.configured for symbol in symbols)
        made.expect(stream for stream in journal.streams() if split_name(stream)[1])
        # A proof from just before the period still holds at its beginning.
        before = begin - PROOF_HOLDS
        for record in journal.records(types=(EventType.RECONCILED,), since=before, until=begin, order="oldest"):
            made.take(record)
        for record in journal.records(types=REPORTED_TYPES, since=begin, until=end, order="oldest", limit=_ALL):
            made.take(record)
        for record in journal.records(types=DISCREPANCIES, since=end, order="oldest", limit=_ALL):
            made.take_later(record)
        for row in open_breaks(journal):
            made.stood(row)
        return {"made_at": to_iso(datetime.now(UTC)), "journal": _journal(journal, begin, end, checked)} | (
            made.document()
        )


def _journal(journal: Journal, begin: datetime, end: datetime, checked: Verification | None) -> dict[str, Any]:
    """The records of the period in the chain, the chain, and its head now. ``archived_seq`` is the last archived
    record, where archived records may be of the period."""
    oldest = next(journal.records(order="oldest", limit=1), None)
    archived = oldest is not None and oldest.seq > 1 and begin <= oldest.event.time
    first = next(journal.records(since=begin, until=end, order="oldest", limit=1), None)
    last = next(journal.records(since=begin, until=end, order="newest", limit=1), None)
    head = journal.head()
    return {
        "first_seq": None if first is None else first.seq,
        "last": None if last is None else {"seq": last.seq, "hash": last.hash, "time": to_iso(last.event.time)},
        "head": None if head is None else {"seq": head[0], "hash": head[1], "time": to_iso(head[2])},
        "verified": None if checked is None else checked.ok,
        "reason": None if checked is None else checked.reason,
        "archived_seq": oldest.seq - 1 if oldest is not None and archived else None,
    }


def _latency(config: Path | None) -> dict[str, Any] | None:
    """The brokers' latencies, from the running supervisor, since its accounts' actors began."""
    try:
        document = find(load_place(config)).status()
    except (NotRunning, CallError, ConfigurationError, Failure):
        return None
    found = {}
    for account in document["accounts"]:
        health = account.get("health") or {}
        fetches = health.get("fetches") or 0
        mean_s = round(health["call_seconds"] / fetches, 6) if fetches else None
        row = {"fetches": fetches, "mean_s": mean_s, "errors": health.get("call_errors")}
        found[account["account"]] = row | {"requests": account["broker_calls"]}
    return found


def _write(target: Path, text: str) -> None:
    try:
        write_out(target, text)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}. Choose another with --out") from None
