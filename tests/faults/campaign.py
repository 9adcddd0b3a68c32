"""A campaign of faults against a whole house on Ray, by a seed.

    python -m tests.faults.campaign --minutes 10 --seed 1 [--per-actor 2] [--json report.json]

Four simulated brokers trade at random, a strategy trades and records, and meanwhile processes are killed and paused,
wires cut, slowed and left hanging, brokers lie, the house's clock is stepped, disk, descriptors and memory are used up.
After each burst of one to three faults everything has to be in step again. Then the faults stop, and within three
intervals every book equals its broker; every acknowledged fill is in the journal once; the chain verifies; each book
equals its replay; trading was never allowed on a book that had been wrong for longer than an interval and a time-out;
no actor has more descriptors or threads than at the beginning; and no process, thread or descriptor is left. With
--rays-own Ray's own processes are killed at last, under a `start` of the same house: see :mod:`tests.faults.rays_own`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from actors.runtime.ray_environment import prepare

prepare(None)

import psutil  # noqa: E402 - what prepare sets must be set before Ray is imported

from actors.book.checkpoint import replay  # noqa: E402 - as above
from actors.events import EventType  # noqa: E402 - as above
from actors.journal.store import Journal  # noqa: E402 - as above
from actors.runtime.ports import CallError  # noqa: E402 - as above
from supervisor.client import processes  # noqa: E402 - as above
from supervisor.client.processes import Started  # noqa: E402 - as above
from supervisor.config.loader import load  # noqa: E402 - as above
from supervisor.config.models import Configuration  # noqa: E402 - as above
from tests.faults import rays_own  # noqa: E402 - as above
from tests.faults.clocks import HouseClock  # noqa: E402 - as above
from tests.faults.injector import Injector  # noqa: E402 - as above
from tests.faults.market import PLACES, Market  # noqa: E402 - as above
from tests.faults.watch import Permissions, Strategy, Trading, Worker  # noqa: E402 - as above

NAMESPACE = "faults"
INTERVAL_S, TIMEOUT_S, GRACE_S = 1.0, 2.0, 2.0
LATE_AFTER_S = 90.0
"""A recovery that takes longer counts as late and is reported. On a shared machine it means little."""
GIVEN_UP_AFTER_S = 300.0
"""One that takes longer than this is none."""
AT_REST_WITHIN_S = 30.0
STATUS_WITHIN_S = 6.0
"""A supervisor that does not answer for so long is looked after, as `start` does."""
RAY_KEEPS = 16
"""Ray keeps descriptors and threads in a process that has left its cluster: 11 and 12 were seen."""
GROWN = 16
"""An actor has two connections to each that called it, Ray's and its own, and Ray keeps those to some that died. The
supervisor had 80 descriptors after six minutes of faults, and 81 after an hour."""
FILLS = (EventType.ORDER_FILLED, EventType.FILL_RECORDED)


@dataclass
class Outcome:
    """What a campaign saw. ``failures`` is empty where every law held."""

    seed: int
    seconds: float = 0.0
    bursts: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    recoveries_s: list[float] = field(default_factory=list)
    worst: tuple[float, str] = (0.0, "")
    late: list[str] = field(default_factory=list)
    cycles: int = 0
    market_steps: int = 0
    acknowledged: int = 0
    permissions: int = 0
    allowed: int = 0
    records: int = 0
    restarts: int = 0
    clock_steps: int = 0
    held: dict[str, tuple[int, int]] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    acknowledged_ids: list[tuple[str, str, str]] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        took_s = sorted(self.recoveries_s) or [0.0]
        mean, nine_of_ten = sum(took_s) / len(took_s), took_s[len(took_s) * 9 // 10]
        worst_s, after = self.worst
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        many, kinds_done = sum(self.faults.values()), len(self.faults)
        held = ", ".join(f"{what} {was} → {now}" for what, (was, now) in sorted(self.held.items()))
        lines = [
            f"seed {self.seed}: {many} faults of {kinds_done} kinds in {self.bursts} bursts, {self.seconds:.0f} s",
            f"  {kinds}",
            f"  {len(self.recoveries_s)} recoveries: {mean:.1f} s in the mean, nine of ten within {nine_of_ten:.1f} s",
            f"  {worst_s:.1f} s at worst (after {after}); {self.restarts} restarts",
            f"  {self.market_steps} happenings at the brokers, {self.acknowledged} fills acknowledged",
            f"  {self.cycles} cycles at least, {self.records} records",
            f"  trading was allowed {self.allowed} of {self.permissions} times it was asked",
            f"  {self.clock_steps} steps of the clock in the journal",
            f"  at the beginning and at the end: {held}",
            *(f"  {kind}: {what}" for kind, what in self.starts.items()),
            *(f"  late: {one}" for one in self.late),
            *(f"  FAILED: {failure}" for failure in self.failures),
        ]
        return "\n".join(lines if self.failures else [*lines, "  nothing lost, nothing wrong"])


def run(
    seconds: float,
    seed: int,
    directory: Path,
    per_actor: int = 1,
    on_burst: Callable[[Outcome], None] | None = None,
    *,
    with_rays_own: bool = False,
) -> Outcome:
    """Run a campaign; its journal and configuration are in ``directory``. ``on_burst`` receives what was seen so far.
    ``with_rays_own`` kills Ray's own processes at last."""
    outcome = Outcome(seed)
    clock = HouseClock(directory)
    before = left_over()
    market = Market(seed)
    try:
        configuration = _configuration(directory, market, per_actor)
        with (
            clock.preloaded(),
            processes.started(configuration, detach=False, on_step=lambda _: None, dashboard=False) as running,
        ):
            _run(seconds, seed, market, running, clock, outcome, on_burst)
        _check_journal(configuration, market, outcome)
        if with_rays_own and not outcome.failures:
            _kill_rays_own(directory / "accounts.yaml", configuration, outcome)
            _check_journal(configuration, market, outcome)
    finally:
        market.close()
    check_left_over(before, outcome)
    return outcome


