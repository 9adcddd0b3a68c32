"""The handle's answers about checks and permissions: each is a value to work with, and a table to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from actors.book.discrepancies import Discrepancy
from actors.book.trading_permission import Halted, Permission, Reason, scope_words
from actors.events import Severity, from_iso, to_iso
from actors.messages import AccountHealth, CycleReport
from brokers.frozen import dataclass
from supervisor.client.features import FeatureCheck, PositionFeatures, Validation
from supervisor.presentation import json_contract
from supervisor.presentation.prices import shown_price
from supervisor.presentation.tables import Answer, Cell, Table, columns, json_value


class Status(Answer):
    """The supervisor's last report on everything; the document of ``status --json``. One row an instrument."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._document = given

    @property
    def status(self) -> str:
        """The worst status of all: SUCCESS, PARTIAL, DEGRADED or FAILED."""
        return str(self._document["status"])

    def to_dict(self) -> dict[str, Any]:
        """The document of ``status --json``."""
        return dict(self._document)

    def table(self) -> Table:
        """One row an instrument, with its account."""
        accounts = self._document["accounts"]
        rows = [_status_row(account, row) for account in accounts for row in account["instruments"]]
        in_step = sum(row["status"] == "SUCCESS" for row in rows)
        return Table(
            f"{self.status}: {in_step} of {len(rows)} in step",
            columns(
                "account", "instrument", "status", "state", "position", ">open_orders", ">open_breaks", ">critical",
                (">verified_age_s", "verified s ago"), ">cycles", "halted", "error",
            ),
            rows,
            (
                *(f"{a['account']} {a['connection']}: {a['error']}" for a in accounts if a["error"]),
                *(f"{a['account']}: {a['summary']}" for a in accounts if a.get("summary")),
            ),
            ("verified_at", "restarts", "paused", "success_rate", "corrections", "mean_cycle_ms"),
        )  # fmt: skip


def _status_row(account: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Cell]:
    health = row["health"]
    legs = ", ".join(
        f"{leg['leg']} {leg['quantity']} @ {shown_price(leg['average_price'])}" for leg in row["book"]["legs"]
    )
    open_breaks = [found for found in row["discrepancies"] if not found["resolved"]]
    halted = health.get("halted")
    return {
        "account": account["account"],
        "instrument": row["instrument"],
        "status": row["status"],
        "state": "PAUSED" if health["paused"] else health["state"],
        # A book that was never verified is not shown as flat.
        "position": legs or ("nothing" if health["verified_at"] else "unknown"),
        "open_orders": len(row["book"]["open_orders"]),
        "open_breaks": len(open_breaks),
        "critical": sum(found["severity"] == "CRITICAL" for found in open_breaks),
        "verified_age_s": health["verified_age_s"],
        "cycles": health["cycles"],
        "halted": "not known" if halted is None else ", ".join(halt["scope"] for halt in halted),
        "error": row["error"],
        "verified_at": None if health["verified_at"] is None else from_iso(health["verified_at"]),
        "restarts": health["restarts"],
        "paused": health["paused"],
        "success_rate": health["success_rate"],
        "corrections": health["corrections"],
        "mean_cycle_ms": health["mean_cycle_ms"],
    }


class Discrepancies(Answer, Sequence[Discrepancy]):
    """Differences between books and brokers, with what was done about each. One row a difference."""

    def __init__(self, title: str, found: Sequence[tuple[str, str, Discrepancy]]) -> None:
        self._title = title
        self._found = tuple(found)

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, place: Any) -> Any:
        one = self._found[place]
        return [found for _, _, found in one] if isinstance(place, slice) else one[2]

    def to_dict(self) -> dict[str, Any]:
        """``discrepancies``: each in the form of the JSON contract, with its account and instrument."""
        rows = [{"account": a, "instrument": i, **found.to_json()} for a, i, found in self._found]
        return {"discrepancies": rows}

    def table(self) -> Table:
        """One row a difference."""
        return Table(self._title, DISCREPANCY, [discrepancy_row(*one) for one in self._found], (), ("id", "strategy"))


