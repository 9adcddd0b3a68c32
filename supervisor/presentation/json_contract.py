"""The documents of the JSON contract, and the exit status that follows from them.

``reconcile --json`` prints one object. Decimals are strings, times ISO 8601 UTC.

* ``status``: the worst of its instruments: SUCCESS, PARTIAL, DEGRADED, FAILED
* ``started_at``, ``duration_ms``: when the verdict began, and how long it took
* ``accounts``: ``account``, ``broker``, ``connection``, ``error``, ``broker_calls`` (requests that left for the
  broker), ``discrepancies`` (those that belong to no instrument), ``instruments``; and ``summary``, one line, where a
  table in Delta Lake is the book
* each instrument: ``instrument``, ``status``, ``error``, ``passes``, ``book``, ``broker``, ``discrepancies``

  * ``book``: ``legs`` (``leg``, ``quantity``, ``average_price``; non-zero ones) and ``open_orders``
    (``broker_order_id``, ``client_order_id``, ``side``, ``quantity``, ``filled_quantity``, ``status``);
    and ``pending_fills``, only while a fill waits for the broker to name its leg; and ``table`` where a table is the
    book: ``positions`` (COMPLETE, PARTIAL, FAILED: how far it is known), ``legs``, ``broker_legs``
  * ``broker``: ``positions``, ``orders``, ``fills``, each COMPLETE, PARTIAL, FAILED or UNSUPPORTED
  * each discrepancy: ``id``, ``type``, ``severity``, ``phase``, ``cause``, ``key``, ``book_value``, ``broker_value``,
    ``resolved``, ``correction``; ``strategy`` where the order or fill has one, and ``alias`` where a table is the book

``status --json`` prints the same with ``health`` added to each instrument, and ``supervisor``: there ``started_at``
is the supervisor's start and ``duration_ms`` its age. Its ``sinks``, where there are any, are Delta tables: ``name``,
``uri``, ``seq`` (of the journal, up to which it is written), ``rows``, ``at``, ``error``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from actors.book.discrepancies import Discrepancy
from actors.events import Json, to_iso
from actors.messages import AccountHealth, CycleReport
from actors.reconciliation.reconciliation_pass import Status
from brokers.model import Completeness

EXIT_OK = 0
EXIT_BREAK_OPEN = 1
EXIT_USAGE = 2
EXIT_UNVERIFIED = 3

_WORST_FIRST = (Status.FAILED, Status.DEGRADED, Status.PARTIAL)


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of some statuses; SUCCESS for none."""
    found = set(statuses)
    return next((status for status in _WORST_FIRST if status in found), Status.SUCCESS)


def document(
    started_at: datetime,
    duration_ms: float,
    accounts: Sequence[tuple[AccountHealth, Sequence[CycleReport]]],
) -> dict[str, Any]:
    """What ``reconcile --json`` prints."""
    rows: list[dict[str, Any]] = []
    statuses: list[Status] = []
    for health, reports in accounts:
        statuses += [report.status for report in reports]
        statuses += [Status.PARTIAL for found in health.discrepancies if found.found.type in _COUNTING]
        statuses += [Status.DEGRADED] if health.error is not None else []
        row = {**health.to_json(), "instruments": [report.to_json() for report in reports]}
        of_table = table_summary(health.broker, reports, health.discrepancies)
        rows.append(row if of_table is None else {**row, "summary": of_table})
    return {
        "status": worst(statuses).value,
        "started_at": to_iso(started_at),
        "duration_ms": round(duration_ms, 3),
        "accounts": rows,
    }


def exit_status(accounts: Sequence[tuple[AccountHealth, Sequence[CycleReport]]]) -> int:
    """0 every instrument in step · 1 a break is open · 3 something could not be verified (3 before 1)."""
    reports = [report for _, of_account in accounts for report in of_account]
    if any(report.unverified for report in reports) or any(health.error is not None for health, _ in accounts):
        return EXIT_UNVERIFIED
    if any(report.status is not Status.SUCCESS for report in reports):
        return EXIT_BREAK_OPEN
    of_accounts = (found.found.type in _COUNTING for health, _ in accounts for found in health.discrepancies)
    return EXIT_BREAK_OPEN if any(of_accounts) else EXIT_OK


