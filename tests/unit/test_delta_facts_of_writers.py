"""What deltalake does where writers meet, and with times, and that our own code rests on what it does and not on a
guess."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from actors.delta.book_spec import BookTableSpec, open_book_table
from actors.delta.handle import TableHandle
from actors.delta.once import OnceTable, OvertakenError, Place
from actors.reconciliation.reconciliation_pass import ClaimCorrection

WIDE = pa.decimal128(38, 18)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SCHEMA = pa.schema([pa.field("n", pa.int64())])


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def held(uri: Path) -> list[int]:
    return sorted(DeltaTable(str(uri)).to_pyarrow_table().column("n").to_pylist())


def positions(*rows: tuple[str, int, datetime]) -> pa.Table:
    return pa.table(
        {
            "contract": pa.array([row[0] for row in rows]),
            "qty": pa.array([Decimal(row[1]) for row in rows], WIDE),
            "at": pa.array([row[2] for row in rows], pa.timestamp("us", "UTC")),
            "source": pa.array(["engine"] * len(rows)),
            "discrepancy_id": pa.nulls(len(rows), pa.string()),
        }
    )


def book(uri: Path, **more: bool) -> BookTableSpec:
    return BookTableSpec("ib", str(uri), key="contract", quantity="qty", time="at", **more)  # type: ignore[arg-type]  # one flag


# Writers that meet


OTHERS: dict[str, Callable[[str], object]] = {
    "append": lambda uri: write_deltalake(uri, numbers(3), mode="append"),
    "compact": lambda uri: DeltaTable(uri).optimize.compact(),
    "delete": lambda uri: DeltaTable(uri).delete("n = 1"),
}


@pytest.mark.parametrize(
    ("others", "allowed"),
    [("append", True), ("compact", True), ("delete", False), ("append delete", False), ("compact delete", True)],
)
def test_a_handle_may_append_behind_an_append_or_compaction_and_not_behind_a_delete_that_it_can_see(
    tmp_path: Path, others: str, allowed: bool
) -> None:
    """What was deleted out of a compacted file is not among the files that the handle knows."""
    uri = str(tmp_path)
    for value in (1, 2):
        write_deltalake(uri, numbers(value), mode="append")
    behind = DeltaTable(uri)
    for other in others.split():
        OTHERS[other](uri)
    with contextlib.nullcontext() if allowed else pytest.raises(CommitFailedError):
        write_deltalake(behind, numbers(6), mode="append")
    assert (6 in held(tmp_path)) is allowed


def test_a_correction_goes_in_once_though_another_deleted_compacted_and_wrote_since_it_was_read(tmp_path: Path) -> None:
    """Which it would not where a handle that is behind were taken for a current one."""
    write_deltalake(str(tmp_path), positions(("A", 5, NOON), ("B", 1, NOON)))
    table = open_book_table(book(tmp_path, writable=True))
    table.read(NOON)
    DeltaTable(str(tmp_path)).delete("contract = 'B'")
    write_deltalake(str(tmp_path), positions(("C", 1, NOON)), mode="append")
    DeltaTable(str(tmp_path)).optimize.compact()
    wanted = [ClaimCorrection("d1", "net", Decimal(7), None)]
    assert [table.correct("A", None, wanted, NOON), table.correct("A", None, wanted, NOON)] == [1, 0]
    assert table.read(NOON).claims("A", None).rows[0].quantity == 7


def test_a_sink_writes_behind_an_append_and_a_compaction_of_others(tmp_path: Path) -> None:
    one = OnceTable(str(tmp_path), "one", SCHEMA)
    one.append(numbers(1), 0, Place(1, "1" * 64))
    with pytest.raises(DeltaError):
        DeltaTable(str(tmp_path)).delete("n = 1")  # it only grows
    DeltaTable(str(tmp_path)).optimize.compact()
    one.append(numbers(2), 1, Place(2, "2" * 64))
    with pytest.raises(OvertakenError):
        OnceTable(str(tmp_path), "one", SCHEMA).append(numbers(2), 1, Place(2, "2" * 64))
    assert held(tmp_path) == [1, 2]


def test_a_merge_of_a_key_twice_is_refused_and_nothing_of_ours_merges(tmp_path: Path) -> None:
    """Rows are appended, and of a key the newest counts, however often it comes in one batch."""
    write_deltalake(str(tmp_path / "m"), numbers(1))
    merge = DeltaTable(str(tmp_path / "m")).merge(numbers(1, 1), "s.n = t.n", source_alias="s", target_alias="t")
    with pytest.raises(DeltaError):
        merge.when_matched_update_all().execute()
    write_deltalake(str(tmp_path / "t"), positions(("A", 5, NOON), ("A", 6, NOON)))
    assert open_book_table(book(tmp_path / "t")).read(NOON).claims("A", None).rows[0].quantity == 6


def test_a_constraint_on_a_value_refuses_null_too_and_ours_has_none(tmp_path: Path) -> None:
    """A number that its column cannot hold is null there, so no constraint may stand on it."""
    write_deltalake(str(tmp_path), numbers(1))
    DeltaTable(str(tmp_path)).alter.add_constraint({"c": "n <> 0"})
    with pytest.raises(DeltaError):
        write_deltalake(str(tmp_path), pa.table({"n": pa.array([None], pa.int64())}), mode="append")


def test_a_handle_goes_on_showing_a_table_that_was_deleted_and_ours_does_not(tmp_path: Path) -> None:
    """With as many versions as before, the old files and the new ones are even mixed."""
    uri = tmp_path / "t"
    for value in (1, 2):
        write_deltalake(str(uri), numbers(value), mode="append")
    plain, handle = DeltaTable(str(uri)), TableHandle(str(uri), None)
    handle.newest()
    shutil.rmtree(uri)
    for value in (7, 8, 9):
        write_deltalake(str(uri), numbers(value), mode="append")
    plain.update_incremental()
    assert (plain.version(), plain.count()) == (2, 3)
    assert len([file for file in plain.file_uris() if not os.path.exists(file)]) == 2
    assert sorted(handle.newest().to_pyarrow_table().column("n").to_pylist()) == [7, 8, 9]


def test_compaction_gives_the_rows_of_files_another_order(tmp_path: Path) -> None:
    """So the order in which rows of one time came is believed only while nothing was compacted."""
    for value in (1, 2, 3):
        write_deltalake(str(tmp_path), numbers(value), mode="append")
    DeltaTable(str(tmp_path)).optimize.compact()
    assert DeltaTable(str(tmp_path)).to_pyarrow_table().column("n").to_pylist() == [3, 2, 1]


# Statistics


def test_datafusion_loses_a_wide_decimal_too_and_our_reading_does_not(tmp_path: Path) -> None:
    write_deltalake(
        str(tmp_path), pa.table({"contract": ["A"], "qty": pa.array([Decimal("1234.5")], WIDE), "at": [NOON]})
    )
    query = QueryBuilder().register("t", DeltaTable(str(tmp_path)))
    found = pa.table(query.execute("select * from t where qty = arrow_cast('1234.5', 'Decimal128(38, 18)')").read_all())
    assert found.num_rows == 0
    assert open_book_table(book(tmp_path)).read(NOON).claims("A", None).rows[0].quantity == Decimal("1234.5")


# Times


def test_a_naive_time_makes_another_protocol_and_is_read_as_utc(tmp_path: Path) -> None:
    naive = pa.array([NOON.replace(tzinfo=None)], pa.timestamp("us"))
    write_deltalake(str(tmp_path), positions(("A", 5, NOON)).set_column(2, "at", naive))
    protocol = DeltaTable(str(tmp_path)).protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (3, 7)
    table = open_book_table(book(tmp_path, writable=True))
    assert table.read(NOON).claims("A", None).rows[0].at == NOON
    table.correct("A", None, [ClaimCorrection("d1", "net", Decimal(7), None)], NOON + timedelta(seconds=1))
    assert table.read(NOON).claims("A", None).rows[0].at == NOON + timedelta(seconds=1)


def test_a_naive_time_into_a_column_of_utc_is_refused_and_one_of_another_zone_is_the_same_instant(
    tmp_path: Path,
) -> None:
    write_deltalake(str(tmp_path), positions(("A", 5, NOON)))
    later = NOON + timedelta(seconds=5)
    naive = positions(("A", 6, later)).set_column(2, "at", pa.array([later.replace(tzinfo=None)], pa.timestamp("us")))
    with pytest.raises(DeltaError):
        write_deltalake(str(tmp_path), naive, mode="append")
    zone = "Asia/Kolkata"
    there = pa.array([later.astimezone(ZoneInfo(zone))], pa.timestamp("us", zone))
    write_deltalake(str(tmp_path), positions(("A", 7, later)).set_column(2, "at", there), mode="append")
    [claim] = open_book_table(book(tmp_path)).read(NOON).claims("A", None).rows
    assert (claim.at, claim.quantity) == (later, Decimal(7))


def test_nanoseconds_are_cut_and_rows_within_one_microsecond_are_of_one_time(tmp_path: Path) -> None:
    base = 1_767_614_400_000_000_000
    at = pa.array([base + 999, base + 1], pa.timestamp("ns", "UTC"))
    write_deltalake(str(tmp_path), positions(("A", 5, NOON), ("A", 6, NOON)).set_column(2, "at", at))
    [claim] = open_book_table(book(tmp_path)).read(NOON).claims("A", None).rows
    assert (claim.at, claim.quantity) == (NOON, Decimal(6)), "the one that came last"
