"""Interactive Brokers beside a Delta table whose contracts are conIds: the system that is replaced, from end to end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

from brokers.model import NET
from brokers.simulators.ib import IbSimulator
from supervisor.cli.main import app
from tests.brokers.at_ib import simulated

EXACT = pa.decimal128(20, 8)


def con_ids(simulator: IbSimulator, directory: Path) -> dict[str, str]:
    """What the broker reports of AAPL and MSFT, as the journal has it."""
    _, account = verdict(simulator, directory)
    assert account["error"] is None
    query = ["audit", "query", "--type", "RECONCILED", "--json", "-c", str(directory / "accounts.yaml")]
    found = json.loads(CliRunner().invoke(app, query).stdout)
    return {row["stream"].split("/")[1]: row["payload"]["contract"]["identity"] for row in found}


def verdict(simulator: IbSimulator, directory: Path, book: str = "") -> tuple[int, dict[str, Any]]:
    path = directory / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "defaults: {settle_ms: 0, confirm_gap_ms: 20}\n"
        f"accounts:\n  - {{name: options, broker: ib, port: {simulator.port}, client_id: 17, account_id: DU1,\n"
        f"     instruments: [AAPL, MSFT]{book}}}\n"
    )
    done = CliRunner().invoke(app, ["reconcile", str(path), "--json"])
    account: dict[str, Any] = json.loads(done.stdout)["accounts"][0]
    return done.exit_code, account


def test_positions_by_con_id_are_compared_corrected_and_summed_up(tmp_path: Path) -> None:
    """FEATURES 25, 27, 28"""
    uri = tmp_path / "positions"
    with simulated(instruments=("AAPL", "MSFT"), clock=lambda: datetime.now(UTC)) as simulator:
        simulator.set_position("AAPL", NET, Decimal(70), Decimal("89.5"))
        simulator.set_position("MSFT", NET, Decimal(5), Decimal("148"))
        ids = con_ids(simulator, tmp_path)
        simulator.set_position("MSFT", NET, Decimal(0), Decimal(0))
        at = datetime.now(UTC) - timedelta(minutes=1)
        rows = {
            "con_id": pa.array([int(ids["AAPL"]), int(ids["MSFT"]), int(ids["AAPL"])], pa.int64()),
            "quantity": pa.array([Decimal(60), Decimal(5), Decimal(1)], EXACT),
            "time": pa.array([at, at, at - timedelta(minutes=1)], pa.timestamp("us", "UTC")),
            "source": pa.array(["engine"] * 3),
            "discrepancy_id": pa.nulls(3, pa.string()),
        }
        write_deltalake(str(uri), pa.table(rows))
        columns = "columns: {con_id: con_id, quantity: quantity, time: time}"
        book = f", book: {{delta: positions, {columns}}}"
        code, account = verdict(simulator, tmp_path, book)
        assert (code, account["summary"]) == (1, "IB: 1, Delta: 2, Discrepancies: 2 (1 critical)")
        kinds = [row["alias"] for one in account["instruments"] for row in one["discrepancies"]]
        assert kinds == ["POSITION_MISMATCH", "NAKED_POSITION"]
        verdict(simulator, tmp_path, book.replace("}}", "}, writable: true}"))
        code, account = verdict(simulator, tmp_path, book)
        assert (code, account["summary"]) == (0, "IB: 1, Delta: 1, Discrepancies: 0 (0 critical)")
    ours = [row for row in DeltaTable(str(uri)).to_pyarrow_table().to_pylist() if row["source"] == "reconciliation"]
    assert {str(row["con_id"]): row["quantity"] for row in ours} == {ids["AAPL"]: 70, ids["MSFT"]: 0}
