"""What supervision promises when things die at the worst moment: counts, quarantines and children over many deaths of
the supervisor, a stop amid a start and a start amid a stop, a crash amid a restart, and a start that takes its time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.account.actor import Account
from actors.events import EventType, to_iso
from actors.instrument.actor import Instrument
from actors.names import SUPERVISOR
from actors.runtime.deployment import Deployment
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import AddInstrument, ChangeRefused, RemoveInstrument, SetInterval
from supervisor.config.models import Instrument as Configured
from supervisor.tree.model import START_TIMEOUT_S
from tests.unit.hall import EVERYBODY, Hall, Status, a_hall, restarts, rows, states
from tests.unit.virtual_time import virtual_time

DEAD, OTHERS = "cfd/EURUSD", EVERYBODY - {"cfd/EURUSD"}


async def one_in_quarantine(hall: Hall) -> Run:
    """A run whose instrument has died once too often."""
    await hall.cluster.kill(SUPERVISOR)
    run = Run("one", {}, hall.clock())
    hall.new_supervisor(run)
    await hall.up()
    for times in range(1, 4):
        await hall.cluster.kill(DEAD)
        await hall.until(lambda s, n=times: restarts(s, DEAD) == n and states(s)[DEAD] == "UP", "it comes back")  # type: ignore[misc]  # a lambda's default
    await hall.cluster.kill(DEAD)
    await hall.until(lambda s: states(s)[DEAD] == "QUARANTINED", "one death too many")
    return run


async def in_order(hall: Hall) -> Status:
    """All but the one in quarantine are up."""
    return await hall.until(
        lambda s: {n: w for n, w in states(s).items() if n != DEAD} == dict.fromkeys(OTHERS, "UP"), "all others are up"
    )


@virtual_time
async def test_ten_deaths_of_the_supervisor_in_a_row_orphan_nothing_and_keep_counts_and_quarantine(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path) as hall:
        run = await one_in_quarantine(hall)
        await hall.cluster.kill("fx/EUR_USD")
        await hall.until(lambda s: restarts(s, "fx/EUR_USD") == 1 and states(s)["fx/EUR_USD"] == "UP", "it is back")
        children = {name: hall.actor(name) for name in OTHERS}
        for times in range(1, 11):
            await hall.cluster.kill(SUPERVISOR)
            hall.new_supervisor(run)
            await asyncio.sleep(0.01 * times * times)  # again and again within its own start, and then after it
        status = await in_order(hall)
        status = await hall.until(lambda s: restarts(s, DEAD) > 0, "what was before is read")

        assert {name: hall.actor(name) for name in OTHERS} == children, "nobody was started twice"
        assert set(await hall.cluster.living()) - {SUPERVISOR} == OTHERS
        assert states(status)[DEAD] == "QUARANTINED"
        assert not hall.lives(DEAD)
        counts = {name: restarts(status, name) for name in EVERYBODY}
        assert counts == {**dict.fromkeys(EVERYBODY, 0), DEAD: 3, "fx/EUR_USD": 1}
        assert [name for _, name in hall.events(EventType.ACTOR_QUARANTINED)] == [DEAD], "reported once"

        assert await hall.supervisor.restart(DEAD)
        await hall.up()


@virtual_time
async def test_a_quarantine_lasts_though_the_supervisor_and_all_its_actors_are_killed_at_once(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        run = await one_in_quarantine(hall)
        for name in (SUPERVISOR, *OTHERS):
            await hall.cluster.kill(name)
        await asyncio.sleep(1)
        hall.new_supervisor(run)
        status = await hall.until(lambda s: states(s).get(DEAD) == "QUARANTINED", "it is known again")
        assert restarts(status, DEAD) == 3
        status = await in_order(hall)
        assert not hall.lives(DEAD)
        assert {restarts(status, name) for name in OTHERS} == {1}


@pytest.mark.parametrize(("name", "ends"), [("fx/EUR_USD", "stop"), ("fx", "close"), ("audit", "close")])
@virtual_time
async def test_what_a_supervisor_stopped_and_did_not_end_works_again_under_the_next_one(
    tmp_path: Path, name: str, ends: str
) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.up()
        await getattr(hall.actor(name), ends)()
        await hall.cluster.kill(SUPERVISOR)
        hall.new_supervisor()
        began = to_iso(hall.clock())
        await hall.until(
            lambda s: {n for n, row in rows(s).items() if (row["health"]["verified_at"] or "") > began} == set(rows(s)),
            "each was found in step since",
        )
        await hall.until(lambda s: s["supervisor"]["journal"]["writable"], "the journal is written")
        assert (await hall.supervisor.halt(None, None, "a record", None)).failure is None


@pytest.mark.parametrize("ended_by", ["a person", "a change"])
def test_a_quarantine_that_was_ended_is_over_for_the_supervisors_to_come(tmp_path: Path, ended_by: str) -> None:
    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            run = await one_in_quarantine(hall)
            if ended_by == "a person":
                await hall.supervisor.restart(DEAD)
            else:
                await hall.supervisor.change(SetInterval("cfd", "EURUSD", 2.0), None)
            await hall.cluster.kill(SUPERVISOR)  # before it could do anything about it
            await asyncio.sleep(1)
            hall.new_supervisor(run)
            status = await hall.up()
            assert states(status) == dict.fromkeys(EVERYBODY, "UP")

    virtual_time(story)()


@virtual_time
async def test_a_new_start_gives_everybody_a_new_chance(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await one_in_quarantine(hall)
        await hall.supervisor.stop()
        await asyncio.sleep(1)
        hall.new_supervisor(Run("another", {}, hall.clock()))
        assert states(await hall.up()) == dict.fromkeys(EVERYBODY, "UP")


@pytest.mark.parametrize("moment_s", [0.0, 0.001, 0.05, 0.3, 0.7, 2.0])
def test_a_stop_amid_the_start_leaves_nobody_and_nothing_comes_up_after_it(tmp_path: Path, moment_s: float) -> None:
    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            slowly(hall, 0.5)
            await asyncio.sleep(moment_s)
            await hall.supervisor.stop()
            assert set(await hall.cluster.living()) == {SUPERVISOR}
            await asyncio.sleep(30)
            assert set(await hall.cluster.living()) == {SUPERVISOR}
            assert all(broker.closed for broker in hall.brokers.values() if broker.calls)

    virtual_time(story)()


def slowly(hall: Hall, seconds: float) -> None:
    """Every start takes this long."""
    create = hall.cluster.create

    async def late(deployment: Deployment, timeout_s: float, may_begin: asyncio.Event | None = None) -> None:
        await asyncio.sleep(seconds)
        await create(deployment, timeout_s, may_begin)

    hall.cluster.create = late  # type: ignore[method-assign]  # a machine that takes its time


@virtual_time
async def test_a_start_amid_a_stop_is_refused_and_an_instrument_that_comes_back_while_it_ends_starts_anew(
    tmp_path: Path,
) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.up()
        before = hall.actor("fx/GBP_JPY")
        stop = Instrument.stop

        async def slow(self: Instrument) -> None:
            await asyncio.sleep(3)
            await stop(self)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Instrument, "stop", slow)
            await hall.supervisor.change(RemoveInstrument("fx", "GBP_JPY"), None, force=True)
            await hall.until(lambda s: states(s)["fx/GBP_JPY"] == "STOPPING", "it is on its way out")
            await hall.supervisor.change(AddInstrument("fx", Configured(symbol="GBP_JPY")), None)
            await hall.up()
            assert hall.actor("fx/GBP_JPY") is not before

            stopping = asyncio.ensure_future(hall.supervisor.stop())
            await asyncio.sleep(0.5)
            assert not stopping.done()
            await hall.supervisor.restart("fx/EUR_USD")
            assert await hall.supervisor.look_after("fx", "USD_CHF") is False
            with pytest.raises(ChangeRefused, match="stopping"):
                await hall.supervisor.change(SetInterval("fx", "EUR_USD", 5.0), None)
            await stopping
        assert set(await hall.cluster.living()) == {SUPERVISOR}


@pytest.mark.parametrize("name", ["audit", "fx", "fx/EUR_USD"])
def test_one_that_dies_again_while_it_is_being_restarted_comes_back(tmp_path: Path, name: str) -> None:
    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            hall.brokers["fx"].hold(100, instrument="EUR_USD")
            await hall.up()
            slowly(hall, 0.2)
            await hall.cluster.kill(name)
            await hall.until(lambda s: states(s)[name] == "STARTING", "it is being restarted")
            await asyncio.sleep(0.2)
            await hall.cluster.kill(name)  # where it already is
            status = await hall.until(
                lambda s: states(s)[name] == "UP" and s["status"] == "SUCCESS" and hall.lives(name), "it is back"
            )
            assert 1 <= restarts(status, name) <= 2
            assert {states(status)[other] for other in EVERYBODY} == {"UP"}

    virtual_time(story)()


@virtual_time
async def test_an_account_that_comes_up_slowly_is_waited_for_and_one_that_never_does_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Account.start
    takes_s = {"fx": [START_TIMEOUT_S - 5, 0.0], "cfd": [START_TIMEOUT_S + 500, 0.0]}

    async def slow(self: Account) -> None:
        await asyncio.sleep(takes_s[repr(self)].pop(0))
        await start(self)

    monkeypatch.setattr(Account, "start", slow)
    async with a_hall(tmp_path) as hall:
        await asyncio.sleep(START_TIMEOUT_S - 20)
        status = await hall.until(lambda s: states(s)["fx"] == "UP", "the slow one comes up")
        assert restarts(status, "fx") == 0
        assert states(status)["cfd"] == "STARTING"
        await hall.until(lambda s: states(s)["fx/EUR_USD"] == "UP", "and its instruments, whoever else is not there")
        status = await hall.up()
        assert (restarts(status, "fx"), restarts(status, "cfd")) == (0, 1)


@pytest.mark.parametrize(("kind", "name"), [(Account, "cfd"), (Instrument, DEAD)], ids=["account", "instrument"])
def test_one_whose_constructor_raises_is_tried_again_quarantined_alone_and_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, name: str
) -> None:
    """It dies before there is anything to probe, to stop or to kill."""
    made, broken = kind.__init__, [True]

    def fails(self: Any, settings: Any, *args: Any, **kwargs: Any) -> None:
        made(self, settings, *args, **kwargs)
        if repr(self) == name and broken[0]:
            raise RuntimeError("the constructor fails")

    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            others = EVERYBODY - ({"cfd", DEAD} if name == "cfd" else {name})
            status = await hall.until(lambda s: states(s).get(name) == "QUARANTINED", "one death too many")
            assert {other: states(status)[other] for other in others} == dict.fromkeys(others, "UP")
            assert {restarts(status, other) for other in others} == {0}
            assert not hall.lives(name)
            assert [one for _, one in hall.events(EventType.ACTOR_QUARANTINED)] == [name]

            broken[0] = False
            assert await hall.supervisor.restart(name)
            status = await hall.up()
            assert {restarts(status, other) for other in others} == {0}

    monkeypatch.setattr(kind, "__init__", fails)
    virtual_time(story)()
