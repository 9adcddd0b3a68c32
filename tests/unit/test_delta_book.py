"""A book in a Delta table that somebody else keeps: what is read of it, and what of it is not believed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake

from actors.delta import book_table
from actors.delta.book_rows import DeltaBook
from actors.delta.book_spec import BookTableSpec, open_book_table
from brokers.errors import BrokerError, Malformed, Refused
from brokers.model import Claim, Claims, Completeness, LegScheme

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
WIDE = pa.decimal128(38, 18)
Row = tuple[str | None, object, float | None]


def when(seconds: float | None) -> datetime | None:
    return None if seconds is None else NOW + timedelta(seconds=seconds)


def rows(*given: Row, kind: pa.DataType = WIDE, tz: str | None = "UTC", **more: list[Any]) -> pa.Table:
    """Rows of a contract, a quantity, and how many seconds from now they are of."""
    times = [when(seconds) for _, _, seconds in given]
    if tz is None:
        times = [None if at is None else at.replace(tzinfo=None) for at in times]
    numbers = [one[1] for one in given]
    if pa.types.is_decimal(kind):
        numbers = [None if one is None else Decimal(str(one)) for one in numbers]
    return pa.table(
        {
            "contract": pa.array([one[0] for one in given], pa.string()),
            "qty": pa.array(numbers, kind),
            "price": pa.array([Decimal("1.5")] * len(given), WIDE),
            "at": pa.array(times, pa.timestamp("us", tz)),
            **more,
        }
    )


class Desk:
    """A table, and the book that is read of it."""

    def __init__(self, directory: Path, **spec: Any) -> None:
        self.uri = str(directory / "t")
        given = {"key": "contract", "quantity": "qty", "time": "at", "average_price": "price"} | spec
        self.spec = BookTableSpec("ib", self.uri, **given)
        self.table = open_book_table(self.spec)

    def write(self, *given: Row, **more: Any) -> None:
        write_deltalake(self.uri, rows(*given, **more), mode="append")

    def book(self, now: datetime = NOW) -> DeltaBook:
        return self.table.read(now)

    def claims(self, contract: str = "A", identity: str | None = None) -> Claims:
        return self.book().claims(contract, identity)

    def held(self, contract: str = "A") -> list[tuple[str, str]]:
        found = self.claims(contract)
        assert found.completeness is Completeness.COMPLETE, found.doubts
        return [(row.leg, str(row.quantity.normalize())) for row in found.rows]

    def doubt(self, contract: str = "A") -> str:
        found = self.claims(contract)
        assert found.doubts, found.rows
        assert found.completeness is not Completeness.COMPLETE
        return " ".join(one.text for one in found.doubts)

    def lose_files(self) -> None:
        for file in Path(self.uri).glob("*.parquet"):
            file.unlink()
        self.write(("B", 1, -1))

    def act(self, **more: Any) -> None:
        """Add a commit that changes what the table is, as another program would."""
        log = Path(self.uri) / "_delta_log"
        names = sorted(log.glob("*.json"))
        actions: list[dict[str, Any]] = [{"commitInfo": {"timestamp": int(time.time() * 1000), "operation": "OTHER"}}]
        if "protocol" in more:
            actions.append({"protocol": more["protocol"]})
        if "configuration" in more:
            lines = [json.loads(line) for name in names for line in name.read_text().splitlines()]
            meta = [line["metaData"] for line in lines if "metaData" in line][-1]
            meta["configuration"] |= more["configuration"]
            actions.append({"metaData": meta})
        (log / f"{len(names):020d}.json").write_text("\n".join(map(json.dumps, actions)) + "\n")


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# The newest row


def test_the_newest_row_of_a_contract_counts_whenever_it_was_written(desk: Desk) -> None:
    """FEATURES 27"""
    desk.write(("A", 5, -10), ("B", 7, -10))
    desk.write(("A", 3, -20))
    desk.write(("B", -2, -5))
    assert (desk.held("A"), desk.held("B"), desk.held("C")) == ([("net", "5")], [("net", "-2")], [])


@pytest.mark.parametrize("files", [1, 2, 3])
def test_however_many_files_are_read_at_a_time_the_newest_row_counts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    monkeypatch.setattr(book_table, "FILES_AT_ONCE", files)
    for quantity, seconds in ((5, -10), (6, -3), (7, -3), (8, -9), (9, -12)):
        desk.write(("A", quantity, seconds), ("B", quantity, -seconds - 100))
    assert desk.held() == [("net", "7")]
    assert desk.held("B") == [("net", "9")]


def test_of_rows_of_one_time_the_one_that_came_last_counts(desk: Desk) -> None:
    desk.write(("A", 5, -10), ("A", 6, -10))
    assert desk.held() == [("net", "6")]
    desk.write(("A", 7, -10))
    assert desk.held() == [("net", "7")]
    assert Desk(Path(desk.uri).parent).held() == [("net", "7")]


def test_rows_of_one_time_in_a_compacted_table_are_in_doubt_unless_a_column_orders_them(tmp_path: Path) -> None:
    """Compaction writes the rows of files in another order than they came in."""
    desk = Desk(tmp_path)
    for number in (5, 6):
        desk.write(("A", number, -10), n=pa.array([number]))
    desk.write(("B", 1, -10), n=pa.array([1]))
    DeltaTable(desk.uri).optimize.compact()
    assert "OPTIMIZE" in desk.doubt()
    assert "book.columns.order" in desk.doubt()
    assert desk.held("B") == [("net", "1")]
    assert Desk(tmp_path, order="n").held() == [("net", "6")]


def test_equal_rows_of_one_time_are_no_doubt_after_compaction(desk: Desk) -> None:
    for _ in range(3):
        desk.write(("A", 5, -10))
    DeltaTable(desk.uri).optimize.compact()
    assert desk.held() == [("net", "5")]


@pytest.mark.parametrize("symbol", ["EUR/USD", "A B", "50%", "ä=ö", "."])
def test_symbols_survive_partitioning(desk: Desk, symbol: str) -> None:
    write_deltalake(desk.uri, rows((symbol, 5, -1), ("other", 1, -1)), partition_by=["contract"])
    assert desk.held(symbol) == [("net", "5")]


def test_an_empty_symbol_as_a_partition_is_read_back_as_null_and_is_nobodys(desk: Desk) -> None:
    write_deltalake(desk.uri, rows(("", 5, -1), ("A", 1, -2)), partition_by=["contract"])
    assert "null in column contract" in desk.doubt("A")


def test_rows_of_others_are_left_out_by_the_texts_of_a_column(tmp_path: Path) -> None:
    desk = Desk(tmp_path, where={"account": ("DU1",), "sort": ("STK", "OPT")})
    more = {"account": pa.array(["DU1", "DU2", "DU1"]), "sort": pa.array(["STK", "STK", "FUT"])}
    desk.write(("A", 5, -10), ("A", 6, -5), ("A", 7, -1), **more)
    assert desk.held() == [("net", "5")]


def test_legs_are_those_of_a_column_or_of_the_side_where_an_account_has_sides(tmp_path: Path) -> None:
    named = Desk(tmp_path / "1", leg="ticket")
    named.write(("A", 5, -10), ("A", -6, -9), ticket=pa.array([17, 18]))
    assert named.held() == [("17", "5"), ("18", "-6")]
    sided = Desk(tmp_path / "2", legs=LegScheme.SIDED)
    sided.write(("A", 5, -10))
    assert sided.held() == [("long", "5"), ("short", "0")]
    sided.write(("A", -2, -9))
    assert sided.held() == [("long", "0"), ("short", "-2")]


def test_a_contract_is_known_by_its_lasting_id_whatever_it_is_called(tmp_path: Path) -> None:
    desk = Desk(tmp_path, key="con_id", by_identity=True)
    desk.write(("A", 5, -10), con_id=pa.array([265598]))
    assert desk.claims("AAPL", "265598").rows[0].quantity == 5
    assert desk.claims("265598").rows[0].quantity == 5
    assert "con_id" in desk.claims("AAPL").doubts[0].text
    assert desk.book().held({"265598": "AAPL"}) == {"AAPL": "net 5"}


# Only what is new is read


def test_only_files_that_came_since_are_read(desk: Desk) -> None:
    desk.write(("A", 5, -10))
    desk.book()
    first = next(Path(desk.uri).glob("*.parquet"))
    first.rename(first.with_suffix(".away"))  # whoever read it again would fail
    desk.write(("B", 6, -9))
    assert (desk.held("A"), desk.held("B")) == ([("net", "5")], [("net", "6")])


def test_a_deleted_row_is_no_longer_shown_and_the_one_before_it_is(desk: Desk) -> None:
    desk.write(("A", 5, -10))
    desk.write(("A", 6, -9))
    assert desk.held() == [("net", "6")]
    DeltaTable(desk.uri).delete("qty = 6")
    DeltaTable(desk.uri).delete("at > '2026-01-05T11:59:50.5Z'")
    assert desk.held() == [("net", "5")]


def test_a_table_that_takes_another_ones_place_is_read_from_its_beginning(desk: Desk) -> None:
    """deltalake's own update goes on showing the table that was deleted."""
    for number in range(3):
        desk.write(("A", number, -10))
    desk.book()
    for versions in (1, 6):
        shutil.rmtree(desk.uri)
        for number in range(versions):
            desk.write(("B", number + 1, -10 + number))
        assert (desk.held("A"), desk.held("B")) == ([], [("net", str(versions))])


