"""An account whose book is a Delta table, from its configuration to the verdict, the correction and what is shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner, Result

from actors.account.table_watch import TableWatch
from actors.delta.book_spec import BookTableSpec, open_book_table
from actors.reconciliation.reconciliation_pass import ClaimCorrection
from actors.runtime.ports import LocalRuntime
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.model import LONG, Claim, Claims, Completeness
from brokers.simulators.oanda import OandaSimulator
from supervisor.cli.main import app
from supervisor.config.loader import load
from supervisor.config.models import ConfigurationError
from supervisor.supervision.specs import account_actor, book_spec

ACCOUNT_ID = "101-001-7654321-001"
TOKEN = "a-token-that-stays-secret"
EXACT = pa.decimal128(38, 18)
COLUMNS = "symbol: contract, quantity: qty, average_price: price, time: at, leg: side"


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


class House:
    """An OANDA account at a simulator of the test's own, and a table that somebody else keeps its book in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.oanda = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=("GBP_JPY", "EUR_USD"), hedging=True)
        self.rest_url = self.oanda.start()
        self.uri = directory / "book"
        self.path = self.write()

    def write(self, more: str = "", columns: str = COLUMNS, instruments: str = "[GBP_JPY, EUR_USD]") -> Path:
        path = self.directory / "accounts.yaml"
        path.write_text(
            f"journal: {{url: 'sqlite:///{self.directory}/journal.db'}}\n"
            "defaults: {settle_ms: 50, confirm_gap_ms: 20}\n"
            "accounts:\n"
            f"  - name: fx\n    broker: oanda\n    account_id: {ACCOUNT_ID}\n    token: '${{OANDA_TOKEN}}'\n"
            f"    rest_url: '{self.rest_url}'\n    instruments: {instruments}\n"
            f"    book: {{delta: book, columns: {{{columns}}}{more}}}\n"
        )
        return path

    def say(self, contract: str, quantity: object, at: datetime, side: str = LONG, kind: pa.DataType = EXACT) -> None:
        """A row of the strategy's."""
        number = float(str(quantity)) if pa.types.is_floating(kind) else Decimal(str(quantity))
        rows = {
            "contract": pa.array([contract]),
            "side": pa.array([side]),
            "qty": pa.array([number], kind),
            "price": pa.array([Decimal("191.2")], EXACT),
            "at": pa.array([at], pa.timestamp("us", "UTC")),
            "source": pa.array(["strategy"]),
            "discrepancy_id": pa.array([None], pa.string()),
        }
        write_deltalake(str(self.uri), pa.table(rows), mode="append")

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = DeltaTable(str(self.uri)).to_pyarrow_table().to_pylist()
        return sorted(found, key=lambda row: row["at"])

    def hold(self, quantity: int, symbol: str = "GBP_JPY") -> None:
        self.oanda.set_position(symbol, LONG, Decimal(quantity), Decimal("191.2"))


@pytest.fixture(name="house")
def _house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("OANDA_TOKEN", TOKEN)
    made = House(tmp_path)
    yield made
    made.oanda.close()


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert TOKEN not in result.output
    assert "Traceback" not in result.output
    return result


def verdict(house: House) -> tuple[int, dict[str, Any]]:
    done = run("reconcile", house.path, "--json")
    account: dict[str, Any] = json.loads(done.stdout)["accounts"][0]
    return done.exit_code, account


def found(account: Mapping[str, Any]) -> list[tuple[str, str | None, bool]]:
    rows = [row for one in account["instruments"] for row in one["discrepancies"]]
    return [(row["type"], row.get("alias"), row["resolved"]) for row in rows]


