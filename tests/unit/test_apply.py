"""Changes at run time, made by a supervisor with everybody it supervises, in one process and in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from actors.book.trading_permission import HALT_TYPES
from actors.events import EventType
from actors.journal.store import Journal
from actors.runtime.ports import ActorUnavailable, LocalRuntime, deliver_at_once
from supervisor.changes import applied_configuration, parsing
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import Apply, Change, ChangeRefused, RemoveAccount, RemoveInstrument, SetInterval
from supervisor.changes.transaction import Changed, ChangeNotMade
from supervisor.client.changes import AsyncChanges, Changes
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.supervision.actor import SUPERVISOR
from tests.unit.fakes import FakeBroker
from tests.unit.hall import EVERYBODY, TWO_ACCOUNTS, Hall, restarts, rows, states
from tests.unit.handle_cases import until_so
from tests.unit.virtual_time import virtual_time

PAPER = parsing.account_from({"name": "p", "broker": "paper", "instruments": ["EURUSD"]})
CHF = parsing.instrument_from("fx", "USD_CHF", {})
QUICKER = SetInterval("fx", "EUR_USD", 2.0)


class _Brokers(dict[str, FakeBroker]):
    """A broker for whichever account is added."""

    def __init__(self, hall: Hall) -> None:
        super().__init__(hall.brokers)
        self._hall = hall

    def __missing__(self, name: str) -> FakeBroker:
        return self.setdefault(name, FakeBroker(self._hall.clock))


@asynccontextmanager
async def a_hall(directory: Path, accounts: str = TWO_ACCOUNTS) -> AsyncIterator[Hall]:
    hall = Hall(directory, accounts)
    hall.brokers = _Brokers(hall)
    try:
        await hall.up()
        yield hall
    finally:
        await hall.supervisor.stop()


async def make(hall: Hall, change: Change, *, force: bool = False) -> Changed:
    """Make a change, and wait for the actors."""
    result = await hall.supervisor.change(change, "tests", force)
    settled = await hall.supervisor.settled(result.effects.names, 60)
    assert {state for state, _ in settled.values()} <= {"SETTLED"}, settled
    return result


async def crash(hall: Hall, run: Run | None = None) -> None:
    """The supervisor dies, and comes back as it was first made; or, with a run, is started anew."""
    await hall.cluster.kill(SUPERVISOR)
    hall.new_supervisor(Run() if run is None else run)
    await hall.until(lambda s: set(states(s).values()) == {"UP"}, "everybody is up")
    await hall.until(lambda s: s["status"] == "SUCCESS", "everything is in step")


def names(hall: Hall) -> set[str]:
    return set(hall.runtime.names()) - {SUPERVISOR}


def actors(hall: Hall) -> dict[str, Any]:
    return {name: hall.actor(name) for name in names(hall)}


def changes(hall: Hall) -> list[dict[str, Any]]:
    """What the journal has of changes, oldest first."""
    journal = Journal.open(hall.configuration.journal_url, read_only=True)
    try:
        assert journal.verify().ok
        found = journal.records(stream=SUPERVISOR, types=(EventType.CONFIGURATION_CHANGED,))
        return [dict(record.event.payload) for record in found if "changes" in record.event.payload]
    finally:
        journal.close()


def other(hall: Hall, accounts: str, name: str = "b.yaml", head: str = "") -> Configuration:
    """The configuration that runs with other accounts."""
    text = (hall.configuration.state_dir / "accounts.yaml").read_text()
    path = hall.configuration.state_dir / name
    path.write_text(head + text.partition("accounts:")[0] + f"accounts: {accounts}")
    return load(path)


@pytest.fixture
def logged() -> Any:
    """Every line logged."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="INFO")
    yield lines
    logger.remove(sink)


