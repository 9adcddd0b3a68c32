"""What deltalake was measured to do where one would guess otherwise, and what our code rests on: a version of the
library that does otherwise is noticed here."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, SchemaMismatchError

from actors.delta.book_spec import BookTableSpec, open_book_table
from actors.delta.once import Place
from actors.delta.positions import PositionUpdate
from actors.delta.sink import position_table, rows_to_arrow
from tests.unit.builders import at

WIDE = pa.decimal128(38, 18)


def amounts(*values: str, kind: pa.DataType = WIDE) -> pa.Table:
    return pa.table({"q": pa.array([Decimal(value) for value in values], kind)})


def marked(version: int, app: str = "app") -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(app, version)])


def test_a_repeated_or_an_older_identifier_is_recorded_and_refused_by_nobody(tmp_path: Path) -> None:
    """So the check is ours."""
    for version in (5, 5, 3):
        write_deltalake(str(tmp_path), amounts("1"), mode="append", commit_properties=marked(version))
    table = DeltaTable(str(tmp_path))
    assert table.transaction_version("app") == 3
    assert table.to_pyarrow_table().num_rows == 3


def test_of_two_that_stand_on_one_version_the_second_under_the_same_name_is_refused(tmp_path: Path) -> None:
    """What our check against a second writer rests on; under another name the second append goes through."""
    write_deltalake(str(tmp_path), amounts("1"))
    first, second, third = (DeltaTable(str(tmp_path)) for _ in range(3))
    write_deltalake(first, amounts("2"), mode="append", commit_properties=marked(1))
    with pytest.raises(CommitFailedError):
        write_deltalake(second, amounts("2"), mode="append", commit_properties=marked(1))
    write_deltalake(third, amounts("3"), mode="append", commit_properties=marked(1, app="other"))
    assert sorted(DeltaTable(str(tmp_path)).to_pyarrow_table().column("q").to_pylist()) == [1, 2, 3]


def test_an_identifier_outlives_compaction_and_a_checkpoint_of_the_log(tmp_path: Path) -> None:
    for version in (1, 2):
        write_deltalake(str(tmp_path), amounts("1"), mode="append", commit_properties=marked(version))
    table = DeltaTable(str(tmp_path))
    table.optimize.compact()
    table.create_checkpoint()
    assert DeltaTable(str(tmp_path)).transaction_version("app") == 2


def test_equality_on_a_wide_decimal_loses_rows_by_statistics_and_not_without_them(tmp_path: Path) -> None:
    wanted = ds.field("q") == pa.scalar(Decimal("1234.5"), WIDE)
    write_deltalake(str(tmp_path / "with"), amounts("1234.5"))
    assert DeltaTable(str(tmp_path / "with")).to_pyarrow_dataset().to_table(filter=wanted).num_rows == 0
    without = {"delta.dataSkippingStatsColumns": "seq"}
    schema = pa.schema([pa.field("seq", pa.int64()), pa.field("q", WIDE)])
    DeltaTable.create(str(tmp_path / "without"), schema, configuration=without)
    rows = amounts("1234.5").add_column(0, "seq", pa.array([1], pa.int64()))
    write_deltalake(str(tmp_path / "without"), rows, mode="append")
    assert DeltaTable(str(tmp_path / "without")).to_pyarrow_dataset().to_table(filter=wanted).num_rows == 1


LOST = ("1234.5", "4001.3", "98765.4321", "5")
"""The first is kept in the statistics as 1234.4999999999998; the last is kept right."""


def test_polars_loses_a_wide_decimal_by_statistics_and_neither_our_book_nor_our_sinks_table_does(
    tmp_path: Path,
) -> None:
    """Of each value: polars finds it in a table of somebody else's or not, a book says it, and polars finds it in the
    table that our sink writes."""
    found = {}
    for place, value in enumerate(LOST):
        number, theirs, ours = Decimal(value), str(tmp_path / f"theirs{place}"), str(tmp_path / f"ours{place}")
        wanted = pl.col("quantity") == pl.lit(number, pl.Decimal(38, 18))
        rows = {"contract": ["A"], "quantity": pa.array([number], WIDE), "at": [at(1)]}
        write_deltalake(theirs, pa.table(rows))
        found[value] = pl.scan_delta(theirs).filter(wanted).collect().height
        book = open_book_table(BookTableSpec("ib", theirs, key="contract", quantity="quantity", time="at"))
        assert [row.quantity for row in book.read(at(2)).claims("A", None).rows] == [number]
        update = PositionUpdate(1, "acc", "A", "net", number, number, at(1), "ORDER_FILLED", "1" * 64)
        position_table(ours).append(rows_to_arrow([update]), 0, Place(1, "1" * 64))
        assert pl.scan_delta(ours).filter(wanted).collect().height == 1
    assert found["1234.5"] == 0
    assert found["5"] == 1


@pytest.mark.parametrize("change", ["update", "delete"])
def test_a_change_by_equality_on_a_wide_decimal_hits_no_row_and_corrections_are_rows_of_their_own(
    tmp_path: Path, change: str
) -> None:
    write_deltalake(str(tmp_path), amounts("1234.5"))
    table, wanted = DeltaTable(str(tmp_path)), "q = arrow_cast('1234.5', 'Decimal128(38, 18)')"
    if change == "delete":
        table.delete(wanted)
    else:
        table.update(predicate=wanted, updates={"q": "arrow_cast('7', 'Decimal128(38, 18)')"})
    assert DeltaTable(str(tmp_path)).to_pyarrow_table().column("q").to_pylist() == [Decimal("1234.5")]


def test_a_wider_decimal_into_a_narrower_column_is_refused_whatever_the_value(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), amounts("1", kind=pa.decimal128(10, 4)))
    with pytest.raises(SchemaMismatchError):
        write_deltalake(str(tmp_path), amounts("1"), mode="append")


def test_an_empty_partition_is_read_back_as_null_and_a_slash_as_it_was(tmp_path: Path) -> None:
    rows = pa.table({"symbol": ["", "EUR/USD"], "n": [1, 2]})
    write_deltalake(str(tmp_path), rows, partition_by=["symbol"])
    found = {row["n"]: row["symbol"] for row in DeltaTable(str(tmp_path)).to_pyarrow_table().to_pylist()}
    assert found == {1: None, 2: "EUR/USD"}


def test_a_restored_table_keeps_the_identifier_of_the_rows_that_it_lost(tmp_path: Path) -> None:
    """So the number of rows is checked too."""
    for version in (1, 2, 3):
        write_deltalake(str(tmp_path), amounts(str(version)), mode="append", commit_properties=marked(version))
    DeltaTable(str(tmp_path)).restore(1)
    table = DeltaTable(str(tmp_path))
    assert table.transaction_version("app") == 3
    assert table.count() == 2


def test_a_table_that_only_grows_refuses_a_delete_and_takes_compaction(tmp_path: Path) -> None:
    DeltaTable.create(str(tmp_path), pa.schema([pa.field("q", WIDE)]), configuration={"delta.appendOnly": "true"})
    for value in ("1", "2"):
        write_deltalake(str(tmp_path), amounts(value), mode="append")
    table = DeltaTable(str(tmp_path))
    with pytest.raises(Exception, match=r"(?i)append"):
        table.delete()
    table.optimize.compact()
    assert len(DeltaTable(str(tmp_path)).file_uris()) == 1
