"""The handle from a second process, on a real Ray: what a strategy and a notebook do with a running supervisor.

One cluster for the whole file. The brokers are simulators in the tests' own process, so that the tests say what is
true; the supervisor finds out when the handle asks, as its own interval is a day.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from actors.journal.store import Journal
from brokers.model import Side
from brokers.simulators.mt5 import Mt5Simulator
from brokers.simulators.oanda import OandaSimulator
from supervisor.client import processes
from supervisor.client.processes import Running
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from tests.cluster.conftest import actors, all_verified, until

ACCOUNT_ID, TOKEN, LOGIN = "101-001-0000001-001", "the-token-of-this-test", 5001
CONFIGURATION = """
ray: {{address: local, namespace: handle}}
journal: {{url: "sqlite:///{directory}/journal.db"}}
defaults: {{interval_s: 86400, confirm_gap_ms: 50, settle_ms: 100, timeout_ms: 20000}}
supervision: {{intensity: 5, period_s: 60, backoff_s: [0.1, 1]}}
accounts:
  - {{name: fx, broker: oanda, account_id: {account_id}, token: "${{TOKEN_OF_THE_HANDLE_TEST}}",
     rest_url: "{rest_url}", instruments: [GBP_JPY, EUR_USD]}}
  - {{name: cfd, broker: mt5, login: {login}, endpoint: "{endpoint}",
     instruments: [{{symbol: EURUSD, interval_s: 0.5}}]}}
  - {{name: off, broker: mt5, enabled: false, endpoint: "tcp://127.0.0.1:9", instruments: [EURUSD]}}
"""

SERVER = """
import asyncio, json, sys, threading, time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
import supervisor
def allowed(instrument):
    "Once it is, after a restart: a first cycle has to be seen, and the halts to be heard of."
    deadline_s = time.monotonic() + 60
    while not (answer := instrument.trading_allowed()) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return bool(answer) or str(answer)
def in_step(handle):
    "Once it says so: a status is made of the last answers to probes, and may be seconds behind what was done."
    deadline_s = time.monotonic() + 60
    while (found := handle.status()).status != "SUCCESS" and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return found.status if found.status == "SUCCESS" else str(found)
for line in sys.stdin:
    try:
        exec(json.loads(line), globals())
        answer = {"value": _work()}
    except Exception as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    print(json.dumps(answer, default=str), flush=True)
