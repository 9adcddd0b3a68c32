"""``audit replay``: a book as it was, what the broker had said, what changed, who by and why, and the proof of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.book.checkpoint import checkpoint_event, replay
from actors.book.history import book_at
from actors.events import Event, EventType, to_iso
from actors.journal.store import Journal
from supervisor.cli.audit_replay import document
from tests.unit.audit_cases import Case, a_case, a_happening, day
from tests.unit.builders import Desk, at, fill, pos, records, slice_at
from tests.unit.journal_cases import change

OF = ("--account", "acc", "--instrument", "EURUSD")


@pytest.fixture(name="case")
def _case(tmp_path: Path) -> Case:
    return a_case(tmp_path)


def held(case: Case, seconds: float, *more: object) -> Any:
    return case.json("replay", *OF, "--at", to_iso(at(seconds)), *more)


def test_the_book_the_broker_and_the_proof_at_a_past_moment(case: Case) -> None:
    """PEERS 15: what was believed, what the broker had said, when it was last verified."""
    found = held(case, 125)

    assert (found["account"], found["instrument"], found["at"]) == ("acc", "EURUSD", to_iso(at(125)))
    (leg,) = found["book"]["legs"]
    assert (leg["leg"], leg["quantity"], leg["average_price"]) == ("net", "100", "1.1")
    assert [(lot["quantity"], lot["fill_id"]) for lot in leg["lots"]] == [("80", None), ("20", "f1")]
    (working,) = found["book"]["open_orders"]
    assert (working["broker_order_id"], working["filled_quantity"], working["strategy"]) == ("B1", "20", "alpha")
    assert found["verified_at"] == to_iso(at(0))
    said = {one["subject"]: one["said"] for one in found["broker"]}
    assert said["position net"] == "80 @ 1.1"
    assert said["order B1"] == "OPEN, filled 0 of 50"
    (record,) = [one for one in case.json("query") if one["seq"] == found["seq"]]
    assert record["hash"] == found["hash"]
    assert case.audit("verify", "--head", found["hash"]).exit_code == 0


def test_at_the_time_of_each_event_it_is_the_fold_of_the_events_up_to_it(case: Case) -> None:
    for event in day():
        of_day = book_at("acc", "EURUSD", records(day()), event.time)
        found = case.json("replay", *OF, "--at", to_iso(event.time))
        assert found["book"] == document(of_day)["book"]
        assert found["breaks"] == document(of_day)["breaks"]


def test_without_a_time_it_is_now(case: Case) -> None:
    found = case.json("replay", *OF)
    (leg,) = found["book"]["legs"]
    assert leg["quantity"] == "130"
    assert found["book"]["open_orders"] == []


def test_before_anything_was_recorded_there_is_no_book_and_not_a_flat_one(case: Case) -> None:
    """PEERS 1"""
    found = held(case, -1)
    assert (found["book"], found["seq"], found["version"]) == (None, None, 0)
    words = case.audit("replay", *OF, "--at", to_iso(at(-1))).stdout
    assert "nothing had been recorded" in words
    assert "nothing is held" not in words


def test_words_for_a_person(case: Case) -> None:
    words = case.audit("replay", *OF, "--at", to_iso(at(125))).stdout
    for line in (
        "acc/EURUSD at 2024-01-02T09:02:05.000000Z",
        "leg net: 100 @ 1.1",
        "lot 20 @ 1.1 of 2024-01-02T09:02:00.000000Z, f1",
        "order B1: BUY 50 LIMIT @ 1.1, PARTIALLY_FILLED, filled 20",
        "verified at least at 2024-01-02T09:00:00.000000Z (a clean check is journaled at most every five minutes)",
        "position net: 80 @ 1.1",
    ):
        assert line in words


def test_a_difference_of_two_moments_names_each_change_with_its_cause(case: Case) -> None:
    begin, end = to_iso(at(90)), to_iso(at(600))

    found = case.json("replay", *OF, "--diff", begin, end)

    changed = {(one["subject"], one["field"]): (one["before"], one["after"]) for one in found["changes"]}
    assert changed[("leg net", "quantity")] == ("80", "130")
    assert changed[("order B1", "status")] == (None, "FILLED")
    assert found["from"]["book"] == held(case, 90)["book"]
    assert found["to"]["book"] == held(case, 600)["book"]
    steps = found["events"]
    assert [one["seq"] for one in steps] == sorted(one["seq"] for one in steps)
    by_type = {one["type"]: one for one in steps}
    assert by_type["ORDER_RECORDED"]["who"] == "strategy alpha"
    assert by_type["ORDER_FILLED"]["who"] == "reconciliation"
    assert "MISSED_FILL" in by_type["ORDER_FILLED"]["why"]
    assert by_type["CONNECTION_LOST"]["why"] == "time-out", "what happened to the account stands among it"
    assert by_type["OPERATOR_ACTION"]["who"] == "operator"
    assert "CHECKPOINT" not in by_type
    words = case.audit("replay", *OF, "--diff", begin, end).stdout
    for line in ("leg net quantity: 80 → 130", "strategy alpha", "MISSED_FILL", "connection lost: time-out"):
        assert line in words


def test_between_a_moment_and_itself_nothing_changed(case: Case) -> None:
    words = case.audit("replay", *OF, "--diff", to_iso(at(125)), to_iso(at(125))).stdout
    assert "nothing in the book changed" in words
    assert "nothing happened in between" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*OF, "--at", "1h", "--diff", "2h", "1h"), "--at takes one time and --diff two"),
        ((*OF, "--diff", "1h", "2h"), "1h is after 2h"),
        ((*OF, "--at", "2999-01-01"), "in the future"),
        ((*OF, "--at", "soon"), "'soon' is not a time"),
        (("--account", "nobody", "--instrument", "X"), "no account 'nobody'"),
        (("--account", "acc", "--instrument", "X"), "acc/EURUSD"),
        (("--account", "acc"), "--instrument"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_be_answered_is_refused_with_what_can(case: Case, arguments: tuple[str, ...], words: str) -> None:
    result = case.audit("replay", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_an_altered_record_gives_no_book(case: Case) -> None:
    """PEERS 1: what somebody wrote into the journal is not what we believed."""
    (fill,) = case.json("query", "--type", "FILL_RECORDED")
    change(
        case.directory,
        "UPDATE journal_records SET payload = replace(payload, '\"20\"', '\"21\"') WHERE seq = ?",
        fill["seq"],
    )
    result = case.audit("replay", *OF, "--at", to_iso(at(125)), "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"record {fill['seq']} was altered" in result.stderr


def test_a_clock_that_went_back_is_named(case: Case) -> None:
    lost = a_happening(EventType.RECONCILED, {**_reconciled(), "as_of": to_iso(at(9_000))}, 9_000)
    case.append(lost)
    case.append(a_happening(EventType.RECONCILED, {**_reconciled(), "as_of": to_iso(at(610))}, 610))
    assert held(case, 700)["clock_went_back"] is True
    assert "a clock was set back" in case.audit("replay", *OF, "--at", to_iso(at(700))).stdout
    assert held(case, 600)["clock_went_back"] is False


def _reconciled() -> dict[str, Any]:
    return dict(next(event.payload for event in day() if event.type is EventType.RECONCILED))


def test_what_was_archived_is_asked_for_and_read_where_it_is(case: Case, tmp_path: Path) -> None:
    before = {second: held(case, second) for second in (50, 125, 600)}
    case.append(_checkpoint_of_now())
    old = tmp_path / "old.db"
    journal = Journal.open(case.url, exclusive=True)
    done = journal.archive(at(450), old)
    journal.close()
    assert done.records > 0

    refused = case.audit("replay", *OF, "--at", to_iso(at(600)))

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--archive" in refused.stderr
    for second, expected in before.items():
        assert held(case, second, "--archive", old) == expected
    begun = case.audit("replay", *OF, "--at", to_iso(at(-1)))
    assert (begun.exit_code, begun.stdout) == (2, ""), "that it is not here does not mean that it was not"
    assert held(case, -1, "--archive", old)["book"] is None
    gone = case.audit("replay", *OF, "--archive", tmp_path / "gone.db")
    assert gone.exit_code == 3


def _checkpoint_of_now() -> Event:
    journal_events = day()
    book = replay("acc", "EURUSD", records(journal_events))
    book.version += 1  # the checkpoint in the middle
    return checkpoint_event(book, journal_events[-1].time + timedelta(seconds=200))


def test_an_empty_stream_of_a_configured_instrument_has_no_book(case: Case) -> None:
    found = case.json("replay", "--account", "acc", "--instrument", "GBPUSD")
    assert (found["book"], found["broker"]) == (None, [])
    assert json.loads(case.audit("query", "--instrument", "GBPUSD", "--json").stdout) == []


def test_a_lot_bears_the_brokers_own_id_where_that_is_unique_for_a_day_alone(tmp_path: Path) -> None:
    desk = Desk()
    desk.look(slice_at(0))
    bought = replace(fill("77", 5, "1.1", at_s=50), id_scope="2024-01-02 BUY")
    desk.look(slice_at(100, [pos("5", "1.1")], [], [bought]))
    made = Case(tmp_path)
    made.write_config()
    made.append(*desk.events)

    (leg,) = made.json("replay", "--account", "acc", "--instrument", "EURUSD")["book"]["legs"]
    assert [(lot["quantity"], lot["fill_id"]) for lot in leg["lots"]] == [("5", "77")]
    assert "2024-01-02 BUY" not in made.audit("replay", "--account", "acc", "--instrument", "EURUSD").stdout
