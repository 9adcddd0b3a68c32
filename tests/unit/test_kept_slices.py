"""Decisions that can be made again: slices kept beside the journal, bound into its chain, and decided on anew."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from actors.book.book import Book
from actors.book.discrepancies import DiscrepancyType
from actors.book.policy import Correct, Policy
from actors.journal.kept_slices import KeptSlices, packed, unpacked
from actors.journal.store import Journal
from actors.journal.types import Append, JournalUnavailable
from actors.names import AUDIT
from actors.reconciliation.grounds import Grounds, kept
from actors.reconciliation.recompute import UnusablePass, entry_of, grounds_of
from brokers.model import (
    Complete,
    ContractFacts,
    Conventions,
    Corrected,
    Evidence,
    Failed,
    IdScope,
    LegScheme,
    OrderAnswer,
    OrderQuery,
    OrderStatus,
    Partial,
    Reason,
    RowProblem,
    SectionName,
    Slice,
    Unsupported,
)
from supervisor.cli.main import app
from tests.unit.builders import at, fill, order, order_report, pos, slice_at
from tests.unit.fakes import EURUSD, House, a_house, passes, unreachable
from tests.unit.virtual_time import virtual_time

NUMBERS = st.decimals(min_value=-1000, max_value=1000, places=5)
POSITIONS = st.lists(st.builds(pos, NUMBERS, NUMBERS, st.sampled_from(["net", "long", "7"])), max_size=3)
ORDERS = st.lists(
    st.builds(order, st.text(max_size=5), NUMBERS, st.just(0), st.sampled_from(OrderStatus), leg=st.none() | st.text()),
    max_size=3,
)
FILLS = st.lists(st.builds(fill, st.text(max_size=5), NUMBERS, NUMBERS, at_s=st.floats(0, 1e6)), max_size=3)
PROBLEM = RowProblem(SectionName.FILLS, None, "7", "no number", at(5))


def sections(rows: Any) -> Any:
    return st.one_of(
        rows.map(lambda found: Complete(tuple(found))),
        rows.map(lambda found: Partial(tuple(found), (PROBLEM,))),
        st.just(Failed("timed out")),
        st.just(Failed("all is gone at once", disbelieved=True)),
        st.just(Unsupported()),
    )


def again(grounds: Grounds) -> Grounds:
    """What is kept of these grounds, read back."""
    found = kept(grounds, 0, None)
    return grounds_of(entry_of(found.hash, found.entry), grounds.book, found.parts.get)


class TestTheForm:
    @settings(deadline=None, max_examples=60)
    @given(sections(POSITIONS), sections(ORDERS), sections(FILLS))
    def test_every_slice_is_read_back_as_it_was(self, positions: Any, orders: Any, fills: Any) -> None:
        given = Grounds(
            Book("acc", "EURUSD"), slice_at(3, positions, orders, fills, revision=""), Policy(), at(4), None
        )
        assert again(given) == given

    def test_so_is_everything_beside_the_rows(self) -> None:
        odd_fill = replace(
            fill("f", "1e-7", at_s=0.000001),
            corrects=Corrected("e", Decimal("1.10"), Decimal("0"), "day"),
            reason=Reason.SPLIT,
            commission=Decimal("-0.10"),
            id_scope="2024-01-02/BUY",
        )
        conventions = Conventions(
            LegScheme.SIDED, fill_ids=IdScope.ACCOUNT, day_ahead_of_utc=timedelta(hours=-5, microseconds=1)
        )
        slice_ = replace(
            slice_at(3, [], [], [odd_fill], conventions=conventions, revision=""),
            answers=(OrderAnswer(OrderQuery("EURUSD", "1", None), order("1"), (odd_fill,), None),),
            unread_legs={"7": "not asked for"},
            contract=ContractFacts("C1", "OPT", date(2024, 3, 15), "C", Decimal("1.10"), held=False),
            evidence=(Evidence(Reason.SPLIT, "EURUSD", "net", None, "2 for 1", ratio=Decimal(2), linked=("a",)),),
            aside=(pos(3, leg="holdings"),),
            whole=False,
        )
        policy = Policy(
            Correct.ALERT,
            settle=timedelta(seconds=-1, microseconds=7),
            max_correction=Decimal("1E+3"),
            stale_order=timedelta(days=3),
            may_stand=frozenset({DiscrepancyType.OVERFILL, DiscrepancyType.STALE_DATA}),
        )
        given = Grounds(Book("acc", "EURUSD"), slice_, policy, at(4), at(-1), "buy")
        found = again(given)
        assert found == given
        assert str(found.policy.max_correction) == "1E+3"
        assert found.slice.fills.rows[0].id_scope == "2024-01-02/BUY"  # type: ignore[union-attr]  # it is complete

    def test_what_is_altered_or_lost_is_named_and_never_decided_on(self) -> None:
        given = Grounds(Book("acc", "EURUSD"), slice_at(3, [pos(5)]), Policy(), at(4), None)
        found = kept(given, 0, None)
        with pytest.raises(UnusablePass, match="was altered"):
            entry_of(found.hash, found.entry.replace(b'"version":0', b'"version":1'))
        entry = entry_of(found.hash, found.entry)
        for name in found.parts:
            with pytest.raises(UnusablePass, match="is not kept"):
                grounds_of(entry, given.book, {**found.parts, name: None}.get)
            with pytest.raises(UnusablePass, match="was altered"):
                grounds_of(entry, given.book, {**found.parts, name: b"[]"}.get)

    @given(st.binary())
    def test_what_is_packed_is_unpacked(self, data: bytes) -> None:
        assert unpacked(packed(data)) == data

    def test_a_packed_form_of_another_version_is_not_guessed_at(self) -> None:
        assert unpacked(b"\x02" + packed(b"x")[1:]) is None
        assert unpacked(b"\x01\xff") is None
        assert unpacked(b"") is None

    def test_the_first_form_is_read_for_ever(self) -> None:
        stored = bytes.fromhex("01ab46e60000")
        assert unpacked(stored) == b'{"version":1}'


async def a_day(house: House) -> None:
    """A zombie recovered, an order sent and filled, a drift put right, a ghost cleared, a broker that is away."""
    instrument = house.instrument()
    house.broker.hold(80)
    await instrument.reconcile_now()
    for _ in range(3):
        await instrument.reconcile_now()
    await instrument.record((order_report("c1", submitted_at=house.clock()),))
    house.broker.order("B1", 100, client_id="c1")
    await passes(10)
    house.broker.trade(40, order_id="B1")
    await instrument.post_trade("buy")
    await passes(400)
    house.broker.hold(130)
    await instrument.reconcile_now()
    house.broker.held.clear()
    await instrument.reconcile_now()
    house.broker.failing = unreachable()
    await passes(4000)
    await instrument.check()


def recompute(directory: Path, *more: object) -> Result:
    journal = ["--journal", str(directory / "journal.db")]
    result = CliRunner().invoke(app, ["audit", "replay", "--recompute", *journal, *map(str, more)])
    assert "Traceback" not in result.output
    return result


def document(directory: Path, *more: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(recompute(directory, *more, "--json").stdout)
    return found


@pytest.fixture
def day(tmp_path: Path) -> Path:
    @virtual_time
    async def live() -> None:
        async with a_house(tmp_path, keep_slices=True) as house:
            await a_day(house)

    live()
    return tmp_path


class TestRecompute:
    def test_the_code_that_decided_decides_the_same_again(self, day: Path) -> None:
        found = document(day)
        assert found["ok"], found
        assert found["passes"] == found["same"] == 6
        assert (found["wrong"], found["otherwise"], found["not_kept"], found["unbound"]) == ([], [], 0, 0)
        words = recompute(day)
        assert words.exit_code == 0
        assert f"{found['passes']} passes decided on again, {found['same']} the same" in words.stdout

    def test_code_that_decides_otherwise_is_named(self, tmp_path: Path) -> None:
        """The journal holds what other code decided: a smaller position, and none of the rest."""
        grounds = Grounds(Book("fx", EURUSD), _of_fx(slice_at(1, [pos(5)])), Policy(), at(1), None)
        first, *_ = grounds.decide().events
        made = kept(grounds, 1, None)
        other = replace(first, payload={**first.payload, "correction": "none", "pass": made.hash})
        store = KeptSlices(tmp_path / "journal.db.slices")
        store.keep("fx/EURUSD", 0, made.hash, made.entry, made.parts)
        store.close()
        journal = Journal.open(f"sqlite:///{tmp_path}/journal.db", exclusive=True)
        journal.append([Append("fx/EURUSD", 0, (other,))])
        journal.close()
        result = recompute(tmp_path)
        assert result.exit_code == 1
        assert "OTHERWISE fx/EURUSD after version 0, 2024-01-02T09:00:01" in result.stdout
        assert 'correction "none" would be "force_add_position"' in result.stdout
        assert "RECONCILED" in result.stdout
        assert "it would be decided" in result.stdout
        (differing,) = document(tmp_path)["otherwise"]
        assert (differing["stream"], differing["version"], differing["seqs"]) == ("fx/EURUSD", 0, [1])

    def test_a_slice_that_was_altered_is_named(self, day: Path) -> None:
        with sqlite3.connect(day / "journal.db.slices") as store:
            (own, data) = store.execute("SELECT hash, data FROM passes ORDER BY number LIMIT 1").fetchone()
            entry = unpacked(data)
            assert entry is not None
            changed = entry.replace(b'"requested_at":"2024', b'"requested_at":"2025')
            store.execute("UPDATE passes SET data = ? WHERE hash = ?", (packed(changed), own))
        store.close()
        found = document(day)
        assert not found["ok"]
        assert f"pass {own.hex()} was altered" in found["wrong"][0]

    def test_a_pass_that_was_taken_out_is_missed(self, day: Path) -> None:
        with sqlite3.connect(day / "journal.db.slices") as store:
            store.execute("DELETE FROM passes WHERE number = 1")
        store.close()
        found = document(day)
        assert found["not_kept"] == 1
        assert recompute(day).exit_code == 3

    def test_a_pass_that_was_put_in_is_proven_by_nothing(self, day: Path) -> None:
        store = KeptSlices(day / "journal.db.slices")
        before = document(day)
        made = kept(Grounds(Book("fx", EURUSD), _of_fx(slice_at(1, [pos(5)])), Policy(), at(1), None), 0, None)
        store.keep("fx/EURUSD", 0, made.hash, made.entry, made.parts)
        store.close()
        found = document(day)
        assert (before["unbound"], found["unbound"]) == (0, 1)

    def test_one_instrument_and_a_time_can_be_chosen(self, day: Path) -> None:
        every = document(day)["passes"]
        assert document(day, "--account", "fx", "--instrument", EURUSD)["passes"] == every
        some = document(day, "--since", "2024-01-02T09:05Z")["passes"]
        assert 0 < some < every
        other = recompute(day, "--account", "other")
        assert other.exit_code == 2
        assert "holds no slice for this selection" in other.output

    def test_where_nothing_was_kept_that_is_said(self, day: Path) -> None:
        (day / "journal.db.slices").rename(day / "moved")
        missing = recompute(day)
        assert missing.exit_code == 2
        assert "Set journal.keep_slices: true" in missing.output
        assert document(day, "--slices", day / "moved")["ok"]

    def test_options_that_do_not_go_together_are_refused(self, day: Path) -> None:
        for more in (["--at", "now"], ["--diff", "1h", "now"]):
            assert recompute(day, *more).exit_code == 2
        plain = CliRunner().invoke(app, ["audit", "replay", "--journal", str(day / "journal.db")])
        assert plain.exit_code == 2
        assert "--account and --instrument" in plain.output


def _of_fx(slice_: Slice) -> Slice:
    return replace(slice_, account="fx")


class TestKeeping:
    @virtual_time
    async def test_events_name_their_pass_only_where_slices_are_kept(self, tmp_path: Path) -> None:
        for keep in (False, True):
            directory = tmp_path / str(keep)
            directory.mkdir()
            async with a_house(directory, keep_slices=keep) as house:
                house.broker.hold(80)
                await house.instrument().reconcile_now()
                named = [event.payload.get("pass") is not None for event in await house.events()]
                assert named
                assert set(named) == {keep}
            assert (directory / "journal.db.slices").exists() is keep

    @virtual_time
    async def test_what_is_seen_again_is_kept_once(self, tmp_path: Path) -> None:
        async with a_house(tmp_path, keep_slices=True) as house:
            house.broker.hold(80)
            for _ in range(20):
                await house.instrument().reconcile_now()
                await passes(1)
        store = KeptSlices(tmp_path / "journal.db.slices", read_only=True)
        found = list(store.passes("fx/EURUSD"))
        store.close()
        assert len(found) == 1  # what recovered it, and found it in step

    @virtual_time
    async def test_a_store_that_cannot_be_written_holds_nothing_up(self, tmp_path: Path) -> None:
        async with a_house(tmp_path, keep_slices=True) as house:
            house.broker.hold(80)
            (tmp_path / "journal.db.slices").mkdir()
            report = await house.instrument().reconcile_now()
            assert report.status == "SUCCESS"
            health = await house.audit.health()
            assert "kept slices" in str(health["evidence_error"])
            assert all("pass" not in event.payload for event in await house.events())
            (tmp_path / "journal.db.slices").rmdir()
            house.broker.hold(90)
            await house.instrument().reconcile_now()
            assert (await house.audit.health())["evidence_error"] is None
            assert "pass" in (await house.events())[-1].payload

    @virtual_time
    async def test_a_pass_is_kept_before_its_events_are_journaled(self, tmp_path: Path) -> None:
        async with a_house(tmp_path, keep_slices=True) as house:
            house.broker.hold(80)
            house.post.sent.clear()
            await house.instrument().reconcile_now()
            asked = [method for actor, method in house.post.sent if actor == AUDIT and method != "load"]
            assert asked.index("keep_pass") < asked.index("append")

    @virtual_time
    async def test_a_dry_run_keeps_nothing(self, tmp_path: Path) -> None:
        async with a_house(tmp_path, keep_slices=True) as house:
            house.broker.hold(80)
            await house.instrument().detect_drift()
            assert not (tmp_path / "journal.db.slices").exists()

    def test_a_hash_that_is_not_of_its_content_is_refused(self, tmp_path: Path) -> None:
        store = KeptSlices(tmp_path / "s")
        with pytest.raises(ValueError, match="is not the SHA-256"):
            store.keep("fx/A", 0, "0" * 64, b"{}", {})
        store.close()

    def test_a_reader_creates_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(JournalUnavailable):
            KeptSlices(tmp_path / "none", read_only=True)
        assert not (tmp_path / "none").exists()
