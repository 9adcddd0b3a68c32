"""What stands of a change at run time when the supervisor crashes, between any two of its steps, or starts anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.runtime.ports import ActorUnavailable, LocalRuntime, deliver_at_once
from supervisor.changes import applied_configuration
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import Apply, RemoveInstrument, SetInterval
from supervisor.changes.transaction import ChangeNotMade
from supervisor.config.loader import load
from tests.unit.apply_cases import CHF, PAPER, a_hall, actors, changes, crash, make, names, other
from tests.unit.hall import EVERYBODY, Hall, restarts, states
from tests.unit.handle_cases import until_so
from tests.unit.virtual_time import virtual_time


@virtual_time
async def test_what_was_changed_stands_after_a_crash_and_nobody_is_touched(tmp_path: Path, logged: list[str]) -> None:
    """FEATURES 7, PEERS 15"""
    async with a_hall(tmp_path) as hall:
        await make(hall, PAPER)
        await make(hall, RemoveInstrument("fx", "GBP_JPY"))
        before = actors(hall)
        await crash(hall)

        assert actors(hall) == before
        assert any("the configuration changed at run time applies" in line for line in logged)
        assert len(applied_configuration.files(hall.configuration)) == 1, "what stood before is tidied away"
        assert not (await hall.supervisor.change(PAPER, "tests")).made


@virtual_time
async def test_it_stands_though_the_audit_actor_died_with_the_supervisor(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await make(hall, PAPER)
        before = actors(hall)
        await hall.cluster.kill("audit")
        await crash(hall)
        assert {name for name, actor in actors(hall).items() if actor is not before[name]} == {"audit"}


async def _before_the_record(hall: Hall) -> set[str]:
    await make(hall, PAPER)
    applied_configuration.write(load(hall.configuration.state_dir / "accounts.yaml"), {}, "")
    return EVERYBODY | {"p", "p/EURUSD"}


async def _before_the_first_record(hall: Hall) -> set[str]:
    applied_configuration.write(other(hall, "[{name: p, broker: paper, instruments: [A]}]"), {}, "")
    return EVERYBODY


async def _before_it_is_carried_out(hall: Hall) -> set[str]:
    class Died(Exception):
        pass

    before = len(changes(hall))

    async def deliver(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await send()
        if (actor, method) == ("audit", "append") and len(changes(hall)) > before:
            raise Died
        return answer

    wanted = """
      - {name: fx, broker: oanda, simulator: true, instruments: [{symbol: EUR_USD, interval_s: 2}]}
      - {name: cfd, broker: mt5, simulator: true, instruments: [EURUSD]}
      - {name: p, broker: paper, instruments: [EURUSD]}
    """
    hall.runtime.deliver = deliver
    with pytest.raises(Died):
        await hall.supervisor.change(Apply(other(hall, wanted), "b.yaml"), "tests")
    hall.runtime.deliver = deliver_at_once
    assert len(changes(hall)) == before + 1
    assert names(hall) == EVERYBODY
    return EVERYBODY - {"fx/GBP_JPY"} | {"p", "p/EURUSD"}


async def _before_an_account_knows(hall: Hall) -> set[str]:
    dying = hall.supervisor

    async def deliver(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        if (actor, method) == ("fx", "manage") and hall.supervisor is dying:
            raise ActorUnavailable(actor, method, "it learns of it later")
        return await send()

    hall.runtime.deliver = deliver
    await make(hall, CHF)
    assert "USD_CHF" not in (await hall.actor("fx").health()).managed
    return EVERYBODY | {"fx/USD_CHF"}


@pytest.mark.parametrize(
    "until",
    [_before_the_record, _before_the_first_record, _before_it_is_carried_out, _before_an_account_knows],
    ids=lambda step: step.__name__.strip("_"),
)
def test_a_crash_between_two_steps_leaves_the_old_or_the_new_and_that_is_what_runs(
    tmp_path: Path, until: Callable[[Hall], Awaitable[set[str]]]
) -> None:
    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            expected = await until(hall)
            await crash(hall)
            await hall.until(lambda _: names(hall) == expected, "that runs, and nothing else")
            quicker = until is _before_it_is_carried_out
            await hall.until(
                lambda _: hall.actor("fx/EUR_USD").settings.interval_s == (2.0 if quicker else 1.0),
                "an actor that was started otherwise is restarted",
            )

            async def looked_after() -> bool:
                health = await hall.actor("fx").health()
                return {f"fx/{symbol}" for symbol in health.managed} == {one for one in expected if one[:3] == "fx/"}

            await until_so(looked_after, "the account knows whose it looks after")
            assert (await make(hall, SetInterval("fx", "EUR_USD", 4.0))).made, "and the next change goes on from there"

    virtual_time(story)()


@virtual_time
async def test_when_the_answer_of_the_journal_is_lost_the_change_is_withdrawn(tmp_path: Path) -> None:
    lost: list[str] = []

    async def deliver(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        answer = await send()
        if (actor, method) == ("audit", "append") and lost:
            lost.append("append")
            if lost == ["armed", "append", "append"]:  # the first asks for the version
                await asyncio.sleep(3600)
        return answer

    async with a_hall(tmp_path) as hall:
        assert isinstance(hall.runtime, LocalRuntime)
        hall.runtime.deliver = deliver
        await hall.supervisor.change(CHF, "tests", False, True)
        lost.append("armed")
        with pytest.raises(ChangeNotMade):
            await hall.supervisor.change(CHF, "tests")
        assert [("withdrawn" in one, one["standing"] != "") for one in changes(hall)] == [(False, True), (True, False)]
        await crash(hall)
        assert names(hall) == EVERYBODY
        assert (await make(hall, CHF)).made
        await crash(hall)
        assert names(hall) == EVERYBODY | {"fx/USD_CHF"}, "nothing that waited was written after it"


@virtual_time
async def test_what_waits_for_the_journal_is_written_before_the_next_change(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.cluster.kill("audit")
        withdrawn = applied_configuration.write(hall.configuration, {}, "")
        await hall.supervisor._changing._withdraw(withdrawn)  # noqa: SLF001 - as after a lost answer, with nobody to write it
        await hall.until(lambda s: restarts(s, "audit") == 1 and states(s)["audit"] == "UP", "it is back")
        await make(hall, CHF)
        await asyncio.sleep(60)
        assert ["withdrawn" in one for one in changes(hall)] == [True, False]
        await crash(hall)
        assert names(hall) == EVERYBODY | {"fx/USD_CHF"}


@virtual_time
async def test_a_standing_file_that_is_gone_is_said_and_what_was_given_runs(tmp_path: Path, logged: list[str]) -> None:
    async with a_hall(tmp_path) as hall:
        await make(hall, PAPER)
        applied_configuration.keep_only(hall.configuration, None)
        await crash(hall)
        assert names(hall) == EVERYBODY
        [line] = [line for line in logged if "CRITICAL" in line]
        assert "without: account p added: broker paper; instrument p/EURUSD added" in line


@virtual_time
async def test_a_fresh_start_begins_from_its_file_and_says_what_is_no_longer_so(
    tmp_path: Path, logged: list[str]
) -> None:
    async with a_hall(tmp_path) as hall:
        await make(hall, PAPER)
        await crash(hall, Run("another"))
        assert names(hall) == EVERYBODY
        [line] = [line for line in logged if "previous run" in line]
        assert "account p removed; instrument p/EURUSD removed" in line
        assert "this one starts without: account p removed" in changes(hall)[-1]["changes"][0]
        assert not applied_configuration.files(hall.configuration)
        await crash(hall, Run("another"))
        assert names(hall) == EVERYBODY
