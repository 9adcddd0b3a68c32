"""The status document as Prometheus metrics. Pure: a document in, metric families out.

The laws of this module: names and units follow Prometheus' conventions; labels are accounts, instruments, brokers,
actors, types and severities, so that the configuration bounds their number; an unknown value has no sample, and never
the value of a healthy one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX: Final = "reconciliation"
_OF_INSTRUMENT: Final = ("account", "instrument")
_COUNTED: Final = (
    ("cycles", "Cycles that an instrument has finished, across restarts of its actor."),
    ("corrections", "Corrections made to a book."),
    ("discrepancies", "Differences found between a book and its broker."),
)


_OF_ACCOUNT: Final = (
    ("call_seconds", "Total seconds spent on fetches from a broker."),
    ("call_errors", "Fetches from a broker that failed."),
    ("clock_steps", "How often the clock of an account's machine was set."),
)
_OF_JOURNAL: Final = (
    ("commits", "journal_commits", "Commits of records, since the journal's actor began."),
    ("failed_commits", "journal_commit_failures", "Commits that failed, since the journal's actor began."),
)


def families(status: Mapping[str, Any] | None, age_s: float | None) -> Iterator[Metric]:
    """The metrics of a status document that is ``age_s`` seconds old. Without a document (``None``) no supervisor
    answers, which is a metric too."""
    yield _gauge("supervisor_up", "Whether the supervisor answers.", {(): 1 if status is not None else 0})
    if status is None:
        return
    if age_s is not None:
        yield _gauge("status_age_seconds", "How old everything below is.", {(): age_s})
    yield from _of_instruments(status)
    yield from _of_accounts(status)
    yield from _of_actors(status["supervisor"])


def _of_instruments(status: Mapping[str, Any]) -> Iterator[Metric]:
    rows = {
        (account["account"], row["instrument"]): row for account in status["accounts"] for row in account["instruments"]
    }
    health = {key: row["health"] for key, row in rows.items()}
    for name, words in _COUNTED:
        yield _counter(name, words, {key: one[name] for key, one in health.items()}, _OF_INSTRUMENT)
    by_status = {
        (*key, status): count
        for key, one in health.items()
        for status, count in one.get("cycles_by_status", {}).items()
    }
    words = "Cycles that an instrument has finished, by how they ended."
    yield _counter("cycles_by_status", words, by_status, (*_OF_INSTRUMENT, "status"))
    ages = {key: one["verified_age_s"] for key, one in health.items() if one["verified_age_s"] is not None}
    yield _gauge("verified_age_seconds", "When a book was last verified against its broker.", ages, _OF_INSTRUMENT)
    in_step = {key: int(row["status"] == "SUCCESS") for key, row in rows.items()}
    yield _gauge("in_step", "Whether a book is verified, complete and without a break.", in_step, _OF_INSTRUMENT)
    durations = {key: one["last_cycle_ms"] / 1000 for key, one in health.items() if one["last_cycle_ms"] is not None}
    yield _gauge("last_cycle_seconds", "How long the last cycle took.", durations, _OF_INSTRUMENT)
    halted = {key: int(bool(one["halted"])) for key, one in health.items() if one["halted"] is not None}
    yield _gauge("trading_halted", "Whether an operator has halted trading.", halted, _OF_INSTRUMENT)
    paused = {key: int(one["paused"]) for key, one in health.items()}
    yield _gauge("paused", "Whether an operator has paused an instrument's cycles.", paused, _OF_INSTRUMENT)
    found: Counter[tuple[str, ...]] = Counter()
    for account in status["accounts"]:
        found.update(_breaks(account["account"], "", account["discrepancies"]))
        for row in account["instruments"]:
            found.update(_breaks(account["account"], row["instrument"], row["discrepancies"]))
    labels = (*_OF_INSTRUMENT, "type", "severity")
    yield from _ages(status)
    yield _gauge("open_breaks", "Open differences; without instrument: not managed by an actor.", found, labels)


def _ages(status: Mapping[str, Any]) -> Iterator[Metric]:
    """The age of the open breaks, and the work on them, where the document has them."""
    buckets: Counter[tuple[str, ...]] = Counter()
    states: Counter[tuple[str, ...]] = Counter()
    oldest: dict[tuple[str, ...], float] = {}
    for account in status["accounts"]:
        for one in chain(account["discrepancies"], *(row["discrepancies"] for row in account["instruments"])):
            if one["resolved"] or "age" not in one:
                continue
            kind = (account["account"], one["type"], one["severity"])
            buckets[*kind, one["age"]] += 1
            states[account["account"], one["severity"], one["state"]] += 1
            oldest[kind] = max(oldest.get(kind, 0.0), one["age_s"])
    labels = ("account", "type", "severity")
    yield _gauge("open_breaks_by_age", "Open differences by age.", buckets, (*labels, "age"))
    words = "Open differences by the state of the work on them."
    yield _gauge("open_breaks_by_state", words, states, ("account", "severity", "state"))
    yield _gauge("oldest_break_age_seconds", "Age of the oldest open difference.", oldest, labels)


def _breaks(account: str, instrument: str, found: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for one in found:
        if not one["resolved"]:
            yield account, instrument, one["type"], one["severity"]


def _of_accounts(status: Mapping[str, Any]) -> Iterator[Metric]:
    accounts = {(one["account"], one["broker"]): one for one in status["accounts"]}
    labels = ("account", "broker")
    calls = {key: one["broker_calls"] for key, one in accounts.items()}
    yield _counter("broker_calls", "Requests sent to a broker.", calls, labels)
    known = {key: one["health"] for key, one in accounts.items() if "call_seconds" in (one.get("health") or {})}
    for name, words in _OF_ACCOUNT:
        yield _counter(name, words, {key: one[name] for key, one in known.items()}, labels)
    connected = {key: int(one["connection"] == "CONNECTED") for key, one in accounts.items()}
    yield _gauge("account_connected", "Whether a broker answers.", connected, labels)
    streams = {key: one["health"]["stream"] for key, one in accounts.items() if one.get("health")}
    live = {key: int(stream == "LIVE") for key, stream in streams.items() if stream is not None}
    yield _gauge("stream_live", "Whether a broker's stream is live.", live, labels)


def _of_actors(supervisor: Mapping[str, Any]) -> Iterator[Metric]:
    actors = {(one["name"], one["kind"]): one for one in supervisor["actors"]}
    labels = ("actor", "kind")
    restarts = {key: one["restarts"] for key, one in actors.items()}
    yield _counter("actor_restarts", "Restarts of an actor since the supervisor began.", restarts, labels)
    up = {key: int(one["state"] == "UP") for key, one in actors.items()}
    yield _gauge("actor_up", "Whether an actor is up.", up, labels)
    quarantined = {key: int(one["state"] == "QUARANTINED") for key, one in actors.items()}
    yield _gauge(
        "actor_quarantined", "Whether an actor is in quarantine until somebody restarts it.", quarantined, labels
    )
    checks = supervisor["self_check"]
    yield _counter("self_checks", "Books compared with their journal.", {(): checks["checked"]})
    yield _counter("self_check_failures", "Books that differed from their journal.", {(): checks["failed"]})
    yield from _of_alerts(supervisor.get("alerts"))
    journal = supervisor["journal"]
    if journal:
        yield _gauge("journal_up", "Whether the journal can be written.", {(): int(not journal.get("error"))})
        if journal.get("last_seq") is not None:
            yield _counter("journal_records", "Records in the journal.", {(): journal["last_seq"]})
        for key, name, words in _OF_JOURNAL:
            if key in journal:
                yield _counter(name, words, {(): journal[key]})
        if "append_us" in journal:
            words = "Total seconds spent on commits, since the journal's actor began."
            yield _counter("journal_append_seconds", words, {(): journal["append_us"] / 1e6})
        if "waiting" in journal:
            yield _gauge("journal_queue_depth", "Appends that wait to be written.", {(): journal["waiting"]})


def _of_alerts(alerts: Mapping[str, Any] | None) -> Iterator[Metric]:
    if alerts is None:
        return
    by_route = {
        "alerts_delivered": "Messages that a route delivered.",
        "alert_failures": "Deliveries that failed on a route.",
    }
    keys = {"alerts_delivered": "delivered", "alert_failures": "failed"}
    for name, words in by_route.items():
        yield _counter(name, words, {(route,): count for route, count in alerts[keys[name]].items()}, ("route",))
    failing = {(route,): int(route in alerts["failing"]) for route in alerts["delivered"]}
    yield _gauge("alert_route_failing", "Whether the last delivery on a route failed.", failing, ("route",))
    waiting = {(route,): count for route, count in alerts["waiting"].items()}
    yield _gauge("alert_queue_depth", "Messages waiting for a route.", waiting, ("route",))


def _gauge(name: str, words: str, samples: Mapping[Any, float], labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
    made = GaugeMetricFamily(f"{PREFIX}_{name}", words, labels=labels)
    for key, value in samples.items():
        made.add_metric(key, value)
    return made


def _counter(name: str, words: str, samples: Mapping[Any, float], labels: tuple[str, ...] = ()) -> CounterMetricFamily:
    made = CounterMetricFamily(f"{PREFIX}_{name}", words, labels=labels)
    for key, value in samples.items():
        made.add_metric(key, value)
    return made
