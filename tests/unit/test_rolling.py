"""Code is upgraded actor by actor under a supervisor: it is replaced first, and the next one goes on with the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType
from actors.journal.store import Journal
from actors.names import SUPERVISOR
from actors.runtime.deployment import Deployment
from actors.runtime.ports import ActorUnavailable
from brokers.errors import Unreachable
from brokers.versions import MESSAGES, OLDEST_READ, PROGRAM, Program
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import ChangeRefused
from supervisor.presentation.event_text import describe
from tests.unit.hall import EVERYBODY, PER_ACTOR, TWO_ACCOUNTS, Hall, Status, restarts, rows, states
from tests.unit.virtual_time import virtual_time

OLD = Program("0.0.9", MESSAGES, OLDEST_READ)
ORDER = ["cfd/EURUSD", "cfd", "fx/EUR_USD", "fx/GBP_JPY", "fx", "audit"]
COMES_UP_IN_S = 1.0
INTERVAL_S = 1.0
AS_OLD_AS_EVER_S = 2.0
"""How old a proof gets where nothing happens: an interval, and what the account knows of the one before."""


class TwoVersions(Hall):
    """What starts runs the ``installed`` version, and says so: a process keeps what it was started with."""

    program = OLD

    def __init__(self, directory: Path, accounts: str) -> None:
        super().__init__(directory, accounts)
        self.installed = OLD
        self.runs: dict[str, Program] = {}
        self.broken: set[str] = set()  # those that do not start with the version that is installed
        self.not_installed_for: set[str] = set()
        self.run = Run("one", {}, self.clock())
        self.deaths = 0
        self._made = self.cluster.create
        self.cluster.create = self._create  # type: ignore[method-assign]  # it notes the version
        self.cluster.renew = self._renew  # type: ignore[method-assign]  # as Ray, which starts it again
        self.runtime.deliver = self._deliver

    async def begin(self) -> None:
        """A run of its own, whose beginning the journal knows."""
        await self.cluster.kill(SUPERVISOR)
        self.new_supervisor(self.run)
        await self.up()

    async def _create(self, deployment: Deployment, timeout_s: float, may_begin: asyncio.Event | None = None) -> None:
        name = deployment.name
        await asyncio.sleep(COMES_UP_IN_S)
        if name in self.broken and self.installed is not OLD:
            raise RuntimeError("it cannot be imported")
        self.runs[name] = OLD if name in self.not_installed_for else self.installed
        await self._made(deployment, timeout_s, may_begin)
        for carrier in self.carriers():
            self.runs.setdefault(repr(carrier), self.installed)

    async def _deliver(self, actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await send()
        if method == "program":
            return self.runs[actor]
        if method != "health":
            return answer
        cell = next((repr(one) for one in self.carriers() if one.carries(actor)), actor)
        program = self.runs[cell]
        return answer | {"program": program.to_json()} if isinstance(answer, dict) else replace(answer, program=program)

    async def _renew(self, name: str) -> None:
        self._renewing = asyncio.ensure_future(self._again(name))  # by Ray, and by nobody who ends with it

    async def _again(self, name: str) -> None:
        await self.cluster.kill(name)
        await asyncio.sleep(COMES_UP_IN_S)
        self.program = OLD if name in self.not_installed_for else self.installed
        self.new_supervisor(self.run)

    async def killed_supervisor(self) -> None:
        """It dies, and Ray starts it again with what is installed."""
        await self._again(SUPERVISOR)

    def notes(self, kind: EventType = EventType.OPERATOR_ACTION) -> list[Any]:
        journal = Journal.open(self.configuration.journal_url, read_only=True)
        try:
            assert journal.verify().ok
            return [record.event for record in journal.records(types=(kind,))]
        finally:
            journal.close()


@asynccontextmanager
async def a_house(directory: Path, accounts: str = TWO_ACCOUNTS) -> AsyncIterator[TwoVersions]:
    hall = TwoVersions(directory, accounts)
    try:
        await hall.begin()
        yield hall
    finally:
        await hall.supervisor.stop()


def programs(status: Status) -> dict[str, str]:
    return {row["name"]: row["program"] for row in status["supervisor"]["actors"]}


async def watched(hall: TwoVersions) -> list[Status]:
    """Every look until the roll has ended."""
    seen: list[Status] = []
    for _ in range(4_000):
        if SUPERVISOR in hall.runtime.names():
            status = await hall.supervisor.status()
            seen.append(status)
            rolling = status["supervisor"]["rolling"]
            if rolling is not None and rolling["state"] != "RUNNING":
                return seen
        await asyncio.sleep(0.05)
    raise AssertionError(f"it does not end: {seen[-1]}")


def rolls(hall: TwoVersions) -> list[tuple[str, Any]]:
    found = [event.payload for event in hall.notes() if event.payload.get("action") == "roll"]
    return [(str(one["state"]), one.get("actor")) for one in found]


@virtual_time
async def test_the_supervisor_is_replaced_first_and_then_the_actors_one_after_another_and_nothing_counts(
    tmp_path: Path,
) -> None:
    async with a_house(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        before = await hall.until(lambda s: rows(s)["fx/EUR_USD"]["book"]["legs"] != [], "it is in the book")
        books = {name: row["book"] for name, row in rows(before).items()}
        hall.installed = PROGRAM
        begun = await hall.supervisor.roll(PROGRAM, "jane@house")
        assert (begun.to, begun.away_from, begun.supervisor) == (PROGRAM.version, ("0.0.9",), True)
        assert set(begun.actors) == EVERYBODY
        old = hall.supervisor
        seen = await watched(hall)
        assert hall.supervisor is not old
        for status in seen:
            away = [name for name, state in states(status).items() if state != "UP"]
            assert len(away) <= 1, "one after another"
            known = [row["health"]["verified_age_s"] for row in rows(status).values()]
            oldest_s = max(age for age in known if age is not None)
            assert oldest_s <= AS_OLD_AS_EVER_S + COMES_UP_IN_S + INTERVAL_S, "one start, and one interval"
        last = seen[-1]
        assert set(programs(last).values()) == {PROGRAM.version}
        assert last["supervisor"]["program"] == PROGRAM.version
        assert {name: restarts(last, name) for name in EVERYBODY} == dict.fromkeys(EVERYBODY, 0)
        assert last["supervisor"]["restarts"] == 0
        assert {name: row["book"] for name, row in rows(await hall.up()).items()} == books
        rolling = last["supervisor"]["rolling"]
        assert (rolling["state"], rolling["left"], rolling["by"]) == ("DONE", [], "jane@house")
        replaced = [one.payload for one in hall.notes(EventType.ACTOR_RESTARTED)]
        assert [one["actor"] for one in replaced if one.get("to") == PROGRAM.version] == ORDER
        assert [one["actor"] for one in replaced if one.get("counted") is not False] == [], "nobody crashed"
        assert {(one["from"], one["to"]) for one in replaced if "to" in one} == {("0.0.9", PROGRAM.version)}
        assert rolls(hall) == [("began", None), ("done", None)]
        texts = [describe(event) for event in hall.notes() if event.payload.get("action") == "roll"]
        assert texts == [
            f"jane@house began to upgrade 6 actors and the supervisor: 0.0.9 → {PROGRAM}",
            f"every actor runs {PROGRAM}",
        ]


@virtual_time
async def test_instruments_that_share_a_process_move_into_one_of_the_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PER_ACTOR, "now", "10")
    async with a_house(tmp_path) as hall:
        assert {repr(one) for one in hall.carriers()} == {"fx~1", "cfd~1"}
        hall.installed = PROGRAM
        await hall.supervisor.roll(PROGRAM, "tests")
        seen = await watched(hall)
        assert set(programs(seen[-1]).values()) == {PROGRAM.version}
        assert {repr(one) for one in hall.carriers()} == {"fx~2", "cfd~2"}, "those of the old version have ended"


@virtual_time
async def test_the_first_that_does_not_come_up_ends_it_and_it_can_be_repeated(tmp_path: Path) -> None:
    async with a_house(tmp_path) as hall:
        hall.installed = PROGRAM
        hall.broken.add("fx/EUR_USD")
        await hall.supervisor.roll(PROGRAM, "tests")
        rolling = (await watched(hall))[-1]["supervisor"]["rolling"]
        assert (rolling["state"], rolling["failed"]) == ("STOPPED", "fx/EUR_USD")
        assert "it cannot be imported" in rolling["reason"]
        assert set(rolling["left"]) == {"audit", "fx", "fx/GBP_JPY"}
        await asyncio.sleep(30)
        status = await hall.supervisor.status()
        assert {name: programs(status)[name] for name in ("audit", "fx", "fx/GBP_JPY")} == dict.fromkeys(
            ("audit", "fx", "fx/GBP_JPY"), "0.0.9"
        )
        assert status["supervisor"]["rolling"]["state"] == "STOPPED"
        text = describe(hall.notes()[-1])
        assert text.startswith(f"the upgrade to {PROGRAM} stopped at fx/EUR_USD: ")
        assert text.endswith("; of another version: audit, fx, fx/GBP_JPY")
        hall.broken.clear()
        await hall.supervisor.restart("fx/EUR_USD")
        await hall.up()
        begun = await hall.supervisor.roll(PROGRAM, "tests")
        assert (set(begun.actors), begun.supervisor) == ({"audit", "fx", "fx/GBP_JPY"}, False)
        last = (await watched(hall))[-1]
        assert set(programs(last).values()) == {PROGRAM.version}
        again = await hall.supervisor.roll(PROGRAM, "tests")
        assert (again.actors, again.supervisor) == ((), False)
        assert rolls(hall) == [("began", None), ("stopped", "fx/EUR_USD"), ("began", None), ("done", None)]


@virtual_time
async def test_a_supervisor_that_dies_in_it_goes_on_with_it_and_that_counts(tmp_path: Path) -> None:
    async with a_house(tmp_path) as hall:
        hall.installed = PROGRAM
        await hall.supervisor.roll(PROGRAM, "tests")
        await hall.until(lambda s: "cfd" in programs(s) and programs(s)["cfd"] == PROGRAM.version, "half way")
        await hall.killed_supervisor()
        last = (await watched(hall))[-1]
        assert last["supervisor"]["rolling"]["state"] == "DONE"
        assert set(programs(last).values()) == {PROGRAM.version}
        assert last["supervisor"]["restarts"] == 1
        assert rolls(hall) == [("began", None), ("done", None)]
        replaced = [one.payload["actor"] for one in hall.notes(EventType.ACTOR_RESTARTED) if one.payload.get("to")]
        assert sorted(set(replaced)) == sorted(ORDER)


@virtual_time
async def test_a_supervisor_that_comes_up_with_the_old_version_says_that_it_is_unfinished(tmp_path: Path) -> None:
    async with a_house(tmp_path) as hall:
        hall.installed = PROGRAM
        hall.not_installed_for.add(SUPERVISOR)
        await hall.supervisor.roll(PROGRAM, "tests")
        await asyncio.sleep(2)
        last = (await watched(hall))[-1]
        rolling = last["supervisor"]["rolling"]
        assert (rolling["state"], rolling["failed"]) == ("STOPPED", SUPERVISOR)
        assert rolling["reason"] == f"the supervisor came up with 0.0.9: {PROGRAM} is not installed where it runs"
        assert set(programs(last).values()) == {"0.0.9"}
        assert rolls(hall) == [("began", None), ("stopped", SUPERVISOR)]
        assert last["supervisor"]["restarts"] == 0, "it was ended on purpose"
        await hall.killed_supervisor()
        last = await hall.until(lambda s: s["supervisor"]["rolling"] is not None, "it knows of it")
        assert last["supervisor"]["rolling"]["state"] == "STOPPED", "and does not begin it again"


@virtual_time
async def test_one_on_a_machine_without_the_new_version_ends_it(tmp_path: Path) -> None:
    async with a_house(tmp_path) as hall:
        hall.installed = PROGRAM
        hall.not_installed_for.add("cfd")
        await hall.supervisor.roll(PROGRAM, "tests")
        rolling = (await watched(hall))[-1]["supervisor"]["rolling"]
        assert (rolling["state"], rolling["failed"]) == ("STOPPED", "cfd")
        assert rolling["reason"] == f"it came up with 0.0.9: {PROGRAM} is not installed where it runs"


@virtual_time
async def test_a_paused_instrument_is_replaced_and_stays_paused(tmp_path: Path) -> None:
    async with a_house(tmp_path) as hall:
        await hall.supervisor.pause("fx", "EUR_USD", "tests")
        hall.installed = PROGRAM
        await hall.supervisor.roll(PROGRAM, "tests")
        last = (await watched(hall))[-1]
        assert last["supervisor"]["rolling"]["state"] == "DONE"
        paused = {name for name, row in rows(last).items() if row["health"]["paused"]}
        assert paused == {"fx/EUR_USD"}


@virtual_time
async def test_a_broker_that_is_away_does_not_keep_it_from_its_end(tmp_path: Path) -> None:
    async with a_house(tmp_path) as hall:
        hall.brokers["fx"].failing = Unreachable("fetch", "fx", "the line is down", "wait")
        await hall.until(lambda s: rows(s)["fx/EUR_USD"]["status"] == "DEGRADED", "it is seen")
        hall.installed = PROGRAM
        await hall.supervisor.roll(PROGRAM, "tests")
        assert (await watched(hall))[-1]["supervisor"]["rolling"]["state"] == "DONE"


@virtual_time
async def test_nothing_is_begun_between_versions_that_do_not_read_each_other_nor_while_the_journal_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_house(tmp_path) as hall:
        strange = Program("9.0.0", MESSAGES + 8, MESSAGES + 1)
        found = rf"runs 0\.0\.9, and the two do not read each other's messages .* read from {MESSAGES + 1} on"
        with pytest.raises(ChangeRefused, match=found) as refused:
            await hall.supervisor.roll(strange, "tests")
        assert "Stop, and start with the new version" in str(refused.value)
        hall.runs["cfd"] = Program("0.0.1")
        await asyncio.sleep(5)
        with pytest.raises(ChangeRefused, match=r"cfd runs 0\.0\.1, and the two do not read each other's messages"):
            await hall.supervisor.roll(PROGRAM, "tests")
        hall.runs["cfd"] = OLD
        await asyncio.sleep(5)
        begun = await hall.supervisor.roll(PROGRAM, "tests", dry_run=True)
        assert set(begun.actors) == EVERYBODY
        made, deliver = hall.supervisor, hall.runtime.deliver

        async def away(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
            if actor == "audit" and method == "append":
                raise ActorUnavailable(actor, method, "it is away")
            return await deliver(actor, method, send)

        hall.runtime.deliver = away
        with pytest.raises(ChangeRefused, match="it is journaled first, and the journal does not answer"):
            await hall.supervisor.roll(PROGRAM, "tests")
        hall.runtime.deliver = deliver
        await hall.up()
        assert hall.supervisor is made, "it lives on"
        assert [state for state, _ in rolls(hall)] in ([], ["began", "stopped"])


@virtual_time
async def test_one_is_under_way_at_a_time_and_a_stop_ends_it(tmp_path: Path) -> None:
    async with a_house(tmp_path) as hall:
        hall.installed = PROGRAM
        await hall.supervisor.roll(PROGRAM, "tests")
        await hall.until(lambda s: s["supervisor"]["program"] == PROGRAM.version, "the next supervisor")
        await hall.until(lambda s: s["supervisor"]["rolling"] is not None, "it knows")
        await hall.supervisor.roll(PROGRAM, "tests")  # only says what is left
        with pytest.raises(ChangeRefused, match=f"the one to {PROGRAM.version.replace('+', '.')} is under way"):
            await hall.supervisor.roll(replace(PROGRAM, version="3.0.0"), "tests")
        await hall.supervisor.stop("tests")
        assert rolls(hall) == [("began", None), ("stopped", None)]
        with pytest.raises(ChangeRefused, match="the supervisor is stopping"):
            await hall.supervisor.roll(PROGRAM, "tests")
