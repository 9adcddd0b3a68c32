"""What the tests of the command line share: two accounts at simulators, and commands to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from supervisor.cli.main import app

ACCOUNT_ID, TOKEN = "101-001-1-001", "a-token-nobody-may-see"
SETTINGS = "{confirm_gap_ms: 20, settle_ms: 0, timeout_ms: 500}"


class House:
    """A configuration with an OANDA and an MT5 account, each at a simulator of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.oanda = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=("GBP_JPY", "EUR_USD"), hedging=True)
        self.mt5 = Mt5Simulator(instruments=("EURUSD",))
        self.rest_url = self.oanda.start()
        self.endpoint = self.mt5.start()
        self.journal = directory / "journal.db"
        self.path = self.write()

    def write(self, name: str = "accounts.yaml", **changes: str) -> Path:
        given = {"correct": "auto", "journal": f"sqlite:///{self.journal}", "rest_url": self.rest_url} | changes
        path = self.directory / name
        path.write_text(
            f"journal: {{url: '{given['journal']}'}}\n"
            f"defaults: {SETTINGS[:-1]}, correct: {given['correct']}}}\n"
            "accounts:\n"
            f"  - {{name: fx, broker: oanda, account_id: {ACCOUNT_ID}, token: '${{OANDA_TOKEN}}',"
            f" rest_url: '{given['rest_url']}', instruments: [GBP_JPY, EUR_USD]}}\n"
            f"  - {{name: cfd, broker: mt5, endpoint: '{self.endpoint}', instruments: [EURUSD]}}\n"
            f"  - {{name: old, broker: paper, enabled: false, instruments: [EURUSD]}}\n"
        )
        return path

    def close(self) -> None:
        self.oanda.close()
        self.mt5.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("OANDA_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    made = House(tmp_path)
    yield made
    made.close()


def run(*arguments: object, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert TOKEN not in result.output
    assert "Traceback" not in result.output
    return result


def reconciled(house: House, *more: object) -> tuple[int, dict[str, Any]]:
    result = run("reconcile", house.path, "--json", *more)
    document: dict[str, Any] = json.loads(result.stdout)
    return result.exit_code, document


def instruments(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{a['account']}/{i['instrument']}": i for a in document["accounts"] for i in a["instruments"]}


def records(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("audit", "tail", "-c", house.path, "-n", 1000, "--json").stdout)
    return found
