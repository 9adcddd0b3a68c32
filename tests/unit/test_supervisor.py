"""The supervisor with everybody it supervises, in one process and in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.events import EventType
from actors.instrument.actor import Instrument
from actors.journal.actor import Audit
from actors.journal.store import Journal
from actors.journal.types import JournalUnavailable
from actors.reconciliation.own_reports import OrderReport, PositionReport
from actors.runtime.ports import ActorUnavailable
from brokers.model import OrderStatus, Side
from supervisor.supervision.actor import SUPERVISOR
from tests.unit.builders import dec
from tests.unit.fakes import refused, unreachable
from tests.unit.hall import (
    ALL_OF_FX,
    EVERYBODY,
    PER_ACTOR,
    TWO_ACCOUNTS,
    Hall,
    a_hall,
    restarts,
    rows,
    states,
    verdicts,
)
from tests.unit.virtual_time import virtual_time


@pytest.fixture(params=["1", "2"], ids=["a process each", "two in a cell"], autouse=True)
def _shared(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything holds whether each instrument has an actor of its own or shares one."""
    PER_ACTOR["now"] = request.param
    yield
    PER_ACTOR["now"] = "1"


@virtual_time
async def test_audit_comes_first_then_accounts_then_instruments(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        status = await hall.up()

        assert set(states(status)) == EVERYBODY
        assert rows(status)["fx/EUR_USD"]["book"]["legs"] == [{"leg": "net", "quantity": "100", "average_price": "1.1"}]
        assert len(hall.events(EventType.CONFIGURATION_CHANGED)) == 1
        started = [name for _, name in hall.events(EventType.ACTOR_STARTED)]
        assert started[0] == "audit"
        assert started.index("fx") < min(started.index("fx/EUR_USD"), started.index("fx/GBP_JPY"))


@pytest.mark.parametrize("name", sorted(EVERYBODY))
def test_whoever_is_killed_comes_back_and_the_books_are_as_they_were(tmp_path: Path, name: str) -> None:
    """FEATURES 7, PEERS 15, 17"""

    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            hall.brokers["fx"].hold(100, instrument="EUR_USD")
            before = await hall.up()
            others = {other: hall.actor(other) for other in EVERYBODY - {name}}

            await hall.cluster.kill(name)
            after = await hall.until(
                lambda s: restarts(s, name) == 1 and states(s)[name] == "UP" and s["status"] == "SUCCESS",
                "it comes back",
            )

            assert {other: hall.actor(other) for other in others} == others, "nobody else is touched"
            book = rows(after)["fx/EUR_USD"]["book"]
            assert book == rows(before)["fx/EUR_USD"]["book"]
            assert (EventType.ACTOR_RESTARTED, name) in hall.events(EventType.ACTOR_RESTARTED)

    virtual_time(story)()


@virtual_time
async def test_a_supervisor_that_was_killed_finds_its_children_and_sweeps_what_nobody_wants(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.up()
        children = {name: hall.actor(name) for name in EVERYBODY}
        await hall.cluster.kill(SUPERVISOR)
        hall.runtime.register("fx/NOBODY", children["fx/EUR_USD"])

        hall.new_supervisor()
        await hall.until(lambda _: "fx/NOBODY" not in hall.runtime.names(), "the orphan is swept")
        await hall.up()

        assert {name: hall.actor(name) for name in EVERYBODY} == children


async def died_between_making_and_beginning(hall: Hall, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor has made an actor anew, and dies before it has it begin."""
    call = hall.runtime.call

    async def never_begins(actor: str, method: str, *args: object, timeout_s: float) -> Any:
        if (actor, method) == (name, "start"):
            await asyncio.Event().wait()
        return await call(actor, method, *args, timeout_s=timeout_s)

    before = hall.actor(name)
    with monkeypatch.context() as patched:
        patched.setattr(hall.runtime, "call", never_begins)
        await hall.cluster.kill(name)
        await hall.until(lambda s: states(s)[name] == "STARTING" and hall.lives(name), "it is made anew")
        await hall.cluster.kill(SUPERVISOR)
    assert hall.actor(name) is not before
    hall.new_supervisor()


@virtual_time
async def test_a_supervisor_that_comes_back_has_an_instrument_begin_that_was_only_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it is idle until it counts as hung, after three intervals."""
    if PER_ACTOR["now"] != "1":
        return  # the cell itself has those it carries begin
    hourly = "{symbol: EUR_USD, interval_s: 3600}"
    async with a_hall(tmp_path, f"[{{name: fx, broker: oanda, simulator: true, instruments: [{hourly}]}}]") as hall:
        await hall.up()
        await died_between_making_and_beginning(hall, "fx/EUR_USD", monkeypatch)
        await hall.up()
        assert asyncio.get_running_loop().time() < 600


@virtual_time
async def test_a_supervisor_that_comes_back_has_an_account_begin_that_was_only_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody looks at what it has."""
    async with a_hall(tmp_path, ALL_OF_FX) as hall:
        await hall.until(lambda s: states(s).get("fx") == "UP", "the account is up")
        await died_between_making_and_beginning(hall, "fx", monkeypatch)
        hall.brokers["fx"].hold(70, instrument="EUR_USD")
        status = await hall.until(lambda s: "fx/EUR_USD" in rows(s), "its position is found")
        assert states(status)["fx"] == "UP"


@pytest.mark.parametrize(("failure", "words"), [(unreachable(), "refused"), (refused(), "401")], ids=["down", "401"])
def test_one_broker_that_fails_degrades_its_own_instruments_alone(
    tmp_path: Path, failure: Exception, words: str
) -> None:
    """FEATURES 12, PEERS 8"""

    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            hall.brokers["cfd"].failing = failure
            status = await hall.until(
                lambda s: (
                    rows(s)["cfd/EURUSD"]["status"] == "DEGRADED" and rows(s)["fx/EUR_USD"]["status"] == "SUCCESS"
                ),
                "one is degraded, the other not",
            )
            assert set(states(status).values()) == {"UP"}, "an account that is down is no dead actor"
            assert words in rows(status)["cfd/EURUSD"]["error"]
            assert status["status"] == "DEGRADED"

            hall.brokers["cfd"].failing = None
            await hall.up()

    virtual_time(story)()


@virtual_time
async def test_after_an_account_actor_has_died_its_instruments_are_verified_at_once(tmp_path: Path) -> None:
    """PEERS 13: not only when their interval is over."""
    hourly = "{symbol: GBP_JPY, interval_s: 3600}"
    accounts = f"[{{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD, {hourly}]}}]"
    async with a_hall(tmp_path, accounts) as hall:
        await hall.up()
        hall.brokers["fx"].hold(70, instrument="GBP_JPY")
        await hall.cluster.kill("fx")
        await hall.until(
            lambda s: restarts(s, "fx") == 1 and bool(rows(s)["fx/GBP_JPY"]["book"]["legs"]), "it is looked at again"
        )
        assert asyncio.get_running_loop().time() < 600


@virtual_time
async def test_an_actor_whose_loop_has_died_still_answers_and_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with a_hall(tmp_path) as hall:
        await hall.up()
        actor: Instrument = hall.actor("fx/EUR_USD")
        monkeypatch.setattr(actor, "cycle", ends)
        await hall.until(lambda s: restarts(s, "fx/EUR_USD") == 1, "the age of its last cycle says")
        await hall.up()
        assert hall.actor("fx/EUR_USD") is not actor


@virtual_time
async def test_an_actor_that_keeps_dying_is_quarantined_alone_and_a_person_ends_that(tmp_path: Path) -> None:
    """PEERS 17"""
    async with a_hall(tmp_path) as hall:
        await hall.up()
        for times in range(1, 4):
            await hall.cluster.kill("cfd/EURUSD")
            await hall.until(lambda s, n=times: restarts(s, "cfd/EURUSD") == n, "it comes back")  # type: ignore[misc]  # a lambda's default
            await hall.up()
        await hall.cluster.kill("cfd/EURUSD")
        status = await hall.until(lambda s: states(s)["cfd/EURUSD"] == "QUARANTINED", "one death too many")

        assert "quarantine" in rows(status)["cfd/EURUSD"]["error"]
        assert {state for name, state in states(status).items() if name != "cfd/EURUSD"} == {"UP"}
        assert hall.events(EventType.ACTOR_QUARANTINED) == [(EventType.ACTOR_QUARANTINED, "cfd/EURUSD")]
        assert not await hall.supervisor.restart("nobody")
        assert await hall.supervisor.restart("cfd/EURUSD")
        await hall.up()


@virtual_time
async def test_a_paused_instrument_runs_no_cycle_and_does_not_count_as_hung(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.up()
        assert await hall.supervisor.pause("fx", "EUR_USD") == ("fx/EUR_USD",)
        status = await hall.until(lambda s: rows(s)["fx/EUR_USD"]["health"]["paused"], "the probe sees it")
        cycles = rows(status)["fx/EUR_USD"]["health"]["cycles"]
        await asyncio.sleep(60)
        status = await hall.supervisor.status()
        assert rows(status)["fx/EUR_USD"]["health"]["cycles"] == cycles
        assert restarts(status, "fx/EUR_USD") == 0
        assert verdicts(status)["fx/EUR_USD"] == "DEGRADED", "what nobody looks at is not in step"
        assert "it is paused" in rows(status)["fx/EUR_USD"]["error"]

        assert await hall.supervisor.resume("fx", None) == ("fx/EUR_USD", "fx/GBP_JPY")
        await hall.until(lambda s: rows(s)["fx/EUR_USD"]["health"]["cycles"] > cycles, "it goes on")


@virtual_time
async def test_a_verdict_and_a_record_go_through_the_actors_that_run(tmp_path: Path) -> None:
    """FEATURES 11, 28"""
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.up()
        await hall.supervisor.pause("fx", None)
        assert (
            await hall.supervisor.record("fx", {"EUR_USD": [PositionReport("EUR_USD", "net", dec(80), dec(1.1))]}) == 1
        )

        [(health, [dry])] = await hall.supervisor.verdict("fx", "EUR_USD", True)
        assert [(d.found.type, d.resolved) for d in dry.discrepancies] == [("POSITION_MISMATCH", False)]
        assert dry.book["legs"] == [{"leg": "net", "quantity": "80", "average_price": "1.1"}]
        [(health, [done])] = await hall.supervisor.verdict("fx", "EUR_USD", False)
        assert [(d.found.type, d.resolved) for d in done.discrepancies] == [("POSITION_MISMATCH", True)]
        assert done.book["legs"] == [{"leg": "net", "quantity": "100", "average_price": "1.1"}]
        assert health.error is None


@virtual_time
async def test_a_broker_without_an_adapter_is_said_so_at_once_and_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.supervision.actor.SUPPORTED_BROKERS", frozenset({"oanda", "mt5"}))
    accounts = TWO_ACCOUNTS + "  - {name: paper, broker: paper, instruments: [EURUSD]}\n"
    async with a_hall(tmp_path, accounts) as hall:
        status = await hall.until(
            lambda s: rows(s)["fx/EUR_USD"]["status"] == "SUCCESS" and states(s).get("paper") == "QUARANTINED",
            "the others run",
        )
        account = next(a for a in status["accounts"] if a["account"] == "paper")
        assert "no adapter for broker paper" in account["error"]


@virtual_time
async def test_with_all_instruments_an_actor_comes_with_the_first_row_and_goes_when_quiet(
    tmp_path: Path,
) -> None:
    """A position, a working order or a fill brings it; ``retire_after_s`` of emptiness ends it."""
    accounts = "[{name: fx, broker: oanda, simulator: true, instruments: all, retire_after_s: 20}]"
    async with a_hall(tmp_path, accounts) as hall:
        broker = hall.brokers["fx"]
        broker.hold(100, instrument="EUR_USD")
        await hall.until(lambda s: "fx/EUR_USD" in rows(s), "a position brings it")
        await hall.up()
        broker.trade(50, instrument="GBP_JPY")
        broker.trade(50, instrument="GBP_JPY", side=Side.SELL)
        await hall.until(lambda s: "fx/GBP_JPY" in rows(s), "a fill brings it")

        broker.hold(0, instrument="EUR_USD")
        status = await hall.until(lambda s: not rows(s), "both are retired")
        assert set(states(status)) == {"audit", "fx"}
        await asyncio.sleep(60)
        assert not rows(await hall.supervisor.status()), "and do not come back by themselves"

        broker.order("B9", instrument="EUR_USD")
        await hall.until(lambda s: "fx/EUR_USD" in rows(s), "a working order brings it back")


@pytest.mark.parametrize("forgets", [True, False])
@virtual_time
async def test_a_report_that_arrives_while_its_instrument_retires_is_refused_or_looked_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgets: bool
) -> None:
    accounts = "[{name: fx, broker: oanda, simulator: true, instruments: all, retire_after_s: 20}]"
    sent = OrderReport("EUR_USD", "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)
    async with a_hall(tmp_path, accounts) as hall:

        async def report() -> object:
            return await hall.runtime.call("fx/EUR_USD", "record", (sent,), timeout_s=3.0)

        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: "fx/EUR_USD" in rows(s), "a position brings it")
        await hall.up()
        asked = asyncio.Event()

        async def forget(_symbol: str) -> bool:
            with pytest.raises(ActorUnavailable, match="it ends, since its book was empty"):
                await report()
            asked.set()
            return forgets

        monkeypatch.setattr(hall.runtime.actor("fx"), "forget", forget)
        hall.brokers["fx"].hold(0, instrument="EUR_USD")
        await asked.wait()
        if forgets:
            await hall.until(lambda s: not rows(s), "it is retired")
            with pytest.raises(ActorUnavailable):
                await report()
        else:
            await asyncio.sleep(1)
            assert await report() == 1


@virtual_time
async def test_a_book_that_holds_something_has_an_actor_though_the_broker_shows_nothing(tmp_path: Path) -> None:
    """PEERS 14: a ghost that only the journal knows of."""
    accounts = "[{name: fx, broker: oanda, simulator: true, instruments: all}]"
    async with a_hall(tmp_path, accounts) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: "fx/EUR_USD" in rows(s), "a position brings it")
        await hall.up()
        await hall.supervisor.stop()

    async with a_hall(tmp_path, accounts) as hall:
        await hall.until(lambda s: "fx/EUR_USD" in rows(s), "the book brings it")
        status = await hall.until(lambda s: s["status"] == "SUCCESS", "and it is settled")
        assert rows(status)["fx/EUR_USD"]["book"]["legs"] == []


@virtual_time
async def test_a_supervisor_that_comes_back_keeps_what_was_discovered_and_looks_into_the_books(tmp_path: Path) -> None:
    """Its account lives and does not start anew: what only our books know is looked after all the same."""
    async with a_hall(tmp_path, ALL_OF_FX) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: "fx/EUR_USD" in rows(s), "a position brings it")
        assert await hall.supervisor.look_after("fx", "GBP_JPY")
        await hall.until(lambda s: "fx/GBP_JPY" in rows(s), "it is asked for")
        await hall.up()
        lives = hall.actor("fx/EUR_USD")
        ghost = {"GBP_JPY": [PositionReport("GBP_JPY", "net", dec(80), dec(1.1))]}
        await hall.cluster.kill(SUPERVISOR)
        assert await hall.runtime.call("fx/GBP_JPY", "record", tuple(ghost["GBP_JPY"]), None, timeout_s=5) == 1
        await hall.cluster.kill("fx/GBP_JPY")

        hall.new_supervisor()
        status = await hall.until(lambda s: verdicts(s).get("fx/GBP_JPY") == "SUCCESS", "its book brings it")
        assert rows(status)["fx/GBP_JPY"]["book"]["legs"] == []
        assert hall.actor("fx/EUR_USD") is lives


@virtual_time
async def test_a_journal_that_is_away_when_an_account_comes_up_is_asked_for_its_books_until_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_hall(tmp_path, ALL_OF_FX) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: "fx/EUR_USD" in rows(s), "a position brings it")
        await hall.up()
        await hall.supervisor.stop()

    async def away(_: Audit) -> list[str]:
        raise JournalUnavailable("read the journal", "the disk does not answer", "See to the disk")

    async with a_hall(tmp_path, ALL_OF_FX) as hall:
        with monkeypatch.context() as patched:
            patched.setattr(Audit, "streams", away)
            await hall.until(lambda s: states(s).get("fx") == "UP", "the account is up")
            await asyncio.sleep(10)
            assert not rows(await hall.supervisor.status())
        await hall.until(lambda s: verdicts(s).get("fx/EUR_USD") == "SUCCESS", "the book brings it")


@virtual_time
async def test_stop_ends_everybody_and_the_journal_is_whole(tmp_path: Path) -> None:
    """FEATURES 28"""
    async with a_hall(tmp_path) as hall:
        await hall.up()
        await hall.supervisor.stop()

        assert set(hall.runtime.names()) == {SUPERVISOR}
        with pytest.raises(ActorUnavailable):
            await hall.runtime.call("audit", "health", timeout_s=1)
        assert all(broker.closed for broker in hall.brokers.values())
        assert hall.events(EventType.OPERATOR_ACTION)


@virtual_time
async def test_the_journal_says_at_each_start_what_runs_and_with_every_action_by_which_version(tmp_path: Path) -> None:
    for _ in range(2):
        async with a_hall(tmp_path) as hall:
            await hall.up()
            await hall.supervisor.restart("fx", by="someone, by the command line")
            await hall.supervisor.stop(by="someone, by the command line")
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    starts = [r.event.payload["runs"] for r in journal.records(types=[EventType.CONFIGURATION_CHANGED])]
    actions = [r.event.payload for r in journal.records(types=[EventType.OPERATOR_ACTION])]
    journal.close()
    assert len(starts) == 2
    for start in starts:
        assert isinstance(start, dict)
        assert start["program"]
        assert start["user"]
        assert isinstance(start["packages"], dict)
        assert "SQLAlchemy" in start["packages"]
    assert len(actions) == 4
    assert all((action["by"], bool(action["program"])) == ("someone, by the command line", True) for action in actions)
