"""Books in which nothing happens: one record of their account names them all, and none that was not in step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.account.gathering import GATHER_S
from actors.book.checkpoint import replay
from actors.book.in_step import InStep, concerns, gathered, named_in, proofs
from actors.events import EventType, Json, Record, to_iso
from actors.instrument.book_keeper import CHECKPOINT_AT_LEAST_EVERY
from actors.journal.record_filter import meets
from actors.journal.store import Journal
from actors.names import AUDIT
from supervisor.cli.audit_replay import Past
from supervisor.presentation.event_text import describe, summarize
from supervisor.presentation.report import Report
from supervisor.presentation.timeline import lines
from tests.unit.builders import dec
from tests.unit.fakes import FX, QUICK, House, a_house, for_ever, passes, quantities, unreachable
from tests.unit.instrument_cases import a_position, last
from tests.unit.virtual_time import virtual_time

NAMES = ("AUD/USD", "EURUSD", "GBPUSD")
EVERY_S = 300.0
E = EventType


async def named(house: House) -> list[Record]:
    """The records in which the account names instruments, oldest first."""
    found = await house.audit.records(stream=FX, types=(E.RECONCILED,), limit=10_000)
    assert all(named_in(one.event) is not None for one in found)
    return found


async def own(house: House, name: str = "EURUSD") -> int:
    """How many proofs an instrument has in its own stream."""
    return (await house.kinds(f"{FX}/{name}")).count(E.RECONCILED)


async def quiet(house: House) -> None:
    """Every instrument holds something, has reported so itself, and twice as much time has passed as takes a round."""
    for name in house.names:
        house.broker.hold(5, instrument=name)
    await house.start()
    await passes(3 * EVERY_S)


async def verified(house: House, at: datetime | None = None, name: str = "EURUSD") -> datetime | None:
    """When the journal proves, by a moment, that a book was in step: as ``audit replay`` says it."""
    journal = Journal.open(house.url, read_only=True)
    try:
        return Past([journal], FX, name).at(at if at is not None else house.clock()).verified_at
    finally:
        journal.close()


@virtual_time
async def test_one_record_in_five_minutes_names_all_that_are_in_step_and_none_writes_one_itself(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        before, version = len(await named(house)), len(await house.events(f"{FX}/EURUSD"))
        await passes(12 * EVERY_S)
        records = (await named(house))[before:]
        assert len(records) == 12
        for record in records:
            assert named_in(record.event) == dict.fromkeys(NAMES, version)
            assert record.event.payload["positions"] == "COMPLETE"
        times = [one.at for record in records for one in proofs(record) if one.stream == f"{FX}/EURUSD"]
        assert all(later - earlier <= timedelta(seconds=EVERY_S + 1) for earlier, later in pairwise(times))
        assert [await own(house, name) for name in NAMES] == [1, 1, 1]
        assert house.clock() - (await verified(house) or house.clock()) < timedelta(seconds=EVERY_S + GATHER_S + 5)


@virtual_time
async def test_what_changes_is_reported_by_itself_at_once_and_the_others_are_named_still(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES, interval_s=15.0) as house:
        await quiet(house)
        proven, count = await own(house), len(await named(house))
        house.broker.hold(7, instrument="EURUSD")
        await passes(16)
        kinds = await house.kinds(f"{FX}/EURUSD")
        assert kinds[-1] is E.RECONCILED, "the change is in it, and so is that both sides are the same after it"
        assert await own(house) == proven + 1
        await passes(EVERY_S + GATHER_S)
        assert set(named_in((await named(house))[count].event) or ()) == {"AUD/USD", "GBPUSD"}
        await passes(2 * EVERY_S)
        version = len(await house.events(f"{FX}/EURUSD"))
        assert (named_in((await named(house))[-1].event) or {})["EURUSD"] == version
        assert await own(house) == proven + 1


@virtual_time
async def test_a_check_that_somebody_asked_for_is_in_the_instrument_s_own_stream_with_who_did(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        before = await own(house)
        await house.instrument().reconcile_now(asked={"by": "ann@desk"})
        assert await own(house) == before + 1
        assert (await house.events())[-1].payload["asked"] == {"by": "ann@desk"}


@virtual_time
async def test_a_difference_that_stands_and_a_broker_that_is_away_are_named_by_nobody(tmp_path: Path) -> None:
    careful = replace(QUICK, max_correction=dec(10))
    async with a_house(tmp_path, NAMES, policy=careful) as house:
        await quiet(house)
        house.broker.hold(500, instrument="EURUSD")
        await passes(EVERY_S + GATHER_S)
        count = len(await named(house))
        await passes(3 * EVERY_S)
        later = (await named(house))[count:]
        assert later
        assert not any(concerns(record, "EURUSD") for record in later)
        house.broker.failing = unreachable()
        await passes(EVERY_S)
        count = len(await named(house))
        await passes(4 * EVERY_S)
        assert len(await named(house)) == count


@virtual_time
async def test_a_book_that_was_written_to_since_is_not_named_at_what_it_was(tmp_path: Path) -> None:
    """A second actor of the name that lives on, or one that reported and then wrote: the journal knows the version."""
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        count = len(await named(house))
        version = (await house.instrument().health()).version
        payload = dict((await named(house))[-1].event.payload)
        await house.account.in_step(InStep("EURUSD", version - 1, payload))
        await house.account.in_step(InStep("GBPUSD", version + 1, payload))
        await house.account.in_step(InStep("AUD/USD", version, payload))
        await passes(GATHER_S + 1)
        assert [named_in(one.event) for one in (await named(house))[count:]] == [{"AUD/USD": version}]


@virtual_time
async def test_whose_stream_somebody_else_continued_learns_of_it_by_what_he_reported(tmp_path: Path) -> None:
    """Another actor of the name wrote and is gone; the one that lives has nothing to write, and would not find out."""
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        other = house.second()
        await other.record([a_position(3)])
        assert (await house.instrument().health()).version < len(await house.events())
        await passes(EVERY_S + 60 + GATHER_S + 5)
        assert (await house.instrument().health()).version == len(await house.events())
        assert quantities(await last(house)) == {"net": "5"}


@pytest.mark.parametrize("dies", ["instrument", "account", "audit", "all"])
@virtual_time
async def test_what_is_proven_at_least_stays_true_whoever_dies_before_it_is_written(tmp_path: Path, dies: str) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        proven = await verified(house)
        house.post.sent.clear()
        while (FX, "in_step") not in house.post.sent:
            await passes(1)
        asked_at = house.clock()
        if dies in ("instrument", "all"):
            await house.replace_instrument()
        if dies in ("account", "all"):
            await house.replace_account()
        if dies in ("audit", "all"):
            await house.lose_audit()
            await house.open_audit()
        await passes(GATHER_S + 10)
        after = await verified(house)
        assert after is not None
        assert proven is not None
        if dies in ("instrument", "audit"):
            assert proven < after <= asked_at, "it was in step, and what it reported is written"
        else:
            assert after == proven, "who was to write it is gone: it was proven to nobody"
        await house.start()
        await passes(2 * EVERY_S)
        assert (await verified(house) or asked_at) > asked_at


@virtual_time
async def test_while_the_journal_is_away_it_waits_and_is_written_once(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        count = len(await named(house))
        await house.lose_audit()
        await passes(EVERY_S + GATHER_S)
        await house.open_audit()
        await passes(3 * GATHER_S)
        (record,) = (await named(house))[count:]
        assert set(named_in(record.event) or ()) == set(NAMES)


@virtual_time
async def test_an_account_that_does_not_take_it_leaves_it_to_each_instrument(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        before = await own(house)
        house.post.before[(FX, "in_step")] = for_ever
        await passes(2 * EVERY_S + 60)
        assert await own(house) > before
        assert len((await house.instrument().health()).report.discrepancies) == 0  # type: ignore[union-attr]  # it has looked


@virtual_time
async def test_after_a_restart_a_book_was_in_step_when_its_account_last_named_it(tmp_path: Path) -> None:
    """Else a broker that is away for a minute then would make it unverified since yesterday."""
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        await passes(8 * EVERY_S)
        proven = await verified(house)
        house.broker.failing = unreachable()
        await house.replace_instrument()
        await house.instrument().start()
        await passes(QUICK.max_age.total_seconds() - EVERY_S - 60)
        report = (await house.instrument().health()).report
        assert report is not None
        assert report.discrepancies == (), "it was named within max_age"
        await passes(EVERY_S + 120)
        events = await house.events()
        assert events[-1].payload["type"] == "STALE_DATA"
        assert events[-1].payload["book_value"] == to_iso(proven or house.clock())


@virtual_time
async def test_a_clock_that_was_set_ends_what_was_proven_by_the_one_before(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        before = house.clock()
        house.clock.wrong_by = -timedelta(hours=3)
        await passes(EVERY_S + GATHER_S + 5)
        kinds = await house.kinds()
        stepped = len(kinds) - kinds[::-1].index(E.CLOCK_STEPPED)
        assert E.RECONCILED in kinds[stepped:], "it is found in step anew, and says so itself"
        assert (await verified(house) or before) <= house.clock()
        await house.replace_instrument()
        await house.instrument().start()
        await passes(5)
        assert (await house.kinds()).count(E.CLOCK_STEPPED) == kinds.count(E.CLOCK_STEPPED)


@virtual_time
async def test_a_clock_that_was_set_back_while_nobody_lived_is_seen_by_what_the_account_named(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        await passes(12 * EVERY_S)
        house.clock.wrong_by = -timedelta(minutes=30)  # after what the instrument itself wrote last
        await house.replace_account()
        await house.replace_instrument()
        await house.instrument().start()
        await passes(5)
        assert E.CLOCK_STEPPED in await house.kinds()


@virtual_time
async def test_each_writes_its_own_once_a_day_and_the_whole_book_once_a_week(tmp_path: Path) -> None:
    """So that its place in the broker's fills is no older, and what is older can be archived."""
    async with a_house(tmp_path, ("EURUSD",), interval_s=3600.0) as house:
        house.broker.hold(5)
        await house.start()
        await passes(CHECKPOINT_AT_LEAST_EVERY.total_seconds() + 2 * 86_400)
        kinds = await house.kinds()
        assert 8 <= kinds.count(E.RECONCILED) <= 10
        assert kinds.count(E.CHECKPOINT) == 1


