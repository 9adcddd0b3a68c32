"""The last health report of each child, and the status document made of them.

The laws of this module: it calls no actor; a child's report counts only while the child is up, and is shown as
unverified, with the actor's state, when it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from actors.book.break_work import BreakWork
from actors.book.discrepancies import Break
from actors.book.trading_permission import Halt
from actors.delta.sink_actor import SinkHealth
from actors.events import Json
from actors.instrument.statistics import Totals
from actors.messages import AccountHealth, AlertsHealth, Connection, CycleReport, InstrumentHealth
from actors.names import AUDIT, instrument_name, sink_name, split_name
from actors.runtime.ports import Runtime
from brokers.versions import Program, program_of
from supervisor.presentation.json_contract import document
from supervisor.supervision import specs, status
from supervisor.supervision.actor_states import is_up
from supervisor.supervision.desired import DesiredState
from supervisor.supervision.logins import double_logins
from supervisor.tree.model import ALERTS, Child, ChildKey, Kind

_OF_ANOTHER_CONFIGURATION = "its configuration has changed, and what else the account holds is not known yet"


class HealthRegistry:
    """The last health reports. ``children`` is the tree's live view of the children."""

    def __init__(self, runtime: Runtime, children: Mapping[ChildKey, Child], desired: DesiredState) -> None:
        self._runtime = runtime
        self._children = children
        self._desired = desired
        self._accounts: dict[str, AccountHealth] = {}
        self._instruments: dict[str, InstrumentHealth] = {}
        self._received_s: dict[str, float] = {}
        self.totals = Totals()
        self._journal: dict[str, Json] = {}
        self._sinks: dict[str, SinkHealth] = {}
        self._alerts: AlertsHealth | None = None

    # What the children report

    def keep(self, key: ChildKey, attempt: int, health: Any) -> None:
        """Keep a child's report; an instrument's statistics include those of its former processes."""
        match health:
            case InstrumentHealth():
                self._instruments[key.name] = self.totals.with_former(key.name, attempt, health)
                self._received_s[key.name] = self._runtime.monotonic_s()
            case AccountHealth():
                self._accounts[key.name] = health
            case SinkHealth():
                self._sinks[key.name] = health
            case AlertsHealth():
                self._alerts = health
            case _:
                self._journal = health

    def ended(self, name: str) -> None:
        """A process has ended: an account's report no longer counts; an instrument's last report is still shown."""
        self._accounts.pop(name, None)

    def forget(self, name: str) -> None:
        """Drop the reports of an actor that is no longer desired."""
        self._accounts.pop(name, None)
        self._instruments.pop(name, None)
        self._sinks.pop(name, None)

    # What is shown

    def knows_instrument(self, name: str) -> bool:
        """Whether an instrument of that name has ever reported."""
        return name in self._instruments

    @property
    def journal(self) -> dict[str, Json]:
        """The last report of the audit actor."""
        return self._journal

    def doubles(self) -> dict[str, str | None]:
        """The accounts whose refusal over a double login is out of date, each with the new one: why its login is
        another account's, or ``None`` where it no longer is."""
        logins = {name: said.login for name, said in self._accounts.items()}
        found = double_logins(logins, self._desired.configuration)
        wanted = {name: found.get(name) for name in self._accounts}
        return {name: why for name, why in wanted.items() if self._accounts[name].double != why}

    @property
    def alerts(self) -> dict[str, Json] | None:
        """The last report of the alerts actor; ``None`` where there is none."""
        child = self._children.get(ALERTS)
        return None if self._alerts is None or child is None else self._alerts.to_json()

    def pids(self) -> dict[str, int]:
        """The processes of the children that have reported theirs."""
        pids = {name: health.pid for name, health in (self._accounts | self._instruments | self._sinks).items()}
        audit = self._journal.get("pid")
        if self._alerts is not None:
            pids[ALERTS.name] = self._alerts.pid
        return pids | ({AUDIT: audit} if isinstance(audit, int) else {})

    def programs(self) -> dict[str, Program]:
        """What the processes of the children run that have reported it."""
        said = self._accounts | self._instruments | self._sinks
        found = {name: health.program for name, health in said.items()}
        found[AUDIT] = program_of(self._journal.get("program"))
        found |= {} if self._alerts is None else {ALERTS.name: self._alerts.program}
        return {name: program for name, program in found.items() if program is not None}

    def sinks(self) -> list[Json]:
        """Each configured sink: how far its table is written, or why it is not."""
        lacking = specs.lacks_delta()
        rows: list[Json] = []
        for number, sink in enumerate(self._desired.configuration.sinks, 1):
            name = sink_name(number)
            child, said = self._children.get(ChildKey(Kind.SINK, name)), self._sinks.get(name)
            error = lacking if lacking is not None else None if is_up(child) else status.state_words(child)
            found = said if said is not None else SinkHealth(name, sink.delta, 0, 0, None, None, 0)
            rows.append(replace(found, error=error or found.error).to_json())
        return rows

    def account(self, name: str) -> AccountHealth:
        """The account's last report, or one with the reason why there is none."""
        child = self._children.get(ChildKey(Kind.ACCOUNT, name))
        said = self._accounts.get(name)
        if said is not None and is_up(child):
            # It looked at its account with other instruments in mind: what it found to be nobody's says nothing now.
            return replace(said, error=said.error or _OF_ANOTHER_CONFIGURATION) if self.is_behind(said) else said
        error = status.state_words(child)
        broker = self._desired.configuration.account(name).broker
        return AccountHealth(name, broker, Connection.CONNECTING, error, 0, 0, None, (), (), 0)

    def is_behind(self, said: AccountHealth) -> bool:
        """Whether an account does not know yet which instruments are managed and ignored from now on."""
        wanted = self._desired.managed(said.account)
        return said.managed is not None and wanted not in (None, (said.managed, said.ignored))

    def behind(self) -> tuple[str, ...]:
        """The accounts that do not."""
        return tuple(name for name, said in self._accounts.items() if self.is_behind(said))

    def reports(self, account: str) -> list[CycleReport]:
        """The last report of each instrument, or a degraded one with the state of its actor."""
        return [self._report(account, symbol) for symbol in self._desired.symbols(account)]

    def _report(self, account: str, symbol: str) -> CycleReport:
        name = instrument_name(account, symbol)
        child = self._children.get(ChildKey(Kind.INSTRUMENT, name))
        health = self._as_of_now(name)
        last = health.report if health is not None else None
        if last is None or health is None or not is_up(child):
            return status.absent(account, symbol, child, last, self._runtime.now())
        max_age_s = self._desired.max_age_s(account, symbol)
        return status.aged(last, health, max_age_s, self._runtime.now())

    def _as_of_now(self, name: str) -> InstrumentHealth | None:
        """An instrument's last report, with its age and the time to its next check moved on to now."""
        health = self._instruments.get(name)
        if health is None:
            return None
        passed_s = self._runtime.monotonic_s() - self._received_s[name]
        age_s, next_s = health.verified_age_s, health.next_check_s
        return replace(
            health,
            verified_age_s=None if age_s is None else age_s + passed_s,
            next_check_s=None if next_s is None else max(0.0, next_s - passed_s),
        )

    def open_breaks(self) -> Iterator[tuple[str, Break, Mapping[str, BreakWork]]]:
        """Every open break: its owner (the name of an instrument or an account), the break, and the work on the breaks
        of that owner."""
        for account in self._desired.accounts:
            of_account = self.account(account)
            for one in of_account.discrepancies:
                if not one.resolved:
                    yield account, one.found, of_account.work
            for report in self.reports(account):
                name = instrument_name(account, report.instrument)
                health = self._instruments.get(name)
                for one in report.discrepancies:
                    if not one.resolved:
                        yield name, one.found, health.work if health is not None else {}

    def unverified(self, name: str) -> str | None:
        """Why the book of an instrument is not known to match its broker; ``None`` where it is."""
        account, symbol = split_name(name)
        if not self._desired.looks_after(account, symbol):
            return "no actor manages it"
        report = self._report(account, symbol)
        never = report.verified_at is None
        return (report.error or "not verified yet") if report.unverified or never else None

    def document(self, started_at: datetime, halts_on: Callable[[str], tuple[Halt, ...] | None]) -> dict[str, Any]:
        """The document of ``status --json``, without its ``supervisor``. ``halts_on`` returns the halts that apply
        to an instrument, ``None`` while they are not known."""
        rows = [(self.account(name), self.reports(name)) for name in self._desired.accounts]
        age_ms = (self._runtime.now() - started_at).total_seconds() * 1000
        result = document(started_at, age_ms, rows)
        healths = {name: said for name in self._instruments if (said := self._as_of_now(name)) is not None}
        status.add_account_health(result, [health for health, _ in rows])
        status.add_health(result, self._children, healths, self._runtime.now(), halts_on)
        return result