DISCREPANCY = columns(
    "account", "instrument", "type", "key", "severity", ">book_value", ">broker_value", ">difference", "cause",
    "resolved", "correction", "opened_at",
)  # fmt: skip


def discrepancy_row(account: str, instrument: str, one: Discrepancy) -> dict[str, Cell]:
    """A row of a table of discrepancies."""
    found = one.found
    return {
        "account": account,
        "instrument": instrument,
        "type": found.type.value,
        "key": found.key,
        "severity": found.severity.value,
        "book_value": found.book_value,
        "broker_value": found.broker_value,
        "difference": found.difference,
        "cause": None if found.cause is None else found.cause.value,
        "resolved": one.resolved,
        "correction": None if one.correction is None else one.correction.value,
        "opened_at": found.opened_at,
        "id": found.id,
        "strategy": found.strategy,
    }


def _how_many(found: int, *, dry_run: bool) -> str:
    """``2 discrepancies, nothing changed``."""
    return f"{found} {'discrepancy' if found == 1 else 'discrepancies'}{', nothing changed' if dry_run else ''}"


class Verdict(Answer):
    """The result of a new check for each instrument. With ``dry_run`` nothing was changed. One row an instrument;
    ``discrepancies`` are the differences."""

    def __init__(
        self, accounts: Sequence[tuple[AccountHealth, Sequence[CycleReport]]], began: datetime, *, dry_run: bool
    ) -> None:
        self._accounts = accounts
        self._began = began
        self.dry_run = dry_run

    @property
    def status(self) -> str:
        """The worst status of all: SUCCESS, PARTIAL, DEGRADED or FAILED."""
        return str(self.to_dict()["status"])

    @property
    def reports(self) -> tuple[CycleReport, ...]:
        """The report of each instrument."""
        return tuple(report for _, reports in self._accounts for report in reports)

    @property
    def discrepancies(self) -> Discrepancies:
        """Every difference found."""
        found = [
            (health.account, name, one)
            for health, reports in self._accounts
            for name, of_one in (("", health.discrepancies), *((r.instrument, r.discrepancies) for r in reports))
            for one in of_one
        ]
        return Discrepancies(_how_many(len(found), dry_run=self.dry_run), found)

    def __bool__(self) -> bool:
        """Whether everything is in step."""
        return self.status == "SUCCESS"

    def to_dict(self) -> dict[str, Any]:
        """The document of ``reconcile --json``."""
        ends = [report.finished_at for report in self.reports]
        took = max(ends, default=self._began) - self._began
        return json_contract.document(self._began, max(0.0, took / timedelta(milliseconds=1)), self._accounts)

    def table(self) -> Table:
        """One row an instrument; below, one line an account, such as ``fx: 3 of 4 in step, discrepancies: 2 (1
        critical)``."""
        rows = [_report_row(health.account, report) for health, reports in self._accounts for report in reports]
        notes = [
            f"{health.account} {health.connection}: {health.error}" for health, _ in self._accounts if health.error
        ]
        notes += [
            json_contract.summary(health.account, reports, health.discrepancies, health.broker)
            for health, reports in self._accounts
        ]
        return Table(self.status + (", nothing changed" if self.dry_run else ""), _REPORT, rows, tuple(notes))

    def tables(self) -> tuple[Table, ...]:
        """The instruments, and the differences if there are any."""
        found = self.discrepancies
        return (self.table(), found.table()) if found else (self.table(),)


_REPORT = columns(
    "account", "instrument", "status", ">passes", "positions", "orders", "fills", ">discrepancies", ">critical",
    ">duration_ms", "error",
)  # fmt: skip


def _report_row(account: str, report: CycleReport) -> dict[str, Cell]:
    sections = {name: str(value) for name, value in report.broker.items()}
    return {
        "account": account,
        "instrument": report.instrument,
        "status": report.status.value,
        "passes": report.passes,
        **sections,
        "discrepancies": len(report.discrepancies),
        "critical": sum(one.found.severity is Severity.CRITICAL for one in report.discrepancies),
        "duration_ms": round(report.duration_ms, 3),
        "error": report.error,
    }