@virtual_time
async def test_what_is_added_comes_up_and_nobody_else_is_touched(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        before = actors(hall)
        await make(hall, PAPER)
        result = await make(hall, CHF)
        await hall.up()

        assert {name: hall.actor(name) for name in EVERYBODY} == before
        assert names(hall) == EVERYBODY | {"p", "p/EURUSD", "fx/USD_CHF"}
        assert set(rows(await hall.supervisor.status())) >= {"p/EURUSD", "fx/USD_CHF"}
        assert result.effects.notified == ("fx",)


@virtual_time
async def test_an_account_that_goes_on_looks_after_what_was_added_to_it(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(70, instrument="USD_CHF")
        await hall.until(lambda s: bool(s["accounts"][0]["discrepancies"]), "nobody looks after it yet")
        await make(hall, CHF)
        status = await hall.until(
            lambda s: rows(s)["fx/USD_CHF"]["status"] == "SUCCESS" and not s["accounts"][0]["discrepancies"], "it is"
        )
        assert [leg["quantity"] for leg in rows(status)["fx/USD_CHF"]["book"]["legs"]] == ["70"]
        hall.brokers["fx"].hold(0, instrument="USD_CHF")
        await hall.until(lambda s: not rows(s)["fx/USD_CHF"]["book"]["legs"], "and it is flat")
        await hall.up()

        await make(hall, RemoveInstrument("fx", "USD_CHF"))
        hall.brokers["fx"].hold(10, instrument="USD_CHF")
        await hall.until(lambda s: bool(s["accounts"][0]["discrepancies"]), "the account says what nobody looks after")


@virtual_time
async def test_an_interval_is_another_one_from_the_next_tick_on_and_the_book_is_the_one_it_was(tmp_path: Path) -> None:
    """FEATURES 3, 15"""
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        status = await hall.until(lambda s: bool(rows(s)["fx/EUR_USD"]["book"]["legs"]), "it is held")
        before, book = actors(hall), rows(status)["fx/EUR_USD"]["book"]
        await make(hall, SetInterval("fx", "EUR_USD", 7.0))

        assert {name for name, actor in actors(hall).items() if actor is not before[name]} == {"fx/EUR_USD"}
        assert hall.actor("fx/EUR_USD").settings.interval_s == 7.0
        status = await hall.up()
        assert rows(status)["fx/EUR_USD"]["book"] == book
        assert restarts(await hall.supervisor.status(), "fx/EUR_USD") == 0, "a change is no death"


@virtual_time
async def test_whoever_is_paused_stays_paused_over_a_restart(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.supervisor.pause("fx", "EUR_USD")
        await hall.until(lambda s: rows(s)["fx/EUR_USD"]["health"]["paused"], "the probe sees it")
        first = hall.actor("fx/EUR_USD")
        await make(hall, QUICKER)
        second = hall.actor("fx/EUR_USD")
        assert second is not first
        await hall.until(lambda _: second.paused, "it was restarted, and rests")
        await hall.cluster.kill("fx/EUR_USD")
        await hall.until(lambda s: restarts(s, "fx/EUR_USD") == 1, "it died")
        await hall.up()
        third = hall.actor("fx/EUR_USD")
        assert third is not second
        await hall.until(lambda _: third.paused, "and rests")
        await hall.supervisor.resume("fx", "EUR_USD")
        await make(hall, SetInterval("fx", "EUR_USD", 3.0))
        fourth = hall.actor("fx/EUR_USD")
        assert fourth is not third
        await hall.up()
        assert not fourth.paused, "who was resumed goes on"


@pytest.mark.parametrize(
    ("change", "held"),
    [
        (RemoveInstrument("fx", "EUR_USD"), ["fx/EUR_USD: net 100"]),
        (RemoveAccount("fx"), ["fx/EUR_USD: net 100", "fx/GBP_JPY: 1 open order"]),
    ],
    ids=["an instrument", "an account"],
)
def test_what_is_not_flat_is_let_go_of_by_force_alone_and_stays_in_the_journal(
    tmp_path: Path, change: Change, held: list[str]
) -> None:
    async def story() -> None:
        async with a_hall(tmp_path) as hall:
            hall.brokers["fx"].hold(100, instrument="EUR_USD")
            hall.brokers["fx"].order("B1", instrument="GBP_JPY")
            await hall.until(
                lambda s: bool(rows(s)["fx/EUR_USD"]["book"]["legs"] and rows(s)["fx/GBP_JPY"]["book"]["open_orders"]),
                "they are held",
            )
            await hall.up()
            before = actors(hall)
            with pytest.raises(ChangeRefused, match="nothing was changed") as refused:
                await make(hall, change)
            assert all(words in str(refused.value) for words in held)
            assert actors(hall) == before
            assert not changes(hall)
            asked = await hall.supervisor.change(change, "tests", False, True)
            assert "this needs --force" in str(Changes(asked, {}))
            assert "this needs --force" not in str(Changes(asked, {}, forced=True))

            await make(hall, change, force=True)
            assert "fx/EUR_USD" not in names(hall)
            assert changes(hall)[0]["held"] == held
            streams = await hall.runtime.call("audit", "streams", timeout_s=1)
            assert "fx/EUR_USD" in streams

    virtual_time(story)()


@virtual_time
async def test_what_nobody_looks_after_any_more_is_at_no_moment_green(tmp_path: Path) -> None:
    """Removed by force, and ignored no longer: until its account has said what is nobody's now, that is unknown."""

    def of_account(status: dict[str, Any]) -> list[str]:
        return [one["key"] for one in status["accounts"][0]["discrepancies"]]

    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: bool(rows(s)["fx/EUR_USD"]["book"]["legs"]), "it is held")
        await hall.up()
        rest = TWO_ACCOUNTS.replace("EUR_USD, GBP_JPY", "GBP_JPY")
        ignoring = other(hall, rest.replace("instruments", "ignore_instruments: [EUR_USD], instruments", 1), "b.yaml")
        changes_made: list[Change] = [
            RemoveInstrument("fx", "EUR_USD"), Apply(ignoring, "b.yaml"), Apply(other(hall, rest, "c.yaml"), "c.yaml"),
        ]  # fmt: skip
        for change, nobodys in zip(changes_made, (["EUR_USD"], [], ["EUR_USD"]), strict=True):
            await hall.supervisor.change(change, "tests", True)
            at_once = await hall.supervisor.status()
            assert (at_once["status"], at_once["accounts"][0]["error"] is None) == ("DEGRADED", False)
            began_s = hall.runtime.monotonic_s()
            found = await hall.until(lambda s: s["status"] != "DEGRADED", "the account has said it")
            assert of_account(found) == nobodys
            assert found["status"] == ("PARTIAL" if nobodys else "SUCCESS")
            assert hall.runtime.monotonic_s() - began_s < 1


@virtual_time
async def test_a_book_that_is_not_verified_counts_as_not_flat(tmp_path: Path) -> None:
    """PEERS 1: unknown is not flat."""
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].failing = RuntimeError("lost")
        await hall.until(lambda s: rows(s)["fx/EUR_USD"]["status"] == "DEGRADED", "nothing is known")
        with pytest.raises(ChangeRefused, match="fx/EUR_USD: not verified"):
            await make(hall, RemoveInstrument("fx", "EUR_USD"))


@virtual_time
async def test_a_name_that_would_mean_another_account_is_not_taken_over_with_an_open_book(tmp_path: Path) -> None:
    """PEERS 2"""
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: bool(rows(s)["fx/EUR_USD"]["book"]["legs"]), "it is held")
        await hall.up()
        new = other(hall, TWO_ACCOUNTS.replace("name: fx,", "name: fx, account_id: 101-2,"))
        with pytest.raises(ChangeRefused, match="fx/EUR_USD: net 100"):
            await make(hall, Apply(new, "b.yaml"))


