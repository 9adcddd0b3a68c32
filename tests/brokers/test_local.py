"""The whole system in one process, from a configuration to verdicts: ``reconcile`` and ``record``."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from actors.reconciliation.own_reports import OrderReport, PositionReport
from actors.runtime.ports import LocalRuntime
from brokers.model import OrderStatus, Side
from supervisor.cli import in_process
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.presentation.json_contract import exit_status
from supervisor.supervision import specs
from tests.unit.fakes import T0, found

QUICK = "confirm_gap_ms: 10, settle_ms: 10, timeout_ms: 2000"


def configured(directory: Path, accounts: str, defaults: str = QUICK) -> Configuration:
    file = directory / "accounts.yaml"
    file.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\ndefaults: {{{defaults}}}\naccounts:\n{accounts}"
    )
    return load(file, {"TOKEN": "0123456789abcdef-fedcba9876543210"})


SIMULATED = "  - {name: cfd, broker: mt5, simulator: true, instruments: [EURUSD, GBPUSD]}\n"
ALL = "  - {name: cfd, broker: mt5, simulator: true, instruments: all}\n"
DOWN = "  - {name: gone, broker: mt5, endpoint: 'tcp://127.0.0.1:9', timeout_ms: 20, instruments: [EURUSD]}\n"


async def verdicts(configuration: Configuration, **chosen: str) -> in_process.Verdicts:
    return await in_process.reconcile(configuration, in_process.Selection(**chosen), dry_run=False)


async def test_a_verdict_on_every_instrument_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    """FEATURES 1, PEERS 5"""
    configuration = configured(tmp_path, SIMULATED)
    first = await verdicts(configuration)
    ((health, reports),) = first
    assert [report.instrument for report in reports] == ["EURUSD", "GBPUSD"]
    assert exit_status(first) == 0
    ((again, reports),) = await verdicts(configuration)
    assert [found(report) for report in reports] == [[], []]
    assert again.fetches == 1, "one fetch an account"
    assert health.error is None


async def test_one_account_down_costs_the_others_nothing(tmp_path: Path) -> None:
    """PEERS 8, PEERS 17"""
    made = await verdicts(configured(tmp_path, SIMULATED + DOWN))
    assert [[report.status for report in reports] for _, reports in made] == [["SUCCESS", "SUCCESS"], ["DEGRADED"]]
    assert exit_status(made) == 3


async def test_with_all_instruments_a_book_that_the_broker_has_nothing_of_is_looked_at_too(tmp_path: Path) -> None:
    """FEATURES 10: a ghost does not escape because its broker no longer speaks of it."""
    configuration = configured(tmp_path, ALL)
    ghost = PositionReport("USDCHF", "7", Decimal(1), Decimal("0.9"))
    assert await in_process.record(configuration, "cfd", {"USDCHF": [ghost]}) == 1
    ((_, reports),) = await verdicts(configuration)
    by_name = {report.instrument: report for report in reports}
    assert {"EURUSD", "USDCHF"} <= by_name.keys()
    assert found(by_name["USDCHF"]) == ["NAKED_POSITION"]
    ((_, reports),) = await verdicts(configuration)
    assert "USDCHF" not in {report.instrument for report in reports}, "its book is empty now"


async def test_recording_needs_no_broker(tmp_path: Path) -> None:
    """FEATURES 22"""
    configuration = configured(tmp_path, DOWN)
    sent = OrderReport("EURUSD", "c1", None, Side.BUY, Decimal(1), "MARKET", None, OrderStatus.PENDING_SUBMIT, T0)
    assert await in_process.record(configuration, "gone", {"EURUSD": [sent]}) == 1
    assert await in_process.record(configuration, "gone", {"EURUSD": [sent]}) == 0


async def test_a_journal_that_cannot_be_opened_degrades_every_verdict_and_says_why(tmp_path: Path) -> None:
    """Law 2"""
    (tmp_path / "journal.db").write_text("this is no database, and long enough to be looked into" * 40)
    made = await verdicts(configured(tmp_path, SIMULATED))
    assert exit_status(made) == 3
    assert all("journal" in (report.error or "") for _, reports in made for report in reports)


@pytest.mark.parametrize("one_verdict", [False, True])
def test_stale_orders_are_cancelled_by_the_running_supervisor_alone(tmp_path: Path, one_verdict: bool) -> None:
    """FEATURES 22: ``reconcile`` sends nothing to a broker that changes anything there."""
    configuration = configured(tmp_path, SIMULATED, f"{QUICK}, stale_order_s: 60, cancel_stale_orders: true")
    runtime = LocalRuntime(lambda: T0, lambda: 0.0, lambda: 0.0)
    settings, _ = specs.instrument_actor(configuration, "cfd", "EURUSD", runtime, one_verdict=one_verdict)
    assert settings.policy.cancel_stale_orders is not one_verdict
    assert settings.policy.stale_order == timedelta(seconds=60)


def test_with_all_instruments_the_account_looks_as_often_as_an_instrument_would(tmp_path: Path) -> None:
    configuration = configured(tmp_path, ALL.replace("all}", "all, interval_s: 7}"))
    settings, _, _ = specs.account_actor(configuration, "cfd", LocalRuntime(lambda: T0, lambda: 0.0, lambda: 0.0))
    assert (settings.discover, settings.discover_every_s) == (True, 7)