def test_a_book_in_a_table_is_compared_and_the_summary_is_one_line(house: House) -> None:
    """FEATURES 25, 28"""
    house.hold(100)
    house.say("GBP_JPY", 100, ago(60))
    assert verdict(house)[0] == 0
    house.hold(80)
    house.hold(5, "EUR_USD")
    code, account = verdict(house)
    assert (code, account["summary"]) == (1, "OANDA: 2, Delta: 1, Discrepancies: 2 (0 critical)")
    assert sorted(found(account)) == [
        ("MISSING_LOCALLY", "MISSING_FROM_DELTA", False),
        ("POSITION_MISMATCH", "POSITION_MISMATCH", False),
    ]
    assert [row["qty"] for row in house.rows()] == [100], "nothing is written where it is not writable"
    said = run("reconcile", house.path)
    assert "fx: OANDA: 2, Delta: 1, Discrepancies: 2 (0 critical)" in said.stdout
    assert "MISSING_FROM_DELTA" in said.stdout


def test_a_naked_position_is_critical_and_stays(house: House) -> None:
    """FEATURES 25"""
    house.say("GBP_JPY", 100, ago(60))
    for _ in range(2):
        code, account = verdict(house)
        assert (code, found(account)) == (1, [("NAKED_POSITION", "NAKED_POSITION", False)])
        assert account["summary"] == "OANDA: 0, Delta: 1, Discrepancies: 1 (1 critical)"


def test_a_writable_book_is_corrected_by_one_row_that_names_the_discrepancy(house: House) -> None:
    house.write(", writable: true")
    house.hold(80)
    house.say("GBP_JPY", 100, ago(60))
    _, first = verdict(house)
    [broken] = first["instruments"][0]["discrepancies"]
    code, _ = verdict(house)
    assert code == 0
    assert verdict(house)[0] == 0
    ours = [row for row in house.rows() if row["source"] == "reconciliation"]
    assert [(row["contract"], row["side"], row["qty"], row["discrepancy_id"]) for row in ours] == [
        ("GBP_JPY", LONG, 80, broken["id"])
    ]


def test_a_table_that_was_restored_closes_nothing(house: House) -> None:
    house.hold(100)
    house.say("GBP_JPY", 40, ago(120))
    house.say("GBP_JPY", 100, ago(60))
    assert verdict(house)[0] == 0
    DeltaTable(str(house.uri)).restore(0)
    code, account = verdict(house)
    row = next(one for one in account["instruments"] if one["instrument"] == "GBP_JPY")
    assert (code, row["book"]["table"]["positions"], row["status"]) == (3, "COMPLETE", "PARTIAL")
    assert row["book"]["legs"] == [{"leg": "long", "quantity": "100", "average_price": "191.2"}]
    assert found(account) == [("STALE_DATA", "STALE_DATA", False)]


@pytest.mark.parametrize("harm", ["gone", "renamed"])
def test_a_table_that_cannot_be_read_leaves_every_book_as_it_was(house: House, harm: str) -> None:
    house.hold(100)
    house.say("GBP_JPY", 100, ago(60))
    assert verdict(house)[0] == 0
    if harm == "gone":
        house.uri.rename(house.directory / "elsewhere")
    else:
        house.write(columns=COLUMNS.replace("qty", "size"))
    code, account = verdict(house)
    assert (code, account["summary"]) == (3, "OANDA: 1, Delta: ?, Discrepancies: 2 (0 critical)")
    assert {row["book"]["table"]["positions"] for row in account["instruments"]} == {"FAILED"}
    assert account["instruments"][0]["book"]["legs"][0]["quantity"] == "100"
    assert {kind for kind, _, _ in found(account)} == {"MALFORMED_DATA"}


def test_what_the_table_holds_and_nobody_looks_after_is_an_open_break(house: House) -> None:
    house.write(instruments="[EUR_USD]")
    house.say("GBP_JPY", 100, ago(60))
    code, account = verdict(house)
    assert (code, [row["type"] for row in account["discrepancies"]]) == (1, ["UNMANAGED_INSTRUMENT"])
    house.write(instruments="all")
    code, account = verdict(house)
    assert [row["instrument"] for row in account["instruments"]] == ["GBP_JPY"]