class Check(Answer):
    """The result of one check of one instrument. ``trade`` is the trade that it followed, if any; ``throttled`` is true
    if no check was due, so that this is the last result again."""

    def __init__(self, report: CycleReport, *, dry_run: bool = False) -> None:
        self.report = report
        self.dry_run = dry_run

    @property
    def status(self) -> str:
        """SUCCESS, PARTIAL, DEGRADED or FAILED."""
        return self.report.status.value

    @property
    def trade(self) -> str | None:
        """The trade after which the check was requested: buy, sell or close."""
        return self.report.trade

    @property
    def throttled(self) -> bool:
        """Whether no check was made, since none was due: this is the last result again."""
        return self.report.throttled

    @property
    def discrepancies(self) -> Discrepancies:
        """The differences found."""
        report = self.report
        found = [(report.account, report.instrument, one) for one in report.discrepancies]
        return Discrepancies(_how_many(len(found), dry_run=self.dry_run), found)

    def __bool__(self) -> bool:
        """Whether book and broker are in step."""
        return self.status == "SUCCESS"

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract's object for one instrument, with its ``account``, the ``trade``, and ``throttled``."""
        found = self.report
        return {"account": found.account, **found.to_json(), "trade": self.trade, "throttled": self.throttled}

    def table(self) -> Table:
        """One row."""
        after = f" after a {self.trade}" if self.trade else ""
        name = f"{self.report.account}/{self.report.instrument}"
        title = f"{name}: {self.status}{after}"
        if self.throttled:
            title = f"{name}: no check was due, so none was made; the last one{after}: {self.status}"
            title += f", at {to_iso(self.report.finished_at)[:19]}Z"
        title += ", nothing changed" if self.dry_run else ""
        return Table(title, _REPORT, [_report_row(self.report.account, self.report)])

    def tables(self) -> tuple[Table, ...]:
        """The check, and the differences if there are any."""
        found = self.discrepancies
        return (self.table(), found.table()) if found else (self.table(),)


class TradingAllowed(Answer):
    """Whether trading is allowed: true or false, with the ``reasons`` against it."""

    __slots__ = ("permission",)

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __bool__(self) -> bool:
        return not self.permission.reasons

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Every reason against trading; empty where it is allowed."""
        return self.permission.reasons

    @property
    def answered_at(self) -> datetime:
        """When that was so, by the clock of the actor that answered."""
        return self.permission.answered_at

    def to_dict(self) -> dict[str, Any]:
        """``allowed`` and the ``reasons``."""
        given = self.permission
        return {
            "account": given.account,
            "instrument": given.instrument,
            "allowed": bool(given),
            "reasons": [{"obstacle": one.obstacle.value, "text": one.text} for one in given.reasons],
            "answered_at": to_iso(given.answered_at),
            "verified_at": json_value(given.verified_at),
        }

    def table(self) -> Table:
        """One row a reason."""
        given = self.permission
        title = f"{given.account}/{given.instrument}: trading {'allowed' if given else 'not allowed'}"
        rows: list[dict[str, Cell]] = [{"obstacle": o.obstacle.value, "reason": o.text} for o in given.reasons]
        return Table(title, columns("obstacle", "reason"), rows)


@dataclass(frozen=True, repr=False)
class Recorded(Answer):
    """A durable report. ``news`` is whether it changed anything: a repeated report does not. ``warning`` is what seems
    wrong with it."""

    account: str
    instrument: str
    kind: str
    key: str
    news: bool
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same."""
        return {
            "account": self.account,
            "instrument": self.instrument,
            "kind": self.kind,
            "key": self.key,
            "news": self.news,
            "warning": self.warning,
        }

    def table(self) -> Table:
        """One row."""
        words = "recorded" if self.news else "known already"
        title = f"{self.account}/{self.instrument}: {self.kind} {self.key} {words}"
        notes = (self.warning,) if self.warning else ()
        return Table(title, columns("kind", "key", "news"), [self.to_dict()], notes)


