"""What a book was at a moment, shown to somebody who has one proof, the public key and yesterday's head, and not us."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from actors.book.checkpoint import checkpoint_event
from actors.events import Event
from supervisor.cli.main import app
from tests.unit.audit_cases import day, with_checkpoint
from tests.unit.builders import SIDED, T0, Desk, at, fill, fill_report, order, order_report, pos, slice_at
from tests.unit.journal_cases import ROOT
from tests.unit.test_journal_evidence import run_events
from tests.unit.world import World, worlds

SCRIPT = ROOT / "evidence" / "book_of_proof.py"
BY_09_04 = "2024-01-02T09:04:00"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return _script()


def _script() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        return importlib.import_module("book_of_proof")
    finally:
        sys.path.remove(str(SCRIPT.parent))


def folded(events: list[Event], fold: Any) -> dict[str, Decimal]:
    legs: dict[str, Decimal] = {}
    seen: set[Any] = set()
    for event in events:
        legs = fold(legs, seen, json.loads(json.dumps({"type": event.type, "payload": dict(event.payload)})))
    return legs


KNOWN = ("place", "adopt_elsewhere", "fill", "fill_and_report", "trade_outside", "correct_an_execution", "believe",
    "change_silently", "look", "look_late", "wait", "wait_long", "supersede")  # fmt: skip
"""Each way in which a leg is changed."""
PROGRAMS = st.lists(st.tuples(st.sampled_from(KNOWN), st.integers(0, 30), st.integers(0, 30)), min_size=5, max_size=25)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(worlds, PROGRAMS)
def test_its_rules_make_what_our_fold_makes_whatever_happens(world: World, program: list[tuple[str, int, int]]) -> None:
    for step in program:
        world.step(*step)
    world.settle()
    held = {name: leg.quantity for name, leg in world.book.legs.items()}
    fold = _script().fold
    assert folded(world.events, fold) == held
    assert folded([checkpoint_event(world.book, T0)], fold) == held


def a_guess_that_gives_way() -> Desk:
    """Our side reports a fill of an order on its long leg; the broker says it was on the short one, and smaller."""
    desk = Desk()
    desk.look(slice_at(0, conventions=SIDED))
    desk.report(order_report("c1", submitted_at=at(10), quantity=10), at_s=10)
    desk.report(fill_report("501", 10, at_s=11, client_id="c1", leg="long"), at_s=11, conventions=SIDED)
    row = order("B1", 10, 7, client_id="c1", submitted_at=at(10))
    made = fill("501", 7, at_s=11, order_id="B1", leg="long")
    desk.look(slice_at(30, [pos(7, leg="long")], [row], [made], conventions=SIDED))
    return desk


def a_conversion() -> Desk:
    desk = Desk()
    desk.look(slice_at(1, [pos(10, 100, "MIS"), pos(5, 90, "CNC")]))
    desk.look(slice_at(10, [pos(6, 100, "MIS"), pos(9, "94.444", "CNC")]))
    return desk


@pytest.mark.parametrize(
    ("desk", "has"),
    [
        (a_guess_that_gives_way, lambda event: event.type == "FILL_RESTATED"),
        (a_conversion, lambda event: "moved_from" in event.payload),
    ],
)
def test_so_they_do_where_a_guess_gives_way_and_where_a_leg_becomes_another(desk: Any, has: Any) -> None:
    made: Desk = desk()
    assert any(map(has, made.events))
    assert folded(made.events, _script().fold) == made.quantities()


def test_a_fill_that_is_reported_twice_or_does_not_count_adds_nothing() -> None:
    fold, seen = _script().fold, set[Any]()
    one = {"type": "ORDER_FILLED", "payload": {"fill_id": "1", "legs": [["net", "3"]], "counted": True}}
    other = {"type": "ORDER_FILLED", "payload": {"fill_id": "2", "legs": [["net", "3"]], "counted": False}}
    legs: dict[str, Decimal] = {}
    for record in (one, one, other):
        legs = fold(legs, seen, record)
    assert legs == {"net": Decimal(3)}


@pytest.fixture
def proven(tmp_path: Path) -> Path:
    """A day with a checkpoint, yesterday's head over its first five records, and the proof of its book at 09:04."""
    every = with_checkpoint(day())
    asyncio.run(run_events(tmp_path, "acc/EURUSD", every[:5]))
    prove_with(tmp_path, "heads", "-n", 1, out="yesterday")
    asyncio.run(run_events(tmp_path, "acc/EURUSD", every[5:]))
    of = ("--account", "acc", "--instrument", "EURUSD", "--at", f"{BY_09_04}Z", "--since", tmp_path / "yesterday")
    prove_with(tmp_path, "prove", *of, out="proof.json")
    return tmp_path