def _kill_rays_own(path: Path, configuration: Configuration, outcome: Outcome) -> None:
    def in_step(status: dict[str, Any], since: float) -> bool:
        rows = _rows(status)
        return len(rows) == len(PLACES) and all(_is_verified(row, since) for row in rows.values())

    for done in rays_own.kill_each(path, configuration, in_step):
        outcome.failures += done.failures
        came_back = "came back by itself" if done.ended is None else f"`start` ended with {done.ended} and said why"
        outcome.starts[done.kind] = f"{came_back}; in step again after {done.took_s:.0f} s"
        outcome.faults[done.kind] = outcome.faults.get(done.kind, 0) + 1


def _run(
    seconds: float,
    seed: int,
    market: Market,
    running: Started,
    clock: HouseClock,
    outcome: Outcome,
    on_burst: Callable[[Outcome], None] | None,
) -> None:
    cycles = Cycles()
    injector = Injector(seed, market, running, clock, NAMESPACE)
    strategy = Strategy(market, running)
    permissions = Permissions(market, NAMESPACE, INTERVAL_S * 1.5 + TIMEOUT_S + GRACE_S)
    workers: tuple[Worker, ...] = (Trading(market), strategy, permissions)
    _await_in_step(running, time.time(), "everything comes up", outcome, cycles)
    held = _held(running)
    for worker in workers:
        worker.start()
    began_s = time.monotonic()
    try:
        while time.monotonic() - began_s < seconds and not outcome.failures:
            done = injector.burst()
            outcome.bursts += 1
            took_s = _await_in_step(running, time.time(), " + ".join(done), outcome, cycles)
            outcome.recoveries_s.append(took_s)
            outcome.worst = max(outcome.worst, (took_s, " + ".join(done)))
            if took_s > LATE_AFTER_S:
                outcome.late.append(f"in step {took_s:.0f} s after {' + '.join(done)}")
            outcome.faults = injector.by_kind
            if on_burst is not None:
                on_burst(outcome)
    finally:  # Ray ends a process of which a thread still calls it after it has left: the error would be lost
        for worker in workers:
            worker.end()
    outcome.seconds = time.monotonic() - began_s
    outcome.cycles = cycles.seen
    for worker in workers:
        if worker.failure is not None:
            outcome.failures.append(f"{worker.name}: {worker.failure!r}")
    for broker in market.brokers.values():
        broker.faults.clear()
    clock.step_to(0.0)
    strategy.report()
    _await_equal(running, market, outcome)
    _check_held(held, _held(running), outcome)
    status = _status(running)
    outcome.market_steps, outcome.acknowledged = market.steps, len(strategy.acknowledged)
    outcome.permissions, outcome.allowed = permissions.asked, permissions.allowed
    outcome.restarts = sum(row["restarts"] for row in status["supervisor"]["actors"])
    outcome.failures += [f"trading was allowed on a wrong book: {one}" for one in permissions.violations]
    outcome.acknowledged_ids = [(one.account, one.instrument, one.fill_id) for one in strategy.acknowledged]


def _configuration(directory: Path, market: Market, per_actor: int) -> Configuration:
    path = directory / "accounts.yaml"
    path.write_text(
        f"ray: {{address: local, namespace: {NAMESPACE}}}\n"
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        f"defaults: {{interval_s: {INTERVAL_S:g}, timeout_ms: {TIMEOUT_S * 1000:g}, settle_ms: 100, "
        f"confirm_gap_ms: 50, unverified_s: {INTERVAL_S + TIMEOUT_S:g}, instruments_per_actor: {per_actor}}}\n"
        "supervision: {intensity: 1000, period_s: 60, backoff_s: [0.1, 1]}\n"
        f"accounts:\n{market.accounts()}"
    )
    return load(path)


