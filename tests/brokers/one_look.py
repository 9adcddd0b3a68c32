"""One ``reconcile`` after another of one account, each in a new process as it were, at a simulator over the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from actors.messages import AccountHealth, CycleReport
from actors.reconciliation.own_reports import Report
from brokers.simulators.ib import IbSimulator
from brokers.simulators.kite import KiteSimulator
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from supervisor.cli import in_process
from supervisor.config.loader import load
from supervisor.config.models import Configuration

D = Decimal
OANDA_ID, TOKEN = "101-001-1-001", "0123456789abcdef-fedcba9876543210"


@dataclass(frozen=True)
class Kind:
    """A broker: its simulator, and its part of the configuration at an address. ``positions`` is what a fault has to
    match to spoil the list of positions."""

    simulator: Callable[[], Any]
    keys: Callable[[str], str]
    symbols: tuple[str, str]
    lot: Decimal
    positions: str


def _ib_keys(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"broker: ib, host: {host}, port: {port}, client_id: 17, account_id: DU1"


KINDS = {
    "oanda": Kind(
        lambda: OandaSimulator(OANDA_ID, TOKEN, instruments=["EUR_USD", "GBP_JPY"], hedging=True),
        lambda url: f"broker: oanda, environment: practice, account_id: {OANDA_ID}, token: {TOKEN}, rest_url: '{url}'",
        ("EUR_USD", "GBP_JPY"),
        D(100),
        "Account",
    ),
    "mt5": Kind(
        lambda: Mt5Simulator(margin_mode="hedging", instruments=["EURUSD", "GBPUSD"]),
        lambda url: f"broker: mt5, login: 5001, endpoint: '{url}'",
        ("EURUSD", "GBPUSD"),
        D("0.1"),
        "GET_POSITIONS",
    ),
    "kite": Kind(
        lambda: KiteSimulator("key", TOKEN, "AB1234", instruments=["NSE:INFY", "NSE:TCS"]),
        lambda url: f"broker: kite, api_key: key, access_token: {TOKEN}, user_id: AB1234, rest_url: '{url}'",
        ("NSE:INFY", "NSE:TCS"),
        D(10),
        "positions GET",
    ),
    "ib": Kind(
        lambda: IbSimulator("DU1", instruments=["AAPL", "MSFT"]), _ib_keys, ("AAPL", "MSFT"), D(10), "reqPositions"
    ),
}


@dataclass
class OneLook:
    """One account named ``acc`` at a simulator."""

    kind: Kind
    simulator: Any
    address: str
    directory: Path

    def configuration(self, *names: str, more: str = "", defaults: str = "") -> Configuration:
        """That of these instruments."""
        file = self.directory / "accounts.yaml"
        quick = "confirm_gap_ms: 10, settle_ms: 10, timeout_ms: 2000, price_tolerance: 0.5"
        listed = ", ".join(f"'{name}'" for name in names or self.kind.symbols)
        file.write_text(
            f"journal: {{url: 'sqlite:///{self.directory}/journal.db'}}\ndefaults: {{{quick}{defaults}}}\n"
            f"accounts:\n  - {{name: acc, {self.kind.keys(self.address)}{more}, instruments: [{listed}]}}\n"
        )
        return load(file, {})

    async def look(self, *names: str, **more: str) -> tuple[AccountHealth, dict[str, CycleReport]]:
        """A verdict on each of them."""
        selection = in_process.Selection()
        ((health, reports),) = await in_process.reconcile(self.configuration(*names, **more), selection, dry_run=False)
        return health, {report.instrument: report for report in reports}

    async def record(self, symbol: str, *reports: Report) -> None:
        """What our side says of one instrument."""
        await in_process.record(self.configuration(), "acc", {symbol: list(reports)})


@contextmanager
def one_look(kind: str, directory: Path) -> Iterator[OneLook]:
    """The account, its simulator served."""
    found = KINDS[kind]
    simulator = found.simulator()
    try:
        yield OneLook(found, simulator, simulator.start(), directory)
    finally:
        simulator.close()


def kinds(report: CycleReport) -> list[str]:
    """The types of its discrepancies."""
    return [one.found.type.value for one in report.discrepancies]


def held(reports: dict[str, CycleReport]) -> dict[str, list[tuple[str, str]]]:
    """Leg and quantity of each book."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, report in reports.items():
        legs: Sequence[Any] = report.book["legs"]  # type: ignore[assignment]  # it is the JSON contract's
        found[name] = [(leg["leg"], leg["quantity"]) for leg in legs]
    return found