@virtual_time
async def test_with_kept_slices_what_was_only_named_is_nothing_to_decide_again(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES, keep_slices=True) as house:
        await quiet(house)
        before = house.post.sent.count((AUDIT, "keep_pass"))
        await passes(6 * EVERY_S)
        assert house.post.sent.count((AUDIT, "keep_pass")) == before
        assert await own(house) == 1


# What is read of it


@contextmanager
def opened(house: House) -> Iterator[Journal]:
    journal = Journal.open(house.url, read_only=True)
    try:
        yield journal
    finally:
        journal.close()


@virtual_time
async def test_a_query_for_an_instrument_finds_what_names_it_in_the_order_of_the_journal(tmp_path: Path) -> None:
    async with a_house(tmp_path, (*NAMES, 'X"Y')) as house:
        await quiet(house)
        await passes(2 * EVERY_S)
        with opened(house) as journal:
            every = list(journal.records())
            for asked in (
                {"instrument": "EURUSD"},
                {"instrument": "AUD/USD", "account": FX},
                {"instrument": 'X"Y'},
                {"instrument": "EUR"},
                {"instrument": "EURUSD", "account": "cfd"},
                {"instrument": "GBPUSD", "types": (E.RECONCILED,)},
                {"instrument": "GBPUSD", "types": (E.POSITION_SYNCED,)},
                {"stream": f"{FX}/EURUSD", "instrument": "EURUSD"},
            ):
                wanted = [one.seq for one in every if meets(asked, one)]  # type: ignore[arg-type]  # each is a filter
                chosen: dict[str, Any] = asked
                assert [one.seq for one in journal.records(**chosen)] == wanted, asked
                newest = [one.seq for one in journal.records(**chosen, order="newest", limit=3)]
                assert newest == wanted[::-1][:3], asked
            found = [one.stream for one in journal.records(instrument="AUD/USD", types=(E.RECONCILED,))]
            assert set(found) == {FX, f"{FX}/AUD/USD"}
            assert list(journal.records(instrument="EUR")) == []