def test_check_says_what_a_column_cannot_say_and_what_is_lacking(house: House) -> None:
    house.say("GBP_JPY", 100, ago(60), kind=pa.float64())
    said = run("check", house.path)
    assert (said.exit_code, "column qty is double" in said.stdout) == (0, True)
    house.write(columns=COLUMNS.replace("qty", "size"))
    said = run("check", house.path, "--json")
    table = json.loads(said.stdout)["accounts"][0]["table"]
    assert (said.exit_code, table["reached"], "no column size" in table["about"][0]) == (3, False, True)


# Configuration


@pytest.mark.parametrize(
    ("more", "columns", "words"),
    [
        ("", "symbol: a, con_id: b, quantity: q, time: t", "either symbol or con_id"),
        ("", "quantity: q, time: t", "either symbol or con_id"),
        ("", "symbol: a, time: t", "column of the signed quantity"),
        ("", "symbol: a, quantity: q, time: t, colour: c", "unknown key"),
        (", writable: true", "symbol: a, quantity: q, time: t", "book.columns.leg where it is writable"),
        (", storage_options: {ALLOW_INVALID_CERTIFICATES: 'true'}", COLUMNS, "they are always verified"),
        (", storage_options: {AWS_SECRET_ACCESS_KEY: abc}", COLUMNS, "a secret written in the file"),
        (", storage_options: {AWS_SECRET_ACCESS_KEY: '${NOT_SET}'}", COLUMNS, "NOT_SET"),
        (", max_age_s: 0", COLUMNS, "above 0"),
    ],
)
def test_mistakes_are_named_before_anything_starts(house: House, more: str, columns: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load(house.write(more, columns))
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("account", "fits"),
    [
        ("broker: paper", False),  # mode paper is what this broker has unless said otherwise
        ("broker: paper, mode: live", True),
        ("broker: oanda, simulator: true, mode: paper", False),
        ("broker: oanda, simulator: true", True),
    ],
)
def test_a_book_in_a_table_is_refused_where_positions_are_not_compared(
    tmp_path: Path, account: str, *, fits: bool
) -> None:
    path = tmp_path / "accounts.yaml"
    book = f"{{delta: book, columns: {{{COLUMNS}}}}}"
    path.write_text(f"accounts:\n  - {{name: fx, {account}, instruments: [EUR_USD], book: {book}}}\n")
    expected = nullcontext() if fits else pytest.raises(ConfigurationError, match="mode paper compares orders alone")
    with expected:
        load(path)