"""


class Slow(OandaSimulator):
    """Answers after ``gate`` is open, with what was true when it was asked."""

    def __init__(self) -> None:
        super().__init__(ACCOUNT_ID, TOKEN, instruments=("GBP_JPY", "EUR_USD"))
        self.gate = threading.Event()
        self.gate.set()
        self.held = threading.Event()

    def _answer(self, method: str, path: str, params: dict[str, Any]) -> Any:
        answer = super()._answer(method, path, params)
        if not self.gate.is_set():
            self.held.set()
            self.gate.wait(10)
        return answer


class Second:
    """A second process with the handle in it, that does as it is asked. It has none of the accounts' secrets."""

    def __init__(self, configuration: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "TOKEN_OF_THE_HANDLE_TEST"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self.configuration = str(configuration)

    def connect(self) -> None:
        self.run(
            f"""
            global sup, gbp, eur, mt5
            sup = supervisor.connect({self.configuration!r}, timeout_s=30)
            gbp, eur, mt5 = (sup.instrument(*name) for name in
                             (("fx", "GBP_JPY"), ("fx", "EUR_USD"), ("cfd", "EURUSD")))
            """
        )

    def ask(self, code: str) -> dict[str, Any]:
        """Run some lines there; what they return, or the error they raised."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        body = textwrap.indent(textwrap.dedent(code).strip(), "    ")
        self.process.stdin.write(json.dumps(f"def _work():\n{body}") + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def run(self, code: str) -> Any:
        answer = self.ask(code)
        assert "error" not in answer, answer
        return answer["value"]

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._end()

    def _end(self) -> None:
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self.process.stdin is not None and not self.process.stdin.closed:
            with pytest.MonkeyPatch.context():
                self.process.stdin.close()


class Scene:
    """The supervisor, the brokers, and the second process."""

    def __init__(self, directory: Path) -> None:
        self.oanda = Slow()
        self.mt5 = Mt5Simulator(login=LOGIN, instruments=("EURUSD",))
        self.path = directory / "accounts.yaml"
        self.path.write_text(
            CONFIGURATION.format(
                directory=directory,
                account_id=ACCOUNT_ID,
                login=LOGIN,
                rest_url=self.oanda.start(),
                endpoint=self.mt5.start(),
            )
        )
        self.configuration: Configuration = load(self.path)
        self.supervisor: Running
        self.second: Second

    def start(self) -> None:
        """Start the supervisor."""
        self._started = processes.started(self.configuration, detach=False, on_step=lambda _: None, dashboard=False)
        self.supervisor = self._started.__enter__()
        until(self.supervisor, all_verified, "everything comes up")

    def stop(self) -> None:
        """Stop the supervisor, in order; its cluster ends with it."""
        self._started.__exit__(None, None, None)

    def kill(self, name: str) -> None:
        """Kill an actor's process."""
        os.kill(actors(self.supervisor.status())[name]["pid"], signal.SIGKILL)

    def held(self, instrument: str) -> dict[str, str]:
        """What the book holds, as the second process sees it."""
        legs = self.second.run(f"return {instrument}.book().to_dict()['legs']")
        return {leg["leg"]: leg["quantity"] for leg in legs}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    os.environ["TOKEN_OF_THE_HANDLE_TEST"] = TOKEN
    made = Scene(tmp_path_factory.mktemp("handle"))
    try:
        made.start()
        made.second = Second(made.path)
        made.second.connect()
        yield made
        made.second.close()
        made.stop()
        journal = Journal.open(made.configuration.journal_url, read_only=True)
        assert journal.verify().ok
        journal.close()
    finally:
        made.oanda.close()
        made.mt5.close()
        del os.environ["TOKEN_OF_THE_HANDLE_TEST"]


@pytest.mark.parametrize(("trade", "side"), [("buy", Side.BUY), ("sell", Side.SELL), ("close", Side.SELL)])
def test_right_after_a_trade_it_is_checked_and_the_events_name_the_trade(scene: Scene, trade: str, side: Side) -> None:
    """FEATURES 2"""
    scene.oanda.trade("EUR_USD", side, Decimal(100))
    status, named, quantity, events = scene.second.run(
        f"""
        before = sup.audit(limit=1)[0].seq
        done = eur.post_trade({trade!r})
        again = eur.post_trade({trade!r})
        new = [e for e in sup.audit("fx", "EUR_USD", limit=50) if e.seq > before]
        return done.status, done.trade, str(eur.book().quantity), [(e.type, e.payload.get("trade")) for e in new]
        """
    )
    truth = sum((held for (name, _), held in scene.oanda.positions().items() if name == "EUR_USD"), Decimal(0))
    assert (status, named, Decimal(quantity)) == ("SUCCESS", trade, truth)
    assert ["ORDER_FILLED", trade] in events
    assert events[0] == ["RECONCILED", trade], "a check that finds everything in step is in the journal too"
    assert {trade_of for _, trade_of in events} == {trade}


def test_a_models_features_are_compared_with_the_verified_book_and_corrected(scene: Scene) -> None:
    """FEATURES 8"""
    scene.oanda.close_by_hand("EUR_USD")
    scene.oanda.set_price("EUR_USD", Decimal("1.1"))
    scene.oanda.trade("EUR_USD", Side.BUY, Decimal(200))
    scene.second.run("eur.reconcile()")
    found = scene.second.run(
        """
        right = dict(side="long", quantity=200.0, average_price=1.1, unrealised_pnl=2.0, seconds_in_position=1.0)
        agreed = eur.validate_features(supervisor.PositionFeatures(**right), mark_price="1.11")
        wrong = supervisor.PositionFeatures(side="short", quantity=150, average_price=1.2, mark_price="1.11")
        found = eur.validate_features(wrong)
        return (agreed.differing, agreed.usable, bool(agreed.verified_at), found.differing, bool(found),
                found.to_dict()["corrected"])
        """
    )
    differing, usable, verified, wrong, right, corrected = found
    assert (set(differing) <= {"seconds_in_position"}, usable, verified) == (True, True, True)
    assert (wrong, right) == (["side", "quantity", "average_price"], False)
    assert (corrected["side"], corrected["quantity"], corrected["average_price"]) == ("long", "200", "1.1")
    assert Decimal(corrected["unrealised_pnl"]) == 2


def test_detecting_drift_changes_nothing(scene: Scene) -> None:
    """FEATURES 11"""
    scene.oanda.set_position("GBP_JPY", "long", Decimal(70), Decimal("190.5"))
    before, drift, after, repaired, quantity = scene.second.run(
        """
        before = gbp.book().to_dict()["version"]
        drift = sup.detect_drift("fx", "GBP_JPY").discrepancies.to_dict()["discrepancies"]
        after = gbp.book().to_dict()["version"]
        repaired = [d.correction for d in gbp.reconcile().discrepancies]
        return before, drift, after, repaired, str(gbp.book().quantity)
        """
    )
    assert before == after
    assert [(d["type"], d["broker_value"], d["resolved"]) for d in drift] == [("MISSING_LOCALLY", "70", False)]
    assert (repaired, quantity) == (["force_add_position"], "70")


def test_legs_by_ticket_orders_by_ticket_and_lots_through_corrections(scene: Scene) -> None:
    """FEATURES 13"""
    ticket = scene.mt5.set_position("EURUSD", "7001", Decimal(3), Decimal("1.1"))
    first = scene.second.run("mt5.reconcile(); return mt5.positions_by_ticket().to_dict()")
    scene.mt5.set_position("EURUSD", ticket, Decimal(5), Decimal("1.3"))
    grown = scene.second.run("mt5.reconcile(); return mt5.positions_by_ticket().to_dict()")
    scene.mt5.set_position("EURUSD", ticket, Decimal(1), Decimal("1.3"))
    shrunk = scene.second.run("mt5.reconcile(); return mt5.positions_by_ticket().to_dict()")
    order = scene.mt5.place_limit("EURUSD", Side.BUY, Decimal(1), Decimal("0.9"))
    found, nobody = scene.second.run(
        f"mt5.reconcile(); return mt5.order_by_ticket(int({order!r})).to_dict(), mt5.order_by_ticket(99)"
    )
    scene.mt5.set_position("EURUSD", ticket, Decimal(0), Decimal(0))
    closed = scene.second.run("mt5.reconcile(); return len(mt5.positions_by_ticket())")

    assert [(lot["quantity"], lot["price"]) for lot in first[ticket]["lots"]] == [("3", "1.1")]
    assert [(lot["quantity"], lot["price"]) for lot in grown[ticket]["lots"]] == [("3", "1.1"), ("2", "1.6")]
    assert [(lot["quantity"], lot["price"]) for lot in shrunk[ticket]["lots"]] == [("1", "1.6")]
    assert (found["broker_order_id"], found["status"], found["quantity"]) == (order, "OPEN", "1")
    assert (nobody, closed) == (None, 0)


def test_an_early_check_does_nothing(scene: Scene) -> None:
    """FEATURES 15"""
    asked = len(scene.oanda.requests)
    early = scene.second.run(
        "a, b = gbp.check(), gbp.check(); return a.report.finished_at == b.report.finished_at, a.status"
    )
    assert early == [True, "SUCCESS"]
    assert len(scene.oanda.requests) == asked
    assert scene.second.run(
        "a = mt5.check(); time.sleep(0.6); return mt5.check().report.finished_at > a.report.finished_at"
    ), "an interval of its own"


def test_an_account_that_is_off_is_not_there_and_a_strategy_that_dies_disturbs_nobody(scene: Scene) -> None:
    """FEATURES 22"""
    error = scene.second.ask("sup.instrument('off', 'EURUSD')")
    assert (error["error"], error["text"]) == ("UnknownName", "there is no account 'off' here. There are: fx, cfd")
    error = scene.second.ask("sup.instrument('fx', 'USD_CHF')")
    assert error["text"] == "account fx has no instrument 'USD_CHF'. It has: GBP_JPY, EUR_USD"

    pids = {name: row["pid"] for name, row in actors(scene.supervisor.status()).items()}
    scene.second.kill()
    scene.second = Second(scene.path)
    scene.second.connect()
    twice = scene.second.run(
        f"""
        with supervisor.connect({scene.second.configuration!r}) as other:
            first = in_step(other)
        return first, in_step(sup)
        """
    )
    assert twice == ["SUCCESS", "SUCCESS"], "closing one handle leaves the other"
    assert {name: row["pid"] for name, row in actors(scene.supervisor.status()).items()} == pids


def test_a_fill_reported_while_a_cycle_waits_is_not_undone_by_that_cycles_older_snapshot(scene: Scene) -> None:
    """PEERS 11"""
    scene.oanda.close_by_hand("EUR_USD")
    order = scene.oanda.place_limit("EUR_USD", Side.BUY, Decimal(100), Decimal("1.0"))
    scene.second.run("eur.reconcile()")
    scene.oanda.held.clear()
    scene.oanda.gate.clear()
    try:
        scene.second.run(
            """
            global checking, checked
            checked = []
            checking = threading.Thread(target=lambda: checked.append(eur.reconcile()))
            checking.start()
            """
        )
        assert scene.oanda.held.wait(60), "the broker's answer, in which nothing is held, is on its way"
        fill = scene.oanda.fill_order(order, Decimal(40))
        recorded = scene.second.run(
            f"""
            fill = dict(fill_id={fill!r}, side="BUY", quantity=40, price="1.0", time=datetime.now(UTC))
            return eur.record_fill(**fill).news, eur.record_fill(**fill).news, str(eur.book().quantity)
            """
        )
    finally:
        scene.oanda.gate.set()
    undone = scene.second.run(
        """
        checking.join()
        return [(d.found.type, d.found.broker_value) for d in checked[0].discrepancies
                if d.found.type in ("NAKED_POSITION", "POSITION_MISMATCH", "MISSING_LOCALLY")]
        """
    )
    assert recorded == [True, False, "40"]
    assert undone == []
    assert scene.held("eur")["long"] == "40"


def test_the_same_calls_run_on_paper_where_our_own_venue_executes_what_was_recorded(scene: Scene) -> None:
    """FEATURES 19"""
    quantity, price, status = scene.second.run(
        """
        sup.add_account(name="rehearsal", broker="paper", instruments=["EURUSD"], interval_s=1)
        paper = sup.instrument("rehearsal", "EURUSD")
        sup.venue("rehearsal").feed("EURUSD", "1.1", "1.1002")
        paper.record_order(client_order_id="p1", side="BUY", quantity=3, order_type="MARKET", status="PENDING_SUBMIT")
        deadline_s = time.monotonic() + 60
        while not (legs := paper.book().to_dict()["legs"]) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        checked = paper.post_trade("buy")
        sup.remove_account("rehearsal", force=True)
        return legs[0]["quantity"], legs[0]["average_price"], checked.to_dict()["status"]
        """
    )
    assert (quantity, price, status) == ("3", "1.1002", "SUCCESS")


def test_an_open_entry_and_its_fill_are_the_same_after_every_restart(scene: Scene) -> None:
    """PEERS 15, FEATURES 28: an instrument's actor is killed, then everything is stopped and started."""
    order = scene.oanda.place_limit("GBP_JPY", Side.BUY, Decimal(30), Decimal(150), client_order_id="entry")
    done = scene.oanda.place_limit("GBP_JPY", Side.BUY, Decimal(10), Decimal(150))
    fill = scene.oanda.fill_order(done)
    entry = f'dict(client_order_id="entry", broker_order_id={order!r}, side="BUY", quantity=30, status="OPEN")'
    filled = f'dict(fill_id={fill!r}, broker_order_id={done!r}, side="BUY", quantity=10, price=150, '
    filled += f"time={datetime.now(UTC).isoformat()!r})"
    report = f"return gbp.record_order(**{entry}).news, gbp.record_fill(**{filled}).news"
    look = """
        book = gbp.book().to_dict()
        orders = [(o["broker_order_id"], o["filled_quantity"], o["status"]) for o in book["open_orders"]]
        return [(leg["leg"], leg["quantity"]) for leg in book["legs"]], orders
        """
    assert scene.second.run(report)[0] is True, "and of the fill a cycle may have heard first"
    before = scene.second.run(look)
    assert before[1] == [[order, "0", "OPEN"]]

    scene.kill("fx/GBP_JPY")
    assert scene.second.run(f"return gbp.record_fill(**{filled}).news") is False, "the handle finds the new actor"
    assert scene.second.run(look) == before

    halted = scene.second.run(
        """
        return [bool(sup.halt("fx", "EUR_USD", reason="news at two")), bool(sup.halt("cfd", reason="maintenance")),
                allowed(gbp), eur.trading_allowed().to_dict()["reasons"], bool(mt5.trading_allowed())]
        """
    )
    assert halted[:3] == [True, True, True]
    assert [reason["obstacle"] for reason in halted[3]] == ["HALTED"]
    assert halted[3][0]["text"].endswith(": news at two")
    assert halted[4] is False
    last = scene.second.run(
        """
        eur.record_position(leg='long', quantity=77, average_price='1.1')
        return sup.audit("fx", "EUR_USD", types=["POSITION_RECORDED"], limit=1)[0].seq
        """
    )

    scene.stop()
    gone = scene.second.run(
        """
        deadline_s = time.monotonic() + 60
        while "has ended" not in str(answer := gbp.trading_allowed()) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        try:
            gbp.record_position(quantity=1, average_price=1)
        except supervisor.NotRecorded as error:
            return bool(answer), str(answer), str(error)
        """
    )
    assert gone[0] is False
    assert "has ended. This handle finds the supervisor when it runs again" in gone[1]
    assert "Report the same again" in gone[2], "a strategy outlives its supervisor, and is informed"
    scene.start()
    again = scene.second.run(
        """
        deadline_s = time.monotonic() + 60
        while True:
            try:
                return in_step(sup), asyncio.run(sup.aio.status()).status
            except supervisor.NotAnswered:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)
        """
    )
    assert again == ["SUCCESS", "SUCCESS"], "it finds the new start by itself"

    assert scene.second.run(look) == before
    assert scene.second.run(report) == [False, False], "what was reported before is no news"
    still = scene.second.run(
        "return [allowed(gbp), *(bool(i.trading_allowed()) for i in (eur, mt5))], sup.status().to_dict()"
    )
    assert still[0] == [True, False, False]
    shown = {i["instrument"]: i["health"]["halted"] for a in still[1]["accounts"] for i in a["instruments"]}
    assert [halt["scope"] for halt in shown["EUR_USD"]] == ["fx/EUR_USD"]
    assert [halt["reason"] for halt in shown["EURUSD"]] == ["maintenance"]
    kept = scene.second.run(
        f"return [e.type for e in sup.events(['POSITION_RECORDED'], after_seq={last} - 1, idle_s=1)]"
    )
    assert kept == ["POSITION_RECORDED"], "nothing that was acknowledged is lost by a stop"
    scene.kill("cfd/EURUSD")
    resumed = scene.second.run(
        """
        gone = bool(mt5.trading_allowed())
        mt5.book()
        still = bool(mt5.trading_allowed())
        sup.resume_trading()
        return gone, still, [allowed(i) for i in (gbp, eur, mt5)]
        """
    )
    assert resumed == [False, False, [True, True, True]]


def test_the_halt_of_the_command_line_is_what_a_strategy_sees(scene: Scene) -> None:
    def command(*arguments: str) -> tuple[int, str]:
        line = [sys.executable, "-m", "supervisor", *arguments, "-c", str(scene.path)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    asked = "return [bool(i.trading_allowed()) for i in (gbp, eur, mt5)]"
    status, said = command("halt", "fx", "--reason", "news")
    assert (status, said) == (0, "trading halted: account fx\n")
    assert scene.second.run(asked) == [False, False, True]
    assert command("resume", "fx") == (0, "resumed: fx/GBP_JPY, fx/EUR_USD\ntrading resumed: account fx\n")
    assert scene.second.run(asked) == [True, True, True]


def test_a_verdict_now_sums_up_in_a_line_for_each_account(scene: Scene) -> None:
    """FEATURES 28"""
    text, shown, frame = scene.second.run(
        """
        verdict = sup.reconcile()
        return str(verdict), verdict._repr_html_(), list(verdict.to_pandas()["instrument"])
        """
    )
    assert "fx: 2 of 2 in step, discrepancies: " in text
    assert shown.count("<tr>") >= 4
    assert frame == ["GBP_JPY", "EUR_USD", "EURUSD"]


def test_live_events_miss_nothing_over_a_restart_of_the_journals_actor_and_can_be_resumed(scene: Scene) -> None:
    scene.second.run(
        """
        global live
        live = sup.events(["FILL_RECORDED"], account="cfd")
        def fill(number):
            mt5.record_fill(fill_id=f"live{number}", side="BUY", quantity=1, price="1.1", time=datetime.now(UTC))
        globals()["fill"] = fill
        fill(1)
        """
    )
    first, place = scene.second.run("return next(live).payload['fill_id'], live.seq")
    scene.kill("audit")
    both = scene.second.run(
        """
        deadline_s = time.monotonic() + 60
        while True:
            try:
                fill(2)
                break
            except supervisor.NotRecorded:
                if time.monotonic() > deadline_s:
                    raise
        fill(3)
        return [next(live).payload["fill_id"], next(live).payload["fill_id"]]
        """
    )
    resumed = scene.second.run(
        f"""
        async def all_of_them():
            found = []
            async with sup.aio.events(["FILL_RECORDED"], account="cfd", after_seq={place}, idle_s=1) as events:
                async for event in events:
                    found.append(event.payload["fill_id"])
            mt5_now = await mt5.aio.trading_allowed()
            return found, mt5.trading_allowed().permission.account == mt5_now.permission.account
        live.close()
        return asyncio.run(all_of_them())
        """
    )
    assert (first, both, resumed) == ("live1", ["live2", "live3"], [["live2", "live3"], True])