def prove_with(directory: Path, command: str, *arguments: object, out: str) -> None:
    words = ["audit", command, "--journal", str(directory / "journal.db"), *map(str, arguments)]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    (directory / out).write_text(found.stdout)


def alone(directory: Path, time: str = BY_09_04, proof: str = "proof.json") -> subprocess.CompletedProcess[str]:
    arguments = [str(directory / proof), str(directory / "journal.db.pub"), time, str(directory / "yesterday")]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, cwd=directory
    )


def test_the_book_is_shown_with_who_changed_it_and_that_nothing_was_cut_out(proven: Path) -> None:
    found = alone(proven)
    assert found.returncode == 0, found.stderr
    assert "nothing was changed or cut out between the heads over 5 and" in found.stdout
    assert "your head over 5 records agrees" in found.stdout
    assert "the book of acc/EURUSD at 2024-01-02T09:04:00+00:00: net 100" in found.stdout


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda found: found["records"].pop(1), "left out"),
        (lambda found: found["records"].pop(0), "does not begin with a whole book"),
        (lambda found: found["records"].pop(), "shows that none before it was left out"),
        (lambda found: found["records"].clear(), "proves no record"),
        (lambda found: found["records"][0].update(record=found["records"][0]["record"].replace("100", "900")), "NOT"),
    ],
)
def test_a_proof_that_leaves_something_out_shows_no_book(proven: Path, spoil: Any, said: str) -> None:
    document = json.loads((proven / "proof.json").read_text())
    spoil(document)
    (proven / "spoilt.json").write_text(json.dumps(document))
    found = alone(proven, proof="spoilt.json")
    assert found.returncode == 1
    assert said in found.stderr


def test_a_time_the_proof_is_not_about_shows_no_book(proven: Path) -> None:
    assert "it begins after that time" in alone(proven, "2024-01-02T08:00:00").stderr
    assert "no record after that time" in alone(proven, "2024-01-03T08:00:00").stderr


@pytest.mark.parametrize("name", ["book_of_proof.py", "check_proof.py"])
def test_without_what_they_need_the_scripts_say_what_that_is(name: str) -> None:
    command = [sys.executable, str(SCRIPT.parent / name), "proof.json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert f"python {name} PROOF.json PUBLIC_KEYS" in found.stderr


def test_who_proves_a_book_learns_where_nothing_shows_that_its_last_record_is_the_last(proven: Path) -> None:
    of = ("prove", "--journal", proven / "journal.db", "--account", "acc", "--instrument", "EURUSD")
    since = ("--since", str(proven / "yesterday"))
    early, late = (
        CliRunner().invoke(app, ["audit", *map(str, of), "--at", time, "-o", str(proven / "again.json"), *since])
        for time in (f"{BY_09_04}Z", "2024-01-02T10:00:00Z")
    )
    assert (early.exit_code, late.exit_code) == (0, 0)
    assert "left out" not in early.stderr
    assert "there is no record of acc/EURUSD after 2024-01-02T10:00:00.000000Z yet" in late.stderr
    assert "no record after that time" in alone(proven, "2024-01-02T10:00:00", "again.json").stderr


def test_the_scripts_are_short_enough_to_be_read(script: ModuleType) -> None:
    for file in SCRIPT.parent.glob("*.py"):
        assert len(file.read_text().splitlines()) < 100, file
    assert script.shown({}) == "nothing"
