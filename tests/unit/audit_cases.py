"""A journal with a day in it, and the command line over it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from actors.book.checkpoint import checkpoint_event, replay
from actors.events import Event, EventType, Payload, Severity, event_id
from actors.journal.store import Append, Journal
from brokers.model import Side
from supervisor.cli.main import app
from tests.unit.builders import Desk, at, fill, fill_report, order, order_report, pos, records, slice_at

STREAM = "acc/EURUSD"
MIDDLE = 7
"""After so many events the day's checkpoint stands."""


@dataclass(frozen=True, slots=True)
class Case:
    """A directory with a configuration and its journal."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "accounts.yaml"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.directory}/journal.db"

    def write_config(self) -> None:
        self.config.write_text(
            f"journal: {{url: '{self.url}'}}\n"
            "accounts:\n"
            "  - {name: acc, broker: mt5, simulator: true, instruments: [EURUSD, GBPUSD]}\n"
        )

    def append(self, *events: Event, stream: str = STREAM) -> None:
        journal = Journal.open(self.url, exclusive=True)
        try:
            journal.append([Append(stream, journal.load(stream).version, events)])
        finally:
            journal.close()

    def audit(self, command: str, *arguments: object) -> Result:
        result = CliRunner().invoke(app, ["audit", command, "-c", str(self.config), *map(str, arguments)])
        assert "Traceback" not in result.output
        return result

    def json(self, command: str, *arguments: object) -> Any:
        result = self.audit(command, *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def process(self, command: str, *arguments: object) -> subprocess.Popen[str]:
        """The command in a process of its own."""
        words = [sys.executable, "-m", "supervisor", "audit", command, "-c", str(self.config), *map(str, arguments)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def a_happening(
    kind: EventType, payload: Payload, at_s: float, stream: str = "acc", severity: Severity = Severity.INFO
) -> Event:
    return Event(event_id(stream, kind, str(at_s)), kind, severity, at(at_s), payload)


def day() -> list[Event]:
    """A day of acc/EURUSD: recovered, traded by strategy alpha, drifted and put right; 80 at 09:00, 130 at the end."""
    desk = Desk()
    desk.look(slice_at(0, [pos("80", "1.1")]))
    desk.report(order_report("c1", submitted_at=at(100), quantity=50, strategy="alpha"), at_s=100)
    row = order("B1", 50, client_id="c1")
    desk.look(slice_at(110, [pos("80", "1.1")], [row]))
    desk.report(fill_report("f1", 20, at_s=120, order_id="B1"), at_s=120)
    desk.look(slice_at(130, [pos("100", "1.1")], [row]))
    desk.look(slice_at(500, [pos("130", "1.2")], [], [fill("f2", 30, "1.2", at_s=400, order_id="B1", side=Side.BUY)]))
    return desk.events


def with_checkpoint(events: list[Event], after: int = MIDDLE) -> list[Event]:
    book = replay("acc", "EURUSD", records(events[:after]))
    made = checkpoint_event(book, events[after - 1].time)
    return [*events[:after], replace(made, payload=dict(made.payload)), *events[after:]]


def a_case(directory: Path) -> Case:
    """The day's journal; beside it what happened to the account and by the operator."""
    made = Case(directory)
    made.write_config()
    made.append(*with_checkpoint(day()))
    lost = a_happening(EventType.CONNECTION_LOST, {"reason": "time-out"}, 300, severity=Severity.WARNING)
    made.append(lost, a_happening(EventType.CONNECTION_RESTORED, {}, 310), stream="acc")
    action = {"action": "restart", "actor": STREAM}
    made.append(a_happening(EventType.OPERATOR_ACTION, action, 350, "supervisor"), stream="supervisor")
    return made