@virtual_time
async def test_apply_carries_out_what_differs_in_one_record_and_a_second_time_nothing(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        before = actors(hall)
        new = other(
            hall,
            """
  - {name: fx, broker: oanda, simulator: true, instruments: [{symbol: EUR_USD, interval_s: 2}, USD_CHF]}
  - {name: cfd, broker: mt5, simulator: true, instruments: [EURUSD]}
  - {name: p, broker: paper, instruments: [EURUSD]}
""",
        )
        shown = await hall.supervisor.change(Apply(new, "b.yaml"), "tests", False, True)
        assert not shown.made
        assert actors(hall) == before
        assert not changes(hall)

        done = await make(hall, Apply(new, "b.yaml"))
        assert (done.rows, done.effects) == (shown.rows, shown.effects)
        assert names(hall) == {"audit", "fx", "fx/EUR_USD", "fx/USD_CHF", "cfd", "cfd/EURUSD", "p", "p/EURUSD"}
        untouched = {"audit", "fx", "cfd", "cfd/EURUSD"}
        assert {name: hall.actor(name) for name in untouched} == {name: before[name] for name in untouched}
        [record] = changes(hall)
        assert record["by"] == "tests"
        assert record["change"] == "apply b.yaml"
        assert record["changes"] == [
            "instrument fx/EUR_USD changed: interval_s 2",
            "instrument fx/GBP_JPY removed",
            "instrument fx/USD_CHF added",
            "account p added: broker paper",
            "instrument p/EURUSD added",
        ]
        assert record["standing"] in {applied_configuration.read(hall.configuration, record["standing"]).sha256}

        assert (await make(hall, Apply(new, "b.yaml"))).made is False
        assert len(changes(hall)) == 1


@virtual_time
async def test_from_all_instruments_to_a_list_and_back_nobody_is_let_go_of(tmp_path: Path) -> None:
    accounts = "[{name: fx, broker: oanda, simulator: true, instruments: %s}]"
    async with a_hall(tmp_path, accounts % "[EUR_USD]") as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: bool(rows(s)["fx/EUR_USD"]["book"]["legs"]), "it is held")
        await hall.up()
        instrument = hall.actor("fx/EUR_USD")
        result = await make(hall, Apply(other(hall, accounts % "all"), "all"))
        assert (result.effects.restarted, result.effects.stopped) == (("fx",), ())
        result = await make(hall, Apply(other(hall, accounts % "[EUR_USD]"), "list"))
        assert (result.effects.restarted, result.effects.stopped) == (("fx",), ())
        assert hall.actor("fx/EUR_USD") is instrument