def table_summary(broker: str, reports: Sequence[CycleReport], of_account: Sequence[Discrepancy] = ()) -> str | None:
    """``IB: 12, Delta: 11, Discrepancies: 2 (1 critical)``: the number of legs at the broker and in the table that is
    the account's book, and of open discrepancies. An unknown number is ``?``, never 0. ``None`` where the book is not a
    table."""
    tables = [report.book.get("table") for report in reports]
    if not any(isinstance(table, dict) for table in tables):
        return None
    known = Completeness.COMPLETE.value
    at_broker: list[Json] = []
    in_table: list[Json] = []
    for report, table in zip(reports, tables, strict=True):
        of_table = table if isinstance(table, dict) else {}
        at_broker.append(of_table.get("broker_legs") if report.broker.get("positions") == known else None)
        in_table.append(of_table.get("legs") if of_table.get("positions") == known else None)
    found = [*of_account, *(one for report in reports for one in report.discrepancies)]
    still = [one for one in found if not one.resolved]
    critical = sum(one.found.severity == "CRITICAL" for one in still)
    sides = [f"{_BROKERS.get(broker, broker)}: {_sum(at_broker)}", f"Delta: {_sum(in_table)}"]
    return f"{', '.join(sides)}, Discrepancies: {len(still)} ({critical} critical)"


_BROKERS = {"ib": "IB", "oanda": "OANDA", "mt5": "MT5", "kite": "Kite", "paper": "Paper"}


def _sum(counts: Sequence[Json]) -> str:
    known = [count for count in counts if isinstance(count, int)]
    return str(sum(known)) if len(known) == len(counts) else "?"


def summary(name: str, reports: Sequence[CycleReport], of_account: Sequence[Discrepancy] = (), broker: str = "") -> str:
    """One line an account: ``fx: 3 of 4 in step, discrepancies: 2 (1 critical)``, or that of :func:`table_summary`.
    ``of_account`` are the discrepancies that belong to none of its instruments."""
    of_table = table_summary(broker, reports, of_account)
    if of_table is not None:
        return f"{name}: {of_table}"
    found = [*of_account, *(one for report in reports for one in report.discrepancies)]
    critical = sum(one.found.severity == "CRITICAL" for one in found)
    in_step = sum(report.status is Status.SUCCESS for report in reports)
    return f"{name}: {in_step} of {len(reports)} in step, discrepancies: {len(found)} ({critical} critical)"


def section_words(broker: Mapping[str, Json]) -> str:
    """The incomplete sections, for a person: ``fills FAILED``; empty when all are complete. It also says when positions
    are not compared at all, since a reader of "complete" would assume that they are."""
    usual = {Completeness.COMPLETE.value, Completeness.UNSUPPORTED.value}
    unlooked = ["positions not compared"] if broker.get("positions") == Completeness.UNSUPPORTED.value else []
    return ", ".join(unlooked + [f"{name} {value}" for name, value in broker.items() if value not in usual])


def halted_scopes(document: Mapping[str, Any]) -> list[str]:
    """The scopes in which trading is halted, by a document of ``status``, as operators name them: everything, an
    account, or an instrument."""
    rows = [row for account in document["accounts"] for row in account["instruments"]]
    halts = [one["scope"] for row in rows for one in row["health"].get("halted") or ()]
    return list(dict.fromkeys(halts))


_COUNTING = frozenset({"MALFORMED_DATA", "UNMANAGED_INSTRUMENT"})
"""The account's discrepancies that keep a verdict from being a success: rows that could not be read, and positions and
orders that no instrument manages."""