@virtual_time
async def test_the_book_at_a_moment_was_proven_by_the_last_of_either_kind_before_it(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        await passes(4 * EVERY_S)
        with opened(house) as journal:
            of_it = list(journal.records(account=FX, instrument="EURUSD", types=(E.RECONCILED,)))
            times = [one.at for record in of_it for one in proofs(record) if one.stream == f"{FX}/EURUSD"]
            past = Past([journal], FX, "EURUSD")
            for earlier, later in pairwise(times):
                for moment in (earlier + timedelta(seconds=1), later - timedelta(seconds=1)):
                    assert past.at(moment).verified_at == earlier
            then = past.at(times[-1])
            assert then.statements[0].subject == "everything"
            assert then.statements[0].seq == of_it[-1].seq
            beside = past.around(times[0], house.clock())
            assert {one.seq for one in beside if one.event.type is E.RECONCILED} == {one.seq for one in of_it[1:]}


@virtual_time
async def test_a_report_counts_both_kinds_and_words_name_who_is_in_it(tmp_path: Path) -> None:
    async with a_house(tmp_path, (*NAMES, "USDJPY")) as house:
        await quiet(house)
        begin, count = house.clock(), len(await named(house))
        await passes(6 * EVERY_S)
        report = Report(begin, house.clock())
        for record in await house.audit.records(limit=10_000):
            report.take(record)
        rows = {row["instrument"]: row for row in report.document()["instruments"]}
        assert {name: row["proofs"] for name, row in rows.items()} == dict.fromkeys((*NAMES, "USDJPY"), 6)
        assert all(row["not_verified_s"] == 0 for row in rows.values())
        record = (await named(house))[count]
        assert describe(record.event).startswith("in step: AUD/USD, EURUSD, GBPUSD and 1 more; positions COMPLETE")
        assert summarize(record) is None, "it is no happening of the live lines"


@virtual_time
async def test_a_drawing_has_what_the_broker_reported_when_the_account_named_the_book(tmp_path: Path) -> None:
    async with a_house(tmp_path, NAMES) as house:
        await quiet(house)
        with opened(house) as journal:
            of_it = list(journal.records(account=FX, instrument="EURUSD"))
            count = sum(one.event.type is E.RECONCILED for one in of_it)
            (line,) = lines(replay(FX, "EURUSD", ()), of_it)
            assert len([one for one in line.reported if one[1] == 5]) >= count
            assert line.reported[-1][2] == of_it[-1].seq
            # Where positions are not compared, nobody reported them.
            silent = [_without_positions(one) if named_in(one.event) is not None else one for one in of_it]
            (line,) = lines(replay(FX, "EURUSD", ()), silent)
            assert line.reported[-1][2] < of_it[-1].seq


def _without_positions(record: Record) -> Record:
    payload = {**record.event.payload, "positions": "UNSUPPORTED"}
    return replace(record, event=replace(record.event, payload=payload))


LOOKS = st.lists(
    st.tuples(st.sampled_from("ABCDEFG"), st.integers(1, 9), st.integers(0, 3), st.integers(0, 5)), max_size=12
)


@given(LOOKS)
def test_each_is_named_once_at_its_version_by_a_look_that_was_its_own_and_no_later(looks: Any) -> None:
    began = datetime.fromisoformat("2026-01-05T00:00:00+00:00")
    reported: dict[str, InStep] = {}
    for name, version, look, late in looks:
        asked = began + timedelta(seconds=10 * look, milliseconds=100 * late)
        payload: dict[str, Json] = {
            "as_of": to_iso(began + timedelta(seconds=10 * look)),
            "requested_at": to_iso(asked),
            "positions": "COMPLETE",
            "orders": "COMPLETE",
            "fills": "COMPLETE",
            "fills_cursor": look,
            "legs": 1,
        }
        reported[name] = InStep(name, version, payload)
    made = gathered(reported.values())
    found: dict[str, tuple[int, Any]] = {}
    for one in made:
        of_it: Any = one["instruments"]
        assert not found.keys() & of_it.keys()
        found |= {name: (version, one) for name, version in of_it.items()}
    assert {name: version for name, (version, _) in found.items()} == {
        name: one.version for name, one in reported.items()
    }
    for name, (_, by) in found.items():
        assert by["as_of"] == reported[name].payload["as_of"]
        assert by["fills_cursor"] == reported[name].payload["fills_cursor"]
        assert by["requested_at"] <= reported[name].payload["requested_at"]
    assert len(made) == len({one.payload["as_of"] for one in reported.values()})
