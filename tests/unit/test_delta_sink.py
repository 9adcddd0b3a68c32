"""The sink: every position update of a journal in a Delta table, once, whoever writes and whatever breaks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from actors.book.checkpoint import checkpoint_event, replay
from actors.book.payloads import position_to
from actors.delta.once import OvertakenError, Place
from actors.delta.positions import cell
from actors.delta.sink import Sink, position_table, rows_to_arrow
from actors.events import Event, EventType
from actors.journal.store import Append, Journal
from brokers.clocks import broker_time
from brokers.errors import Refused, Unreachable
from tests.unit.audit_cases import a_happening, day
from tests.unit.builders import at, dec, records


class World:
    """A journal with its writer, and a table beside it."""

    def __init__(self, directory: Path) -> None:
        self.url = f"sqlite:///{directory}/journal.db"
        self.uri = str(directory / "positions")
        self.journal = Journal.open(self.url, exclusive=True)
        self.clock = at(0)
        self._open: list[Journal] = []

    def now(self) -> datetime:
        return self.clock

    def append(self, *events: Event, stream: str) -> None:
        self.journal.append([Append(stream, self.journal.load(stream).version, events)])

    def hold(self, stream: str, *quantities: object, leg: str = "net", price: object = "1.1") -> None:
        """Positions recorded one after the other."""
        for quantity in quantities:
            number = self.journal.load(stream).version
            payload = position_to(leg, dec(quantity), dec(price), broker_time(at(number)), None)
            self.append(a_happening(EventType.POSITION_RECORDED, payload, number, stream), stream=stream)

    def sink(self, batch_records: int = 1_000) -> Sink:
        reading = Journal.open(self.url, read_only=True)
        self._open.append(reading)
        return Sink(reading, position_table(self.uri), self.now, batch_records)

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = DeltaTable(self.uri).to_pyarrow_table().to_pylist()
        return sorted(found, key=lambda row: (row["seq"], row["leg"]))

    def close(self) -> None:
        for one in (*self._open, self.journal):
            one.close()


@pytest.fixture(name="world")
def _world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def last_of(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], Decimal]:
    return {(row["account"], row["instrument"], row["leg"]): row["quantity"] for row in rows}


def test_each_update_is_one_row_and_the_last_of_a_leg_is_the_book(world: World) -> None:
    """FEATURES 27"""
    world.append(*day(), stream="acc/EURUSD")
    world.hold("other/EUR/USD", "5", "0")
    step = world.sink().step()
    rows = world.rows()
    book = replay("acc", "EURUSD", records(day()))
    assert (step.rows, step.more) == (len(rows), False)
    assert last_of(rows) == {("acc", "EURUSD", "net"): book.legs["net"].quantity, ("other", "EUR/USD", "net"): 0}
    assert [row["quantity"] for row in rows if row["account"] == "acc"] == [80, 100, 130]
    assert [row["type"] for row in rows][:2] == ["POSITION_SYNCED", "FILL_RECORDED"]
    assert DeltaTable(world.uri).metadata().partition_columns == ["account", "symbol"]


def test_a_second_step_writes_what_came_since_and_an_idle_one_makes_no_version(world: World) -> None:
    world.hold("acc/X", "1", "2")
    sink = world.sink()
    assert sink.step().rows == 2
    version = DeltaTable(world.uri).version()
    assert sink.step().rows == 0
    assert DeltaTable(world.uri).version() == version
    world.append(a_happening(EventType.CONNECTION_LOST, {"reason": "x"}, 900), stream="acc")
    assert sink.step().records == 1
    world.hold("acc/X", "3")
    assert sink.step().rows == 1
    assert [row["quantity"] for row in world.rows()] == [1, 2, 3]


@pytest.mark.parametrize("batch_records", [1, 2, 3, 7, 1_000])
def test_a_sink_that_was_away_catches_up_whatever_the_size_of_its_batches(world: World, batch_records: int) -> None:
    events = day()
    events.append(checkpoint_event(replay("acc", "EURUSD", records(events)), at(600)))
    world.append(*events, stream="acc/EURUSD")
    while world.sink(batch_records).step().more:
        pass  # a new sink each time: the books are folded again from where the last one ended
    world.hold("acc/EURUSD", "7")
    while world.sink(batch_records).step().more:
        pass
    assert [row["quantity"] for row in world.rows()] == [80, 100, 130, 7]


def test_two_sinks_at_once_write_each_row_once(world: World) -> None:
    """A transaction identifier written twice is refused by nobody but us."""
    first, second = world.sink(), world.sink()
    for number in range(1, 7):
        world.hold("acc/X", number)
        (first if number % 2 else second).step()
        (second if number % 2 else first).step()
    assert [row["quantity"] for row in world.rows()] == [1, 2, 3, 4, 5, 6]
    assert len({row["seq"] for row in world.rows()}) == 6


def test_an_append_that_continues_another_place_than_the_table_has_reached_writes_nothing(world: World) -> None:
    table, other = position_table(world.uri), position_table(world.uri)
    assert (table.reached().seq, other.reached().seq) == (0, 0)
    table.append(rows_to_arrow([]), 0, Place(5, "a" * 64))
    with pytest.raises(OvertakenError, match="seq 5"):
        other.append(rows_to_arrow([]), 0, Place(5, "a" * 64))
    with pytest.raises(OvertakenError):
        table.append(rows_to_arrow([]), 4, Place(9, "b" * 64))
    assert other.reached() == table.reached()
    assert other.reached().seq == 5


def test_a_table_of_another_journal_is_refused(world: World, tmp_path: Path) -> None:
    world.hold("acc/X", "1", "2", "3")
    world.sink().step()
    (tmp_path / "b").mkdir()
    other = World(tmp_path / "b")
    try:
        other.uri = world.uri
        other.hold("acc/Y", "9")
        with pytest.raises(Refused, match="ends before that"):
            other.sink().step()
        other.hold("acc/Y", "9", "8", "7")
        with pytest.raises(Refused, match="name a new one"):
            other.sink().step()
    finally:
        other.close()
    assert len(world.rows()) == 3


def test_a_table_with_other_columns_is_refused_with_their_names(world: World) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    write_deltalake(world.uri, pa.table({"seq": [1], "ticker": ["x"]}))
    with pytest.raises(Refused, match="no column account, average_price"):
        world.sink().step()


@pytest.mark.parametrize("running", [True, False], ids=["under a running sink", "before it starts"])
def test_a_table_that_was_restored_to_an_older_version_is_refused(world: World, *, running: bool) -> None:
    """It keeps the identifier of its newest version, so that what it lost would never be written again."""
    sink = world.sink()
    for number in (1, 2, 3):
        world.hold("acc/X", number)
        sink.step()
    DeltaTable(world.uri).restore(2)
    world.hold("acc/X", "4")
    with pytest.raises(Refused, match="2 rows, and 3 were written"):
        (sink if running else world.sink()).step()
    assert DeltaTable(world.uri).to_pyarrow_table().num_rows == 2


def test_symbols_with_every_sign_survive_partitioning(world: World) -> None:
    symbols = ["EUR/USD", "a b", "50%", "%2F", "ü", "x=y", "BRK.B", "a:b", "__HIVE_DEFAULT_PARTITION__"]
    for symbol in symbols:
        world.hold(f"acc/{symbol}", "1")
    world.hold("acc/", "1")  # the format reads an empty partition back as null
    world.sink().step()
    rows = world.rows()
    assert [row["instrument"] for row in rows] == [*symbols, ""]
    assert [row["symbol"] for row in rows] == [*symbols, None]


def test_a_store_that_is_away_is_unreachable_and_caught_up_with_later(world: World, tmp_path: Path) -> None:
    world.hold("acc/X", "1", "2")
    world.uri = str(tmp_path / "file" / "positions")
    (tmp_path / "file").write_text("in the way")
    sink = world.sink()
    with pytest.raises(Unreachable, match="tried again"):
        sink.step()
    (tmp_path / "file").unlink()
    (tmp_path / "file").mkdir()
    assert sink.step().rows == 2


def test_upkeep_keeps_every_row_and_every_file_that_a_reader_of_seven_days_may_need(world: World) -> None:
    sink = world.sink()
    sink.keep_up()
    for number in range(1, 6):
        world.hold("acc/X", number)
        sink.step()
    before = set(DeltaTable(world.uri).file_uris())
    world.clock = at(0) + timedelta(hours=25)
    sink.keep_up()
    assert len(DeltaTable(world.uri).file_uris()) == 1
    assert all(Path(name.removeprefix("file://")).exists() for name in before)
    assert [row["quantity"] for row in world.rows()] == [1, 2, 3, 4, 5]
    world.hold("acc/X", "6")
    assert sink.step().rows == 1
    old = DeltaTable(world.uri, version=3)
    assert old.to_pyarrow_table().num_rows == 3


# Numbers


def test_a_number_is_found_by_its_value_in_the_table(world: World) -> None:
    """With statistics of decimal(38, 18) this value is lost."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    lost = ["4513.7", "1234.5", "98765.4321"]
    world.hold("acc/X", *lost)
    world.sink().step()
    table = DeltaTable(world.uri).to_pyarrow_dataset()
    for value in lost:
        wanted = ds.field("quantity") == pa.scalar(Decimal(value), pa.decimal128(38, 18))
        assert table.to_table(filter=wanted).num_rows == 1
    names = pa.table(DeltaTable(world.uri).get_add_actions(flatten=True)).column_names
    assert not [name for name in names if "quantity" in name or "price" in name]


def test_what_a_column_cannot_hold_is_kept_as_its_text(world: World) -> None:
    long, large = "191.23333333333333333333333", "123456789012345678901234567"
    world.hold("acc/X", "1", price=long)
    world.hold("acc/Y", large)
    world.sink().step()
    rows = world.rows()
    assert rows[0]["average_price"] == Decimal("191.233333333333333333")
    assert rows[0]["exact"] == f'{{"average_price":"{long}"}}'
    assert (rows[1]["quantity"], rows[1]["exact"]) == (None, f'{{"quantity":"{large}"}}')


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_a_cell_is_the_number_or_says_what_the_number_is(number: Decimal) -> None:
    made = cell(number)
    assert (made.value == number) if made.exact is None else Decimal(made.exact) == number
    assert made.value is None or abs(made.value - number) <= Decimal("5e-19")