@virtual_time
async def test_an_edited_literal_secret_restarts_its_account_and_stands_in_no_record_or_file(
    tmp_path: Path, logged: list[str]
) -> None:
    account = "[{name: fx, broker: oanda, account_id: a-1, token: %s, instruments: [EUR_USD]}]"
    async with a_hall(tmp_path, account % "first-token") as hall:
        await crash(hall, applied_configuration.new_run(hall.configuration))
        before = actors(hall)
        result = await make(hall, Apply(other(hall, account % "second-token", "accounts.yaml"), "accounts.yaml"))

        assert [str(row) for row in result.rows] == ["account fx changed: token changed"]
        assert {name for name, actor in actors(hall).items() if actor is not before[name]} == {"fx"}
        written = [
            path.read_bytes() for path in (tmp_path / "journal.db", *applied_configuration.files(hall.configuration))
        ]
        assert not any(b"-token" in one for one in written)
        assert not any("-token" in line for line in logged)
        assert not (await make(hall, Apply(other(hall, account % "second-token", "c.yaml"), "c.yaml"))).made


@virtual_time
async def test_a_secret_that_the_actors_do_not_have_is_told_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET_HERE", raising=False)
    document = {"name": "x", "broker": "oanda", "account_id": "1", "instruments": ["E"], "token": "${NOT_SET_HERE}"}
    async with a_hall(tmp_path) as hall:
        with pytest.raises(ChangeRefused, match="NOT_SET_HERE is not set") as refused:
            await make(hall, parsing.account_from(document))
        assert "The actors have the environment in which Ray was started" in str(refused.value)
        assert names(hall) == EVERYBODY