def _rows(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{a['account']}/{i['instrument']}": i for a in status["accounts"] for i in a["instruments"]}


class Cycles:
    """How many cycles the instruments have run over all their lives, as far as their last status shows."""

    def __init__(self) -> None:
        self._ended = 0
        self._now: dict[str, int] = {}

    @property
    def seen(self) -> int:
        """Of all lives together."""
        return self._ended + sum(self._now.values())

    def note(self, rows: dict[str, dict[str, Any]]) -> None:
        """A count that is smaller than before is that of another life."""
        for name, row in rows.items():
            count = row["health"]["cycles"]
            if count < (before := self._now.get(name, 0)):
                self._ended += before
            self._now[name] = count


def _await_in_step(running: Started, since: float, what: str, outcome: Outcome, cycles: Cycles) -> float:
    """Until every instrument is up and was verified after ``since``; how long that took."""
    began_s = time.monotonic()
    found: object = None
    while time.monotonic() - began_s < GIVEN_UP_AFTER_S:
        try:
            rows = _rows(running.status(timeout_s=STATUS_WITHIN_S))
        except CallError as error:
            found = error
            running.bring_back()  # as `start` does
        else:
            cycles.note(rows)
            behind = {name: _why(row) for name, row in rows.items() if not _is_verified(row, since)}
            if len(rows) == len(PLACES) and not behind:
                return time.monotonic() - began_s
            found = behind
        time.sleep(0.1)  # there is no event for it outside the cluster
    outcome.failures.append(f"not in step within {GIVEN_UP_AFTER_S:g} s after {what}: {found}")
    return time.monotonic() - began_s


def _is_verified(row: dict[str, Any], since: float) -> bool:
    age_s = row["health"]["verified_age_s"]
    return row["health"]["state"] == "UP" and age_s is not None and time.time() - age_s > since


def _why(row: dict[str, Any]) -> str:
    open_ones = [one for one in row["discrepancies"] if not one["resolved"]]
    found = [f"{one['type']} {one['key']}: {one['book_value']} → {one['broker_value']}" for one in open_ones]
    return "; ".join([row["error"] or row["status"], *found])


def _await_equal(running: Started, market: Market, outcome: Outcome) -> None:
    began_s = time.monotonic()
    differ: object = "nothing was reported"
    while time.monotonic() - began_s < AT_REST_WITHIN_S:
        try:
            rows = _rows(running.status(timeout_s=STATUS_WITHIN_S))
        except CallError as error:
            differ = error
        else:
            differ = {
                f"{account}/{symbol}": (books, held, _why(rows[f"{account}/{symbol}"]))
                for account, symbol in PLACES
                if (books := _legs(rows[f"{account}/{symbol}"])) != (held := _plain(market.held(account, symbol)[0]))
                or rows[f"{account}/{symbol}"]["status"] != "SUCCESS"
            }
            if not differ:
                return
        time.sleep(0.2)  # as above
    outcome.failures.append(f"{AT_REST_WITHIN_S:g} s after the last fault books and brokers differ: {differ}")


def _legs(row: dict[str, Any]) -> dict[str, str]:
    return {leg["leg"]: leg["quantity"] for leg in row["book"]["legs"]}


def _plain(legs: dict[str, Any]) -> dict[str, str]:
    return {leg: f"{quantity.normalize():f}" for leg, quantity in legs.items()}


def _check_journal(configuration: Configuration, market: Market, outcome: Outcome) -> None:
    journal = Journal.open(configuration.journal_url, read_only=True)
    try:
        checked = journal.verify()
        outcome.records = checked.records
        if not checked.ok:
            outcome.failures.append(f"the chain does not verify: {checked}")
        outcome.clock_steps = sum(1 for _ in journal.records(types=(EventType.CLOCK_STEPPED,)))
        if outcome.faults.get("clock stepped") and not outcome.clock_steps:
            outcome.failures.append("the clock was stepped, and the journal does not say so")
        filled = Counter(
            (record.stream, str(record.event.payload.get("fill_id")))
            for record in journal.records()
            if record.event.type in FILLS
        )
        twice = {key: count for key, count in filled.items() if count > 1}
        if twice:
            outcome.failures.append(f"fills that are in the journal more than once: {twice}")
        for account, symbol, fill_id in outcome.acknowledged_ids:
            if not filled[f"{account}/{symbol}", fill_id] and not _restated(journal, f"{account}/{symbol}", fill_id):
                outcome.failures.append(f"acknowledged and not in the journal: {account}/{symbol} {fill_id}")
        for account, symbol in PLACES:
            book = replay(account, symbol, journal.records(stream=f"{account}/{symbol}"))
            legs = {leg: held.quantity for leg, held in book.legs.items() if held.quantity}
            if _plain(legs) != _plain(market.held(account, symbol)[0]):
                outcome.failures.append(f"the replay of {account}/{symbol} is {legs}")
    finally:
        journal.close()


def _restated(journal: Journal, stream: str, fill_id: str) -> bool:
    found = journal.records(stream=stream, types=(EventType.FILL_RESTATED,))
    return any(fill_id in json.dumps(record.event.payload) for record in found)


@dataclass(frozen=True, slots=True)
class LeftOver:
    """What this process has, and what it has started."""

    descriptors: int
    threads: int
    children: frozenset[int]

    def exceeds(self, before: LeftOver) -> bool:
        """Whether there is more than Ray keeps for itself."""
        more = max(self.descriptors - before.descriptors, self.threads - before.threads)
        return more > RAY_KEEPS


def left_over() -> LeftOver:
    """What there is now."""
    gc.collect()
    me = psutil.Process()
    children = frozenset(child.pid for child in me.children(recursive=True))
    return LeftOver(me.num_fds(), me.num_threads(), children)


def check_left_over(before: LeftOver, outcome: Outcome, within_s: float = 15.0) -> None:
    """Compare with what was before: whatever was started and lives, and more descriptors or threads than Ray keeps, are
    failures."""
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before.children]
    _, alive = psutil.wait_procs(left, timeout=within_s)
    names = [child.name() for child in alive if child.status() != psutil.STATUS_ZOMBIE]
    if names:
        outcome.failures.append(f"processes that are left: {names}")
    until_s = time.monotonic() + within_s
    now = left_over()
    while now.exceeds(before) and time.monotonic() < until_s:
        time.sleep(0.2)  # threads of sockets that were closed end by themselves
        now = left_over()
    for what, was, are in (
        ("descriptors", before.descriptors, now.descriptors),
        ("threads", before.threads, now.threads),
    ):
        outcome.held[f"{what} of the campaign"] = (was, are)
        if are > was + RAY_KEEPS:
            outcome.failures.append(f"{what} that are left: {was} before, {are} after")


