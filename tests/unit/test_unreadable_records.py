"""A record whose hash is right and whose payload is not what its type has to be: whoever reads it ends with a declared
error that names the record, or does without what is missing. Nobody ends with an error of this program, and no
checkpoint without its legs is a flat book."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.book import payloads
from actors.book.book import Book
from actors.book.break_work import UNTOUCHED, BreakState, WorkStep
from actors.book.checkpoint import checkpoint_event, replay
from actors.book.discrepancies import Break, Correction, DiscrepancyType, Phase
from actors.book.history import book_at, changes, explained
from actors.book.in_step import proofs
from actors.book.self_check import fold
from actors.book.unreadable import UnreadableRecord
from actors.delta.positions import updates
from actors.events import Event, EventType, JournalError, Json, Record, Severity, event_id, to_iso
from actors.journal.store import Append, Journal
from brokers.clocks import broker_time
from brokers.model import ContractFacts, Corrected, CostBasis, Side
from supervisor.cli.audit_replay import document
from supervisor.cli.main import app
from supervisor.presentation.event_text import Summaries, behind, describe, summarize
from supervisor.presentation.report import REPORTED_TYPES, Report
from supervisor.presentation.report_html import page
from supervisor.presentation.timeline import drawing, lines
from tests.unit import audit_cases
from tests.unit.builders import at, dec, records

STREAM = "acc/EURUSD"
NOW = to_iso(at(700))
Document = dict[str, Json]


@lru_cache
def day() -> tuple[Event, ...]:
    return tuple(audit_cases.day())


def _order(status: str) -> Document:
    """The order of the day, as a record of this status has it."""
    (found,) = [dict(event.payload) for event in day() if event.type is EventType.ORDER_UPDATED][:1]
    order = found["order"]
    assert isinstance(order, dict)
    more: Document = {"since": 1, "slices": ["B2"], "parent": "B0", "expires_at": NOW, "lowered_by": "1", "group": "g"}
    return {"order": {**order, "status": status, "inferred": [["i1", "5", "1.1"]], **more}}


def _fill() -> payloads.BookedFill:
    return payloads.BookedFill(
        fill_id="f9",
        order_key=None,
        side=Side.BUY,
        quantity=dec(5),
        price=dec("1.2"),
        time=broker_time(at(600)),
        legs=(("net", dec(5)),),
        cost_basis=CostBasis.FIFO,
        replaces=(("i1", dec(1)),),
        broker_order_id="B1",
        commission=dec("0.1"),
        commission_currency="USD",
        corrects=Corrected("f1", dec(1), dec("1.1"), "day"),
        cost=dec("0.01"),
        id_scope="day",
        pending=True,
        within=("net",),
    )


def _break() -> Break:
    return Break(
        id=event_id(STREAM, "a break"),
        type=DiscrepancyType.POSITION_MISMATCH,
        key="net",
        severity=Severity.CRITICAL,
        phase=Phase.DRIFT,
        cause=None,
        book_value="130",
        broker_value="125",
        difference="-5",
        opened_at=at(650),
        seen_at=(at(650),),
        strategy="alpha",
        linked=("f1",),
        detail="told",
        alias="alias",
        offers=Correction.FORCE_UPDATE_POSITION,
        halts=True,
        first_look=broker_time(at(640)),
    )


def _checkpoint() -> Document:
    """One with something under every key."""
    book = replay("acc", "EURUSD", records(day()))
    found, fill = _break(), _fill()
    step = WorkStep("ann@desk", at(660), "TEST", "a note", ("130", "125"))
    book.breaks[(found.type, found.key)] = found
    book.work[found.id] = replace(UNTOUCHED, state=BreakState.APPROVED, owner="ann", note="n", approved=step)
    book.reported[fill.key] = payloads.ReportedFill(fill, at(600))
    book.orphans["B9"] = (dec(1), dec("1.1"))
    book.contract = ContractFacts(identity="17", kind="OPT", right="C", strike=dec(1), currency="USD")
    book.opened_by["f1"] = "client:c1"
    book.claimed["net"] = at(600)
    book.halts_due[found.id] = "POSITION_MISMATCH net"
    book.believed["net"] = 1
    book.uncounted["u1"] = None
    made = json.loads(json.dumps(dict(checkpoint_event(book, at(700)).payload)))
    assert set(made) >= {"legs", "orders", "breaks", "work", "told", "contract", "claimed", "halts_due", "opened_by"}
    return made  # type: ignore[no-any-return]  # what was written


_WHO: Document = {"by": "ann@desk", "via": "command line", "program": "1.0", "process": "4711 x"}
_WORK: Document = {
    "id": _break().id, "type": "POSITION_MISMATCH", "key": "net", "book_value": "130", "broker_value": "125",
    "reason": "TEST", "note": "a note", "owner": "ann", "until": NOW, "correction": "force_update_position", **_WHO,
}  # fmt: skip
_POSITION = payloads.position_to("net", dec(5), dec("1.1"), broker_time(at(600)), Correction.FORCE_UPDATE_POSITION)
_SAME: Document = {"as_of": NOW, "positions": "COMPLETE", "orders": "COMPLETE", "fills": "COMPLETE", "fills_cursor": 9}
_BREAK = payloads.break_to(_break(), resolved=False, correction=None)

PAYLOADS: dict[EventType, Document] = {
    EventType.ORDER_RECORDED: {**_order("OPEN"), "merges": "client:c1", "asked": dict(_WHO)},
    EventType.ORDER_UPDATED: _order("OPEN"),
    EventType.ORDER_CANCELLED: _order("CANCELLED"),
    EventType.ORDER_EXPIRED: _order("EXPIRED"),
    EventType.ORDER_REJECTED: _order("REJECTED"),
    EventType.FILL_RECORDED: payloads.booked_fill_to(_fill()),
    EventType.ORDER_FILLED: {**payloads.booked_fill_to(_fill()), "trade": "fill f9"},
    EventType.FILL_RESTATED: payloads.restated_to(
        _fill(), replace(_fill(), fill_id="f8"), assumed=True, names_order="B1"
    ),
    EventType.COMMISSION_REPORTED: {
        "fill_id": "f2", "broker_order_id": "B1", "strategy": "alpha", "commission": "0.3", "cost": "0.01",
        "commission_currency": "USD", "id_scope": "",
    },
    EventType.POSITION_RECORDED: {**_POSITION, "claimed_at": NOW, "waiting": ["f9"], "strategy": None},
    EventType.POSITION_SYNCED: {**_POSITION, "moved": "5", "moved_from": "other", "cause": "UNEXPLAINED", "ratio": "2"},
    EventType.RECONCILIATION_DISCREPANCY: {**_BREAK, "asked": dict(_WHO)},
    EventType.DISCREPANCY_RESOLVED: {**_BREAK, "resolved": True, "correction": "adopt", "approved_by": "a"},
    EventType.RECONCILED: {
        **_SAME, "requested_at": NOW, "legs": 1, "contract": payloads.contract_to(ContractFacts(expiry=at(0).date())),
    },
    EventType.CONNECTION_LOST: {"account": "acc", "broker": "mt5", "connection": "UNREACHABLE", "reason": "refused"},
    EventType.CONNECTION_RESTORED: {"account": "acc", "broker": "mt5", "stream": "LIVE", "reason": None},
    EventType.ACTOR_STARTED: {"actor": STREAM, "attempt": 1},
    EventType.ACTOR_RESTARTED: {"actor": STREAM, "reason": "died", "restarts": 1, "counted": False, "forgives": True},
    EventType.ACTOR_QUARANTINED: {"actor": STREAM, "reason": "too often"},
    EventType.ACTOR_PENDING: {"actor": STREAM, "reason": "no node"},
    EventType.CONFIGURATION_CHANGED: {"desired": [STREAM], "changes": ["one"], "actors": {"started": [STREAM]}, **_WHO},
    EventType.TRADING_HALTED: {"scope": STREAM, "reason": "a drill", **_WHO},
    EventType.TRADING_RESUMED: {"scope": STREAM, "reason": "over", **_WHO},
    EventType.OPERATOR_ACTION: {"action": "pause", "instruments": [STREAM], "signal": "SIGTERM", **_WHO},
    EventType.CHECKPOINT: _checkpoint(),
    EventType.CLOCK_STEPPED: payloads.book_clock_step_to(timedelta(seconds=-5)),
    EventType.JOURNAL_RESTORED: {"since": NOW, "until": NOW, "reason": "disk full", "actor": "audit"},
    EventType.BREAK_ACKNOWLEDGED: _WORK,
    EventType.BREAK_ASSIGNED: {**_WORK, "unassigned": True},
    EventType.BREAK_PROPOSED: _WORK,
    EventType.BREAK_APPROVED: _WORK,
    EventType.BREAK_WAIVED: _WORK,
    EventType.ALERT_DELIVERED: {"route": "desk", "kind": "OPENED", "title": "x", "subjects": []},
    EventType.ALERT_FAILED: {"route": "desk", "reason": "refused"},
}  # fmt: skip
OF_A_BREAK = (*(kind for kind in EventType if kind.startswith("BREAK_")), EventType.DISCREPANCY_RESOLVED)


def test_every_type_of_record_is_in_the_table() -> None:
    assert set(PAYLOADS) == set(EventType)


GONE = object()
OTHER: dict[type, tuple[Json, ...]] = {
    str: (7, [], "no such thing"),
    bool: ("x", 3),
    int: ("x", {}),
    list: ({}, "x"),
    dict: ([], "x"),
}


def mutilations(payload: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], object]]:
    """Where a payload is mutilated, and by what: :data:`GONE`, null, or a value of another kind, at every depth."""
    items = list(payload.items() if isinstance(payload, dict) else enumerate(payload[:2]))
    for key, value in items:
        here = (*path, key)
        yield here, GONE
        yield here, None
        yield from ((here, other) for other in OTHER.get(type(value), ("x", 7, [], {})))
        if isinstance(value, dict | list):
            yield from mutilations(value, here)


def mutilated(payload: Document, path: tuple[Any, ...], by: object) -> Document:
    made = copy.deepcopy(payload)
    inner: Any = made
    for key in path[:-1]:
        inner = inner[key]
    if by is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = by
    return made


def after_the_day(kind: EventType, payload: Document) -> list[Record]:
    """The day, an open break for what is done about one, and the record."""
    before = [*day()]
    if kind in OF_A_BREAK:
        before.append(
            Event("b", EventType.RECONCILIATION_DISCREPANCY, Severity.CRITICAL, at(650), payloads.break_to(
                _break(), resolved=False, correction=None
            ))
        )  # fmt: skip
    return records([*before, Event("x", kind, Severity.WARNING, at(700), payload)])


def _worded(all_records: list[Record]) -> None:
    summaries = Summaries()
    for one in all_records:
        assert isinstance(describe(one.event), str)
        summarize(one)
        summaries.of(one)
        behind(one.event, "")
    for step in explained(all_records):
        assert isinstance(step.why, str)


def _replayed(all_records: list[Record]) -> None:
    before, now = (book_at("acc", "EURUSD", all_records, at(s)) for s in (600, 800))
    json.dumps(document(now))
    changes(before.book, now.book)
    (again,) = records([checkpoint_event(now.book, at(800))])
    replay("acc", "EURUSD", [again])


def _begun_at(all_records: list[Record]) -> None:
    """As a stream that begins with it: it has to be a checkpoint."""
    last = all_records[-1:]
    if last[0].event.type is EventType.CHECKPOINT:
        json.dumps(document(book_at("acc", "EURUSD", last, at(800))))


def _checked(all_records: list[Record]) -> None:
    fold("acc", "EURUSD", all_records)


def _exported(all_records: list[Record]) -> None:
    book = Book("acc", "EURUSD")
    for one in all_records:
        list(updates(book, one))


def _drawn(all_records: list[Record]) -> None:
    for line in lines(Book("acc", "EURUSD"), all_records):
        drawing(line, at(800))


def _reported(all_records: list[Record]) -> None:
    made = Report(at(0), at(800))
    for one in all_records:
        if one.event.type in REPORTED_TYPES:
            made.take(one)
    page({"made_at": NOW, "journal": NOT_CHECKED, "latency": None} | made.document())


NOT_CHECKED = {"first_seq": None, "last": None, "head": None, "verified": None, "reason": None, "archived_seq": None}
READERS: tuple[Callable[[list[Record]], None], ...] = (
    _worded, _replayed, _begun_at, _checked, _exported, _drawn, _reported,
)  # fmt: skip


def _refuses(read: Callable[[list[Record]], None], records: list[Record]) -> bool:
    try:
        read(records)
    except UnreadableRecord:
        return True
    return False


def _folded(records: list[Record]) -> None:
    replay("acc", "EURUSD", records)


@pytest.mark.parametrize("kind", EventType)
def test_whole_it_is_read(kind: EventType) -> None:
    records = after_the_day(kind, PAYLOADS[kind])
    assert [read.__name__ for read in READERS if _refuses(read, records)] == []


@pytest.mark.parametrize("kind", EventType)
@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__.strip("_"))
def test_mutilated_it_is_a_declared_error_that_names_it_or_nothing_at_all(
    kind: EventType, read: Callable[[list[Record]], None]
) -> None:
    """PEERS 1"""
    for path, by in mutilations(PAYLOADS[kind]):
        if kind is EventType.CHECKPOINT and read is not _begun_at and len(path) > 1:
            continue  # only what begins with it reads what is in it
        made = after_the_day(kind, mutilated(PAYLOADS[kind], path, by))
        try:
            read(made)
        except UnreadableRecord as declared:
            named = f"record {made[-1].seq}, a {kind}" in str(declared)
        except Exception as error:
            where = "gone" if by is GONE else repr(by)
            raise AssertionError(f"{kind} with {path} {where}: {type(error).__name__}: {error}") from error
        else:
            named = True
        assert named, (path, by)


@pytest.mark.parametrize("key", ["legs", "orders", "breaks", "applied", "watermarks", "orphans", "cursor", "floor"])
def test_a_checkpoint_without_what_it_is_for_gives_no_book(key: str) -> None:
    """PEERS 1: unknown is never flat."""
    others: tuple[object, ...] = (GONE, "x", {} if key in {"legs", "orders", "breaks", "applied"} else [])
    for by in others:
        (found,) = records(
            [Event("c", EventType.CHECKPOINT, Severity.INFO, at(0), mutilated(_checkpoint(), (key,), by))]
        )
        with pytest.raises(UnreadableRecord) as caught:
            replay("acc", "EURUSD", [found])
        assert "record 1, a CHECKPOINT (version 1 of acc/EURUSD)" in str(caught.value)
        assert (f"it has no {key!r}" in str(caught.value)) == (by is GONE)


@pytest.mark.parametrize(
    ("kind", "not_read"),
    [
        (EventType.ORDER_UPDATED, set()),
        (EventType.ORDER_FILLED, {"trade"}),
        (EventType.FILL_RESTATED, {"names_order"}),
        (EventType.RECONCILIATION_DISCREPANCY, {"asked", "correction"}),
        (EventType.BREAK_APPROVED, {"type", "key", "owner", "until", "correction", "via", "program", "process"}),
        (EventType.CHECKPOINT, {"correction", "resolved"}),
    ],
)
def test_no_value_of_another_kind_gets_into_a_book(kind: EventType, not_read: set[str]) -> None:
    taken = []
    for path, by in mutilations(PAYLOADS[kind]):
        was: Any = PAYLOADS[kind]
        for key in path:
            was = was[key]
        of_another_kind = not isinstance(by, int | str) or isinstance(was, bool)
        if by is GONE or by is None or not of_another_kind or {path[0], path[-1]} & not_read:
            continue
        made = after_the_day(kind, mutilated(PAYLOADS[kind], path, by))
        if not _refuses(_folded, made[-1:] if kind is EventType.CHECKPOINT else made):
            taken.append((path, by))
    assert taken == []


def test_a_fill_whose_legs_are_no_list_is_not_a_fill_without_effect() -> None:
    """PEERS 1"""
    others: tuple[object, ...] = (None, {}, 7)
    for by in others:
        made = after_the_day(EventType.ORDER_FILLED, mutilated(PAYLOADS[EventType.ORDER_FILLED], ("legs",), by))
        with pytest.raises(UnreadableRecord):
            replay("acc", "EURUSD", made)


def test_a_proof_of_an_account_without_its_time_proves_nothing() -> None:
    for payload in ({**_SAME}, {**_SAME, "requested_at": None}, {**_SAME, "requested_at": "soon"}):
        named: Document = {**payload, "instruments": {"EURUSD": 1}}
        (found,) = records([Event("r", EventType.RECONCILED, Severity.INFO, at(0), named)], "acc")
        with pytest.raises(UnreadableRecord, match="record 1, a RECONCILED"):
            list(proofs(found))


def test_it_is_an_error_of_the_journal_and_goes_from_process_to_process() -> None:
    (found,) = records([Event("c", EventType.CHECKPOINT, Severity.INFO, at(0), {})])
    error = UnreadableRecord.of(found, KeyError("legs"))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert isinstance(again, UnreadableRecord)
    assert isinstance(again, JournalError)
    assert str(again) == str(error)


# The commands


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


OF = ("--account", "acc", "--instrument", "EURUSD")


UNREADABLE_WHEN_EMPTY = (
    EventType.ORDER_UPDATED,
    EventType.ORDER_FILLED,
    EventType.RECONCILIATION_DISCREPANCY,
    EventType.BREAK_APPROVED,
    EventType.RECONCILED,
    EventType.ALERT_DELIVERED,
)


@pytest.mark.parametrize("kind", UNREADABLE_WHEN_EMPTY)
def test_no_command_ends_with_an_error_of_this_program(kind: EventType, tmp_path: Path) -> None:
    file, config = tmp_path / "journal.db", tmp_path / "accounts.yaml"
    config.write_text(
        f"journal: {{url: 'sqlite:///{file}'}}\naccounts: [{{name: acc, broker: paper, instruments: [EURUSD]}}]\n"
    )
    journal = Journal.open(f"sqlite:///{file}", exclusive=True)
    before = tuple(one.event for one in after_the_day(kind, {}))
    beside = Event("y", kind, Severity.INFO, at(710), {})
    journal.append([Append(STREAM, 0, before), Append("acc", 0, (beside,))])
    journal.close()
    named = 0
    for command in (
        ("audit", "replay", "-c", config, *OF, "--diff", to_iso(at(600)), to_iso(at(800))),
        ("audit", "tail", "-c", config),
        ("audit", "verify", "-c", config),
        ("breaks", "list", "--journal", file),
        ("breaks", "show", _break().id[:8], "--journal", file),
        ("report", "--journal", file, "--since", to_iso(at(0)), "--until", to_iso(at(900)), "--json"),
        ("audit", "archive", tmp_path / "old.db", "--before", to_iso(at(2000)), "-c", config),
    ):
        result = run(*command)
        assert result.exit_code in {0, 1, 2, 3}, (command, result.output)
        if result.exit_code == 3:
            named += 1
            assert f"a {kind}" in result.stderr, (command, result.output)
    assert named


@pytest.mark.parametrize("command", [("replay", *OF), ("archive", "old.db", "--before", to_iso(at(2000)))])
def test_a_checkpoint_without_legs_is_named_with_what_to_do(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEERS 1"""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "accounts.yaml").write_text(
        "journal: {url: 'sqlite:///journal.db'}\naccounts: [{name: acc, broker: paper, instruments: [EURUSD]}]\n"
    )
    without = mutilated(_checkpoint(), ("legs",), GONE)
    journal = Journal.open(f"sqlite:///{tmp_path}/journal.db", exclusive=True)
    events = (*day(), Event("x", EventType.CHECKPOINT, Severity.INFO, at(700), without))
    journal.append(
        [Append(STREAM, 0, events), Append("acc", 0, (Event("y", EventType.ALERT_FAILED, Severity.INFO, at(701), {}),))]
    )
    journal.close()

    result = run("audit", *command, "-c", "accounts.yaml")

    assert (result.exit_code, result.stdout) == (3, "")
    assert f"could not read record {len(events)}, a CHECKPOINT (version {len(events)} of {STREAM})" in result.stderr
    assert "it has no 'legs'" in result.stderr
    assert "read the journal with the program and version that wrote it" in result.stderr
    assert not (tmp_path / "old.db").exists()
    assert run("audit", "verify", "-c", "accounts.yaml").exit_code == 0