def test_the_secrets_of_a_store_are_references_and_a_path_is_of_the_files_folder(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEY", "hidden")
    options = "{AWS_SECRET_ACCESS_KEY: '${STORE_KEY}', AWS_ALLOW_HTTP: true}"
    configuration = load(house.write(f", storage_options: {options}"))
    spec = book_spec(configuration, "fx")
    assert spec is not None
    assert spec.uri == str(house.uri)
    assert "hidden" not in repr(spec) + repr(account_actor(configuration, "fx", LocalRuntime(*[lambda: None] * 3)))  # type: ignore[arg-type]  # never asked
    assert dict(spec.options)["AWS_ALLOW_HTTP"] == "true"


# Corrections


def writable(house: House, **more: Any) -> BookTableSpec:
    named = {"key": "contract", "quantity": "qty", "average_price": "price", "time": "at", "leg": "side"}
    given: dict[str, Any] = {"writable": True} | named | more
    return BookTableSpec("fx", str(house.uri), **given)


def correction(quantity: str = "80", identity: str = "d1") -> ClaimCorrection:
    return ClaimCorrection(identity, LONG, Decimal(quantity), Decimal("191.2"))


def test_a_correction_is_written_once_whoever_tries(house: House) -> None:
    house.say("GBP_JPY", 100, ago(60))
    one, other = open_book_table(writable(house)), open_book_table(writable(house))
    now = datetime.now(UTC)
    assert one.correct("GBP_JPY", None, [correction()], now) == 1
    house.say("EUR_USD", 1, ago(5))
    assert [table.correct("GBP_JPY", None, [correction()], now) for table in (one, other)] == [0, 0]
    assert len([row for row in house.rows() if row["discrepancy_id"] == "d1"]) == 1


def test_a_correction_is_the_newest_row_though_the_writers_clock_is_ahead(house: House) -> None:
    house.say("GBP_JPY", 100, ago(-60))
    table = open_book_table(writable(house))
    now = datetime.now(UTC)
    table.correct("GBP_JPY", None, [correction()], now)
    assert table.read(now).claims("GBP_JPY", None).rows[0].quantity == 80
    assert table.read(now).claims("GBP_JPY", None).rows[0].discrepancy == "d1"


@pytest.mark.parametrize(
    ("kind", "quantity", "more", "words"),
    [
        (pa.decimal128(10, 2), "80.005", {}, "cannot hold 80.005 exactly"),
        (pa.float64(), "0.1234567890123456789", {}, "cannot hold"),
        (EXACT, "80", {"discrepancy": "why"}, "no column why"),
    ],
)
def test_what_would_be_rounded_or_cannot_be_marked_is_refused(
    house: House, kind: pa.DataType, quantity: str, more: dict[str, Any], words: str
) -> None:
    house.say("GBP_JPY", 100, ago(60), kind=kind)
    if more:
        with pytest.raises(BrokerError, match=words):
            open_book_table(writable(house, **more)).correct("GBP_JPY", None, [correction(quantity)], ago(0))
        return
    with pytest.raises(Refused, match=words):
        open_book_table(writable(house)).correct("GBP_JPY", None, [correction(quantity)], ago(0))
    assert len(house.rows()) == 1


def test_a_table_that_is_not_writable_is_never_written_to(house: House) -> None:
    house.say("GBP_JPY", 100, ago(60))
    table = open_book_table(writable(house, writable=False))
    with pytest.raises(Refused, match="not writable"):
        table.correct("GBP_JPY", None, [correction()], ago(0))


# The account's end of it


class Fake:
    """A table that answers, or fails, as it is asked."""

    max_age: timedelta | None = timedelta(seconds=60)

    def __init__(self) -> None:
        self.failure: BrokerError | None = None
        self.reads = 0

    def read(self, now: datetime) -> Fake:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        return self

    def claims(self, instrument: str, identity: str | None) -> Claims:
        return Claims((Claim("net", Decimal(5), None, datetime(2026, 1, 1, tzinfo=UTC)),))

    def held(self, names: Mapping[str, str]) -> Mapping[str, str]:
        return {"A": "net 5"}

    def correct(
        self, instrument: str, identity: str | None, corrections: Sequence[ClaimCorrection], now: datetime
    ) -> int:
        raise NotImplementedError


AWAY = Unreachable("read", "ib", "no answer", "It is tried again.")
UNREADABLE = Malformed("read", "ib", "no column qty", "Name another.")


@pytest.mark.parametrize(
    ("failure", "after_s", "expected"),
    [(AWAY, 30, Completeness.COMPLETE), (AWAY, 90, Completeness.FAILED), (UNREADABLE, 0, Completeness.FAILED)],
)
async def test_a_store_that_is_away_is_stood_in_for_as_long_as_a_book_may_be_old(
    failure: BrokerError, after_s: float, expected: Completeness
) -> None:
    table, now = Fake(), [datetime(2026, 1, 1, tzinfo=UTC)]
    runtime = LocalRuntime(lambda: now[0], asyncio.get_running_loop().time, lambda: 0.5)
    watch = TableWatch("ib", lambda: table, runtime)
    assert watch.claims("A", None).completeness is Completeness.FAILED, "not read yet is not flat"
    watch.begin()
    await watch.finish()
    assert watch.claims("A", None).completeness is Completeness.COMPLETE
    table.failure = failure
    now[0] += timedelta(seconds=after_s)
    watch.begin()
    await watch.finish()
    assert watch.claims("A", None).completeness is expected
    assert (watch.held({}) == {}) is (expected is Completeness.FAILED)
    table.failure = None
    watch.begin()
    await watch.finish()
    assert watch.doubt is None
