"""What ``check --connect`` says that each adapter found out, and the mistakes that only a broker can see."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from brokers.model import Side
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from supervisor.cli import in_process
from supervisor.cli.main import app
from supervisor.config.loader import load
from tests.brokers.one_look import KINDS, OneLook, one_look

D = Decimal
FACTS = {
    "oanda": {
        "login": "101-001-1-001 at http",
        "positions": "hedging",
        "currency": "EUR",
        "clock": "UTC",
        "products": "instruments",
        "permissions": "guaranteed stops disabled",
    },
    "mt5": {
        "login": "5001 at Loopback-Demo",
        "positions": "hedging: a leg for each position",
        "currency": "USD",
        "clock": "UTC",
        "products": "symbols",
        "permissions": "it may trade",
    },
    "kite": {
        "login": "AB1234 at http",
        "positions": "a leg for each product",
        "currency": "INR",
        "clock": "IST",
        "products": "products CNC, NRML, MIS, MTF; exchanges NSE",
        "permissions": "order types MARKET",
    },
    "ib": {
        "login": "DU1 at 127.0.0.1",
        "positions": "netting",
        "currency": "USD",
        "clock": "UTC",
        "products": "all security types",
        "permissions": "account type INDIVIDUAL",
    },
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_check_says_in_ten_lines_what_the_adapter_found_out(kind: str, tmp_path: Path) -> None:
    with one_look(kind, tmp_path) as place:
        one, other = place.kind.symbols
        place.simulator.trade(one, Side.BUY, place.kind.lot)
        place.simulator.trade(other, Side.BUY, place.kind.lot)
        place.simulator.place_limit(one, Side.BUY, place.kind.lot, D("0.5"), "c1")
        place.configuration(one)
        arguments = ["check", str(tmp_path / "accounts.yaml"), "--connect"]
        result = CliRunner().invoke(app, [*arguments, "--json"])
        shown = CliRunner().invoke(app, arguments)
    connected = json.loads(result.stdout)["accounts"][0]["connect"]
    assert (result.exit_code, connected["outcome"], connected["mistakes"]) == (0, "REACHED", [])
    facts = connected["facts"]
    assert len(facts) == 10
    for key, words in FACTS[kind].items():
        assert words in facts[key], key
    assert facts["held"].startswith("2 position legs")
    assert facts["orders"].startswith("1 working")
    assert facts["answers"] == "positions COMPLETE, orders COMPLETE, fills COMPLETE"
    assert facts["unmanaged"] == f"1 instrument not configured: {other}"
    assert [line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ")][-10:] == list(facts)


def listing(place: OneLook) -> None:
    """The broker has what it trades, and nothing else."""
    if isinstance(place.simulator, KiteSimulator):
        place.simulator.list_instruments(*place.kind.symbols, "NSE:SBIN", "NFO:NIFTY25NOVFUT")
    if isinstance(place.simulator, IbSimulator):
        place.simulator.list_contracts(*place.kind.symbols, "ES", "ESZ6", "EUR.USD")


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        ("oanda", "EUR/USD", "EUR_USD"),
        ("oanda", "eur_usd", "EUR_USD"),
        ("mt5", "eurusd", "EURUSD"),
        ("mt5", "EURUSD.m", "EURUSD"),
        ("kite", "nse:infy", "NSE:INFY"),
        ("kite", "NSE:INFYS", "NSE:INFY"),
        ("ib", "aapl", "AAPL"),
        ("ib", "AAPL.US", "AAPL"),
        ("ib", "ESZ9", "ES"),
        ("ib", "4711", "4711"),
    ],
)
async def test_a_name_that_the_broker_does_not_have_is_a_mistake_when_checked_and_never_in_step(
    kind: str, name: str, near: str, tmp_path: Path
) -> None:
    with one_look(kind, tmp_path) as place:
        place.simulator.trade(place.kind.symbols[0], Side.BUY, place.kind.lot)
        listing(place)
        for _ in range(2):
            health, reports = await place.look(name)
            (report,) = reports.values()
            assert report.status != "SUCCESS"
            assert report.unverified
        text = f"{report.error} {health.error}"
        assert f"has no instrument {name}" in text
        assert near in text


@pytest.mark.parametrize("name", ["ESZ6", "EUR.USD"])
async def test_a_derivative_of_which_nothing_is_held_is_known_by_its_localsymbol(name: str, tmp_path: Path) -> None:
    with one_look("ib", tmp_path) as place:
        listing(place)
        _, reports = await place.look(name)
        assert {report.status for report in reports.values()} == {"SUCCESS"}


@pytest.mark.parametrize("kind", list(KINDS))
async def test_a_name_of_which_nothing_is_held_and_that_the_broker_has_is_in_step(kind: str, tmp_path: Path) -> None:
    with one_look(kind, tmp_path) as place:
        place.simulator.trade(place.kind.symbols[0], Side.BUY, place.kind.lot)
        listing(place)
        _, reports = await place.look(place.kind.symbols[1])
        assert {report.status for report in reports.values()} == {"SUCCESS"}


def two_gateways(directory: Path, one: str, other: str) -> Path:
    file = directory / "accounts.yaml"
    file.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        "defaults: {confirm_gap_ms: 10, settle_ms: 10, timeout_ms: 2000}\naccounts:\n"
        f"  - {{name: first, broker: mt5, endpoint: '{one}', instruments: [EURUSD]}}\n"
        f"  - {{name: second, broker: mt5, endpoint: '{other}', instruments: [EURUSD]}}\n"
    )
    return file


@pytest.mark.parametrize(("login", "double"), [(5001, True), (5002, False)])
async def test_two_accounts_that_reach_one_login_are_one_mistake(login: int, double: bool, tmp_path: Path) -> None:
    """Two gateways at two addresses, and one login behind both of them."""
    one, other = Mt5Simulator(login=5001, instruments=["EURUSD"]), Mt5Simulator(login=login, instruments=["EURUSD"])
    try:
        file = two_gateways(tmp_path, one.start(), other.start())
        (first, _), (second, reports) = await in_process.reconcile(
            load(file, {}), in_process.Selection(), dry_run=False
        )
    finally:
        one.close()
        other.close()
    assert first.error is None
    assert (second.error is not None) is double
    assert (reports[0].status == "SUCCESS") is not double
    if double:
        assert "reaches login 5001, which account first reaches too" in str(second.error)


def test_check_names_two_accounts_that_reach_one_login(tmp_path: Path) -> None:
    one, other = Mt5Simulator(login=5001, instruments=["EURUSD"]), Mt5Simulator(login=5001, instruments=["EURUSD"])
    try:
        file = two_gateways(tmp_path, one.start(), other.start())
        result = CliRunner().invoke(app, ["check", str(file), "--connect", "--json"])
    finally:
        one.close()
        other.close()
    first, second = (row["connect"] for row in json.loads(result.stdout)["accounts"])
    assert (result.exit_code, first["mistakes"]) == (2, [])
    (mistake,) = second["mistakes"]
    assert "reaches login 5001, which account first reaches too" in mistake