@virtual_time
async def test_while_the_journal_is_away_nothing_is_changed(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        await hall.supervisor.change(CHF, "tests", dry_run=True)  # the first one waits for a journal that comes up
        await hall.cluster.kill("audit")
        with pytest.raises(ChangeNotMade, match="nothing was changed: every change is journaled first"):
            await make(hall, CHF)
        await hall.until(lambda s: names(hall) == EVERYBODY and states(s)["audit"] == "UP", "it is back, and no other")
        assert (await make(hall, CHF)).made


@virtual_time
@pytest.mark.parametrize("others", [(), ("fx/EUR_USD",), ("fx/EUR_USD", "fx", "audit")], ids=str)
async def test_a_pause_outlives_the_supervisor_and_its_instrument_until_it_is_resumed(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    """PEERS 15"""
    async with a_hall(tmp_path) as hall:
        paused = {"fx/EUR_USD"}
        await hall.supervisor.pause("fx", None)
        await hall.supervisor.resume("fx", "GBP_JPY")
        for name in others:
            await hall.cluster.kill(name)
        await hall.cluster.kill(SUPERVISOR)
        hall.new_supervisor(Run())
        await hall.until(lambda s: set(states(s).values()) == {"UP"}, "everybody is up")
        await asyncio.sleep(10)
        status = await hall.supervisor.status()
        assert {name for name, row in rows(status).items() if row["health"]["paused"]} == paused
        await hall.supervisor.resume(None, None)
        await hall.cluster.kill(SUPERVISOR)
        hall.new_supervisor(Run())
        await hall.until(lambda s: s["status"] == "SUCCESS", "everything is in step")
        await hall.supervisor.pause("fx", None)
        await hall.cluster.kill(SUPERVISOR)
        await hall.cluster.kill("fx/EUR_USD")
        hall.new_supervisor(applied_configuration.new_run(hall.configuration))  # a pause is of its run
        await hall.until(lambda s: not rows(s)["fx/EUR_USD"]["health"]["paused"], "it runs")


@virtual_time
async def test_a_supervisor_that_stops_takes_no_change(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        stopping = asyncio.create_task(hall.supervisor.stop())
        await asyncio.sleep(0)
        with pytest.raises(ChangeRefused, match="the supervisor is stopping"):
            await make(hall, CHF)
        await stopping
        assert names(hall) == set()


# A crash of the supervisor


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


async def _before_an_account_is_told(hall: Hall) -> set[str]:
    dying = hall.supervisor

    async def deliver(actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        if (actor, method) == ("fx", "manage") and hall.supervisor is dying:
            raise ActorUnavailable(actor, method, "it is told later")
        return await send()

    hall.runtime.deliver = deliver
    await make(hall, CHF)
    assert "USD_CHF" not in (await hall.actor("fx").health()).managed
    return EVERYBODY | {"fx/USD_CHF"}


@pytest.mark.parametrize(
    "until",
    [_before_the_record, _before_the_first_record, _before_it_is_carried_out, _before_an_account_is_told],
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
async def test_a_fresh_start_begins_from_its_file_and_tells_what_is_no_longer_so(
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


# From a strategy or a notebook


class _Handle(AsyncChanges):
    def __init__(self, hall: Hall) -> None:
        self._port = lambda: hall.runtime


@virtual_time
async def test_the_handle_changes_what_runs_and_shows_what_came_of_it(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        sup = _Handle(hall)
        dry = await sup.add_account(name="p", broker="paper", instruments=["EURUSD"], dry_run=True)
        assert not dry.made
        assert "what would change" in str(dry)
        added = await sup.add_account({"name": "p", "broker": "paper", "instruments": ["EURUSD"]})
        assert (added.made, added.waiting) == (True, {})
        assert "2 of 2 affected actors run the new settings" in str(added)
        assert (await sup.add_instrument("p", "GBPUSD", interval_s=3)).result.effects.restarted == ("p",)
        assert (await sup.set_interval("fx", "EUR_USD", 2)).to_dict()["changes"] == [
            "instrument fx/EUR_USD changed: interval_s 2"
        ]
        assert (await sup.remove_instrument("p", "GBPUSD", force=True)).made
        assert (await sup.remove_account("p", force=True)).made
        assert (await sup.set_interval("fx", "EUR_USD", 2)).made is False
        back = await sup.apply(tmp_path / "accounts.yaml")
        assert [row["keys"] for row in back.table().rows] == ["interval_s 2 → default (1)"]
        assert names(hall) == EVERYBODY
        assert all(record["by"] == parsing.asked_by() for record in changes(hall))
        assert len(changes(hall)) == 6


def test_an_actor_that_does_not_come_up_is_named() -> None:
    from supervisor.changes.diff import Effects, How, Row

    result = Changed("add account p", (Row("account", "p", How.ADDED),), Effects(("p",)), ("fx/E: net 1",), made=True)
    shown = Changes(result, {"p": ("QUARANTINED", "its actor is in quarantine: no adapter")})
    assert "not yet: p: its actor is in quarantine: no adapter" in str(shown)
    assert shown.waiting == {"p": "its actor is in quarantine: no adapter"}
    assert shown.to_dict()["held"] == ["fx/E: net 1"]
    assert not set(HALT_TYPES) & {EventType.CONFIGURATION_CHANGED}


@virtual_time
async def test_instruments_move_into_cells_and_out_of_them_with_their_books(tmp_path: Path) -> None:
    """Merged, split and dissolved by one key: nobody else is touched, and nothing is held twice or lost."""
    shared = TWO_ACCOUNTS.replace("name: fx,", "name: fx, instruments_per_actor: SIZE,")
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, instrument="EUR_USD")
        await hall.until(lambda s: bool(rows(s)["fx/EUR_USD"]["book"]["legs"]), "it is held")
        before, alone = rows(await hall.up())["fx/EUR_USD"]["book"], hall.actor("cfd/EURUSD")

        for number, (size, carriers) in enumerate([(2, {"fx~1"}), (1, set()), (2, {"fx~1"})]):
            made = await make(
                hall, Apply(other(hall, shared.replace("SIZE", str(size)), f"{number}.yaml"), f"{number}.yaml")
            )
            assert set(made.effects.restarted) == {"fx/EUR_USD", "fx/GBP_JPY"}
            assert {name for name in names(hall) if "~" in name} == carriers
            assert rows(await hall.up())["fx/EUR_USD"]["book"] == before
            assert hall.actor("cfd/EURUSD") is alone