def _status(running: Started) -> dict[str, Any]:
    """What the supervisor says while nothing is wrong with it: a busy machine may keep it from answering once."""
    until_s = time.monotonic() + AT_REST_WITHIN_S
    while True:
        try:
            return running.status(timeout_s=STATUS_WITHIN_S)
        except CallError:
            if time.monotonic() > until_s:
                raise


def _held(running: Started) -> dict[str, int]:
    """The most descriptors and threads that an actor of each kind has, once each has reported which process it is."""
    most: dict[str, int] = {}
    began_s = time.monotonic()
    while True:
        status = _status(running)["supervisor"]
        pids = [("supervisor", status["pid"]), *((row["kind"], row["pid"]) for row in status["actors"])]
        if all(pid is not None for _, pid in pids):
            break
        assert time.monotonic() - began_s < AT_REST_WITHIN_S, f"an actor without a process: {status['actors']}"
        time.sleep(0.2)  # as above
    for kind, pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for what, many in (("descriptors", process.num_fds()), ("threads", process.num_threads())):
                name = f"{what} of {kind}"
                most[name] = max(most.get(name, 0), many)
    return most


def _check_held(before: dict[str, int], after: dict[str, int], outcome: Outcome) -> None:
    outcome.held |= {name: (before[name], many) for name, many in after.items()}
    for name, many in after.items():
        if many > before[name] + GROWN:
            outcome.failures.append(f"{name} leak: {before[name]} at the beginning, {many} at the end")


def _print(outcome: Outcome) -> None:
    many, took_s = sum(outcome.faults.values()), outcome.recoveries_s[-1]
    print(f"{many} faults, in step again after {took_s:.1f} s", file=sys.stderr, flush=True)


def main() -> int:
    """Run one by the command line's words."""
    words = argparse.ArgumentParser(
        prog="python -m tests.faults.campaign", description="Run a campaign of faults against a whole house on Ray."
    )
    words.add_argument("--minutes", type=float, default=2.0, help="how long faults go on (default 2)")
    words.add_argument("--seed", type=int, default=int(time.time()), help="the seed of the faults (default: a new one)")
    words.add_argument("--per-actor", type=int, default=1, help="instruments that share a process (default 1)")
    words.add_argument("--rays-own", action="store_true", help="at last kill Ray's raylet and GCS under a `start`")
    words.add_argument("--json", type=Path, help="also write the report to this file")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        outcome = run(
            given.minutes * 60,
            given.seed,
            Path(directory),
            given.per_actor,
            _print,
            with_rays_own=given.rays_own,
        )
    print(outcome)
    if given.json is not None:
        given.json.write_text(json.dumps(asdict(outcome), indent=2))
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