def test_what_has_not_changed_is_the_same_answer_until_it_is_too_old(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_age_s=3600.0)
    now = datetime.now(UTC)
    desk.write(("A", 5, (now - NOW).total_seconds()))
    first = desk.book(now)
    assert desk.book(now + timedelta(seconds=10)) is first
    assert desk.book(now + timedelta(seconds=3700)).claims("A", None).doubts[0].stale
    assert desk.book(now + timedelta(seconds=20)).claims("A", None).rows
    desk.write(("B", 6, (now - NOW).total_seconds()))
    assert desk.book(now + timedelta(seconds=30)).held({}) == {"A": "net 5", "B": "net 6"}


# What is not believed


CHANGES: dict[str, tuple[Callable[[Desk], None], type[BrokerError], str]] = {
    "a column renamed": (
        lambda desk: write_deltalake(
            desk.uri, rows(("A", 5, -1)).rename_columns(["contract", "size", "price", "at"]),
            mode="overwrite", schema_mode="overwrite",
        ),
        Malformed, "no column qty",
    ),
    "a type changed to one that is a number too": (
        lambda desk: write_deltalake(
            desk.uri, rows(("A", 5.5, -1), kind=pa.float64()), mode="overwrite", schema_mode="overwrite"
        ),
        Malformed, "column qty was decimal",
    ),
    "a type changed to text": (
        lambda desk: write_deltalake(
            desk.uri, rows(("A", "5", -1), kind=pa.string()), mode="overwrite", schema_mode="overwrite"
        ),
        Malformed, "column qty",
    ),
    "deletion vectors": (
        lambda desk: desk.act(
            protocol={"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors", "x"],
                      "writerFeatures": ["deletionVectors", "x"]},
        ),
        Malformed, "protocol",
    ),
    "column mapping": (
        lambda desk: desk.act(
            protocol={"minReaderVersion": 2, "minWriterVersion": 5},
            configuration={"delta.columnMapping.mode": "name"},
        ),
        Malformed, "olumn mapping",
    ),
    "a protocol of tomorrow": (
        lambda desk: desk.act(protocol={"minReaderVersion": 9, "minWriterVersion": 9}), Malformed, "reader version 9",
    ),
    "the files are gone": (
        lambda desk: desk.lose_files(),
        Malformed, "vacuumed",
    ),
    "the table is gone": (lambda desk: shutil.rmtree(desk.uri), Refused, "no Delta table"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("warm", [False, True])
def test_a_table_that_cannot_be_read_right_is_an_error_with_what_to_do(desk: Desk, change: str, warm: bool) -> None:
    desk.write(("A", 5, -10))
    desk.write(("A", 6, -9))
    make, kind, words = CHANGES[change]
    if warm:
        assert desk.held() == [("net", "6")]
    make(desk)
    if not warm and change in ("a type changed to one that is a number too",):
        assert desk.claims().rows[0].quantity == Decimal("5.5")
        return
    if warm and change == "the files are gone":
        assert desk.held("B") == [("net", "1")]
        return
    with pytest.raises(kind, match=words) as caught:
        desk.book()
    assert caught.value.remedy


ROWS: dict[str, tuple[list[Row], str]] = {
    "a null key": ([("A", 5, -10), (None, 6, -5)], "null in column contract"),
    "a null key without a time": ([("A", 5, -10), (None, 6, None)], "null in column contract"),
    "a null time": ([("A", 5, -10), ("A", 6, None)], "null in column at"),
    "a null quantity in the newest row": ([("A", 5, -10), ("A", None, -5)], "null in column qty"),
    "a row from tomorrow": ([("A", 5, -10), ("A", 6, 86_400)], "from the future"),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_that_cannot_be_placed_is_a_doubt_and_never_flat(desk: Desk, case: str) -> None:
    given, words = ROWS[case]
    desk.write(*given)
    assert words in desk.doubt()


def test_a_null_key_older_than_what_is_known_of_a_contract_is_no_doubt_about_it(desk: Desk) -> None:
    desk.write(("A", 5, -10), (None, 6, -20))
    assert desk.held("A") == [("net", "5")]
    assert "null in column contract" in desk.doubt("B")


def test_a_time_beyond_all_time_is_from_the_future(desk: Desk) -> None:
    beyond = pa.array([2**62], pa.timestamp("us", "UTC"))
    write_deltalake(desk.uri, rows(("A", 5, -10)).set_column(3, "at", beyond))
    assert "from the future" in desk.doubt()


def test_a_file_that_is_not_what_it_was_is_an_error_and_never_flat(desk: Desk) -> None:
    desk.write(("A", 5, -10))
    next(Path(desk.uri).glob("*.parquet")).write_bytes(b"not parquet, however long it is")
    with pytest.raises(BrokerError):
        desk.book()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_a_doubt(desk: Desk, value: float) -> None:
    desk.write(("A", value, -10), kind=pa.float64())
    assert "column qty" in desk.doubt()


def test_a_table_is_stale_when_its_newest_row_or_version_is_older_than_it_may_be(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_age_s=60.0)
    desk.write(("A", 5, -61))
    assert "newest row" in desk.doubt()
    assert desk.claims().doubts[0].stale
    desk.write(("B", 5, -59))
    assert desk.held() == [("net", "5")]
    later = datetime.now(UTC) + timedelta(minutes=2)
    desk.write(("B", 5, (later - NOW).total_seconds()))
    assert "version" in desk.book(later).claims("A", None).doubts[0].text


def test_a_table_whose_only_row_is_of_no_contract_is_no_empty_one(tmp_path: Path) -> None:
    desk = Desk(tmp_path, max_age_s=60.0)
    desk.write((None, 5, -1))
    assert "null in column contract" in desk.doubt()


@pytest.mark.parametrize("lacking", ["source", "discrepancy_id"])
def test_a_writable_book_names_the_column_of_marks_that_it_lacks(tmp_path: Path, lacking: str) -> None:
    desk = Desk(tmp_path, writable=True)
    desk.write(("A", 1, -1), **{name: ["x"] for name in ("source", "discrepancy_id") if name != lacking})
    with pytest.raises(Malformed, match=f"no column {lacking}") as caught:
        desk.book()
    assert "writable: false" in caught.value.remedy


# Numbers


@pytest.mark.parametrize(
    ("kind", "value", "same", "others"),
    [
        (WIDE, "1234.5", ["1234.5"], ["1234.500000000000000001"]),
        (pa.decimal128(10, 2), "1.01", ["1.01", "1.014", "1.005"], ["1.02", "1.00", "1.0"]),
        (pa.float64(), 0.1 + 0.2, ["0.3"], ["0.30000000000001"]),
        (pa.float32(), 0.1, ["0.1"], ["0.10001"]),
        (pa.int64(), 5, ["5", "5.5"], ["4", "6", "6.5"]),
    ],
)
def test_a_number_is_compared_within_what_its_column_can_hold(
    desk: Desk, kind: pa.DataType, value: object, same: list[str], others: list[str]
) -> None:
    desk.write(("A", value, -1), kind=kind)
    claim = desk.claims().rows[0]
    assert [claim.states_quantity(Decimal(one)) for one in same] == [True] * len(same)
    assert [claim.states_quantity(Decimal(one)) for one in others] == [False] * len(others)


def test_no_value_of_a_wide_decimal_is_lost(desk: Desk) -> None:
    """A filter by file statistics finds none of these."""
    lost = ["4513.7", "1234.5", "98765.4321", "0.000000000000000001"]
    for place, value in enumerate(lost):
        desk.write((f"S{place}", value, -1))
    assert [desk.claims(f"S{place}").rows[0].quantity for place in range(4)] == [Decimal(one) for one in lost]


def test_a_where_that_no_row_meets_is_shown_as_the_account_is_flat_by_it(tmp_path: Path) -> None:
    """A misspelt value leaves out every row, and where the broker is flat too both sides are the same."""
    misspelt, right = (Desk(tmp_path, where={"contract": (name,)}) for name in ("a", "A"))
    right.write(("A", 3, -1))
    assert "no row has contract a (where)" in "; ".join(misspelt.table.about())
    assert "no row has" not in "; ".join(right.table.about())


def test_columns_that_hold_less_than_a_decimal_are_named(desk: Desk) -> None:
    desk.write(("A", 1.5, -1), kind=pa.float64(), tz=None)
    said = "; ".join(desk.table.about())
    assert "column qty is double" in said
    assert "column at has no time zone" in said
    assert "price" not in said


def test_a_column_without_a_zone_is_utc(desk: Desk) -> None:
    desk.write(("A", 1, -1), tz=None)
    assert desk.claims().rows[0].at == when(-1)


def test_a_claim_says_the_price_and_the_time_of_its_row(desk: Desk) -> None:
    desk.write(("A", 5, -10))
    at = when(-10)
    assert at is not None
    step = Decimal(1).scaleb(-18)
    assert desk.claims().rows == (Claim("net", Decimal(5), Decimal("1.5"), at, step, step),)


def test_marks_of_others_in_the_log_are_nobodys_business(desk: Desk) -> None:
    write_deltalake(desk.uri, rows(("A", 5, -1)), commit_properties=CommitProperties({"who": "them"}))
    assert desk.held() == [("net", "5")]
