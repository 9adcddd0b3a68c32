"""Changes at run time, made by a supervisor with everybody it supervises, in one process and in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.book.trading_permission import HALT_TYPES
from actors.events import Event, EventType
from actors.journal.types import JournalUnavailable
from actors.reconciliation.own_reports import OrderReport
from actors.runtime.ports import ActorUnavailable
from brokers.model import OrderStatus, Side
from supervisor.changes import applied_configuration, parsing
from supervisor.changes.applied_configuration import Run
from supervisor.changes.requests import Apply, Change, ChangeRefused, RemoveAccount, RemoveInstrument, SetInterval
from supervisor.changes.transaction import Changed, ChangeNotMade
from supervisor.client.changes import AsyncChanges, Changes
from supervisor.supervision.actor import SUPERVISOR
from tests.unit.apply_cases import CHF, PAPER, QUICKER, a_hall, actors, changes, crash, make, names, other
from tests.unit.builders import dec
from tests.unit.hall import EVERYBODY, TWO_ACCOUNTS, Hall, restarts, rows, states
from tests.unit.virtual_time import virtual_time


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


@pytest.mark.parametrize("written", [True, False])
@virtual_time
async def test_a_report_that_arrives_while_its_instrument_is_taken_out_is_refused_or_looked_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    sent = OrderReport("EUR_USD", "c1", None, Side.BUY, dec(5), "LIMIT", dec("1.1"), OrderStatus.PENDING_SUBMIT)
    async with a_hall(tmp_path) as hall:
        audit = hall.actor("audit")
        append, removal = audit.append, RemoveInstrument("fx", "EUR_USD")

        async def report() -> object:
            return await hall.runtime.call("fx/EUR_USD", "record", (sent,), timeout_s=3.0)

        async def append_after_a_report(stream: str, version: int, events: Sequence[Event]) -> object:
            if EventType.CONFIGURATION_CHANGED in [event.type for event in events]:
                with pytest.raises(ActorUnavailable, match="it ends, since its book was empty"):
                    await report()
                if not written:
                    raise JournalUnavailable("append", "the disk is full", "Make room")
            return await append(stream, version, events)

        monkeypatch.setattr(audit, "append", append_after_a_report)
        if written:
            await make(hall, removal)
            assert "fx/EUR_USD" not in names(hall)
        else:
            with pytest.raises(ChangeNotMade, match="the disk is full"):
                await make(hall, removal)
            assert await report() == 1


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
async def test_a_secret_that_the_actors_do_not_have_is_named_before_anything_changes(
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