class Halts(Answer):
    """The result of a halt or a resume; see :class:`actors.book.trading_permission.Halted`. True where it is complete:
    in force, known to every instrument concerned, and durable."""

    def __init__(self, did: str, result: Halted) -> None:
        self._did = did
        self.result = result

    @property
    def durable(self) -> bool:
        """Whether it is in the journal."""
        return self.result.failure is None

    def __bool__(self) -> bool:
        return self.durable and not self.result.silent

    def to_dict(self) -> dict[str, Any]:
        """The same in JSON's types."""
        result = self.result
        return {
            "scopes": [scope_words(scope) for scope in result.scopes],
            "instruments": list(result.instruments),
            "silent": list(result.silent),
            "remaining": [halt.to_json() for halt in result.remaining],
            "durable": self.durable,
            "failure": result.failure,
        }

    def table(self) -> Table:
        """One row for each halt that applies now."""
        result = self.result
        what = ", ".join(scope_words(scope) for scope in result.scopes) or "nothing"
        notes = [f"not durable: {result.failure}"] if result.failure else []
        if result.silent:
            notes.append(f"did not answer, and receives it when it does: {', '.join(result.silent)}")
        rows: list[dict[str, Cell]] = [
            {"halted": scope_words(halt.scope), "reason": halt.reason, "since": halt.since} for halt in result.remaining
        ]
        return Table(f"{self._did}: {what}", columns("halted", "reason", "since"), rows, tuple(notes))


class FeatureReport(Answer):
    """A model's position features beside the book's; see :class:`supervisor.client.features.Validation`. True where
    they can be traded on: the book is verified, everything was comparable, and nothing differs."""

    def __init__(self, result: Validation) -> None:
        self.result = result

    def __bool__(self) -> bool:
        return bool(self.result)

    @property
    def usable(self) -> bool:
        """Whether the book can be relied on."""
        return self.result.usable

    @property
    def reason(self) -> str | None:
        """Why it cannot be relied on."""
        return self.result.reason

    @property
    def checks(self) -> tuple[FeatureCheck, ...]:
        """Each given feature beside the book's."""
        return self.result.checks

    @property
    def differing(self) -> tuple[str, ...]:
        """The features that differ."""
        return self.result.differing

    @property
    def corrected(self) -> PositionFeatures:
        """The book's values of all features that are known."""
        return self.result.corrected

    @property
    def verified_at(self) -> datetime | None:
        """When the book was last found in step with the broker."""
        return self.result.verified_at

    def to_dict(self) -> dict[str, Any]:
        """The judgement, of JSON's types."""
        result = self.result
        corrected = {key: json_value(value) for key, value in result.corrected.model_dump(exclude_none=True).items()}
        return {
            "account": result.account,
            "instrument": result.instrument,
            "usable": result.usable,
            "reason": result.reason,
            "verified_at": json_value(result.verified_at),
            "as_of": to_iso(result.as_of),
            "differing": list(result.differing),
            "checks": [{key: json_value(value) for key, value in _check_row(one).items()} for one in result.checks],
            "corrected": corrected,
        }

    def table(self) -> Table:
        """A row a feature."""
        result = self.result
        words = f"{len(result.differing)} of {len(result.checks)} features differ"
        if not result.usable:
            words = f"not usable: {result.reason}"
        shown = columns("feature", ">given", ">book", ">difference", ">tolerance", "differs", "note")
        return Table(
            f"{result.account}/{result.instrument}: {words}", shown, [_check_row(one) for one in result.checks]
        )


def _check_row(check: FeatureCheck) -> dict[str, Cell]:
    return {
        "feature": check.feature,
        "given": check.given,
        "book": check.book,
        "difference": check.difference,
        "tolerance": check.tolerance,
        "differs": check.differs,
        "note": check.note,
    }
