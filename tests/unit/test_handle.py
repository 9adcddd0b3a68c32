"""The handle's one body, on the local runtime and in virtual time; and what `connect` says where nobody is."""

from __future__ import annotations

import errno
import math
import os
import re
import socket
import threading
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import supervisor
from actors.events import EventType
from actors.journal.record_filter import RecordFilter
from actors.runtime.ports import ActorUnavailable
from actors.runtime.ray_environment import Address
from brokers.model import Conventions, CostBasis, LegScheme
from supervisor.client import run_file
from supervisor.client.aio import AsyncHandle
from supervisor.client.calls import BlockingPort, Port, call_with_retry, run_blocking
from supervisor.client.connection import Connection, Place
from supervisor.client.events import EventStream
from supervisor.client.features import PositionFeatures
from supervisor.client.instrument import AsyncInstrument, AsyncVenue, FillFields, Named, OrderFields, PositionFields
from supervisor.client.link import ClusterGone, Link
from supervisor.client.records import event_types, severity_of
from supervisor.client.reports import FillReport, OrderReport, PositionReport
from supervisor.client.run_file import NotWritable, RunFile
from supervisor.config.loader import load
from supervisor.config.models import ConfigurationError
from supervisor.errors import (
    InvalidReport,
    NotAnswered,
    NotConnected,
    NotRecorded,
    NotRunning,
    UnknownName,
)
from tests.ports import LOOPBACK, nobody_at, own_port
from tests.unit.hall import a_hall, states
from tests.unit.handle_cases import ALL, FILL, LINK, Unwatched, a_handle, handle_of
from tests.unit.virtual_time import virtual_time

# Reporting


@virtual_time
async def test_what_is_recorded_is_durable_counted_once_and_asked_for_again_where_that_is_not_known(
    tmp_path: Path,
) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        report = FillReport(**{**FILL, "time": hall.runtime.now()})  # type: ignore[arg-type] # validated
        first, second = await eur.record_fill(report), await eur.record_fill(report)
        assert (first.news, second.news, first.key) == (True, False, "f1")
        order = {"client_order_id": "c1", "side": "BUY", "quantity": 5, "status": "OPEN"}
        assert (await eur.record_order(**order)).news  # type: ignore[arg-type] # keywords
        assert not (await eur.record_order(OrderReport(**order))).news  # type: ignore[arg-type] # validated
        assert (await eur.record_position(leg="long", quantity=7, average_price="1.2")).news


@virtual_time
async def test_without_the_journal_a_report_is_to_be_made_again(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (hall, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        await hall.cluster.kill("audit")
        assert (await eur.record_fill(**{**FILL, "fill_id": "f0"})).news, "its actor is back soon"  # type: ignore[arg-type] # keywords
        hall.has_room_for_audit = False
        await hall.cluster.kill("audit")
        with pytest.raises(
            NotRecorded, match=r"fx/EUR_USD: fill f1 may or may not be recorded.* Report the same again"
        ):
            await eur.record_fill(**FILL)  # type: ignore[arg-type] # keywords
        hall.has_room_for_audit = True
        await sup.restart("audit")
        await hall.until(lambda s: states(s)["audit"] == "UP" and "audit" in hall.runtime.names(), "it is back")
        assert (await eur.record_fill(**FILL)).news  # type: ignore[arg-type] # keywords


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("fill", {"price": 1.1}, "price: found 1.1, expected a finite number, as a Decimal or text: a float is not"),
        ("fill", {"side": "buy"}, 'side: found "buy", expected BUY or SELL'),
        ("fill", {"time": "2024-01-02T09:00:00"}, "expected an ISO 8601 time with its offset from UTC"),
        ("fill", {"leg": "foo"}, 'fx/EUR_USD: fill: leg: found "foo", expected long or short'),
        ("fill", {"instrument": "GBP_JPY"}, "sup.instrument('fx', 'GBP_JPY')"),
        ("fill", {"size": 1}, "size: found an unknown key"),
        ("position", {"leg": "short", "quantity": 3, "average_price": 1}, "no positive quantity in short"),
        ("position", {"quantity": 0, "average_price": 1}, "leg: found nothing, expected long or short"),
        ("position", {"quantity": "3"}, "average_price: found nothing"),
        ("order", {"side": "BUY", "quantity": 1, "status": "OPEN"}, "neither client_order_id nor broker_order_id"),
    ],
)
def test_a_report_that_cannot_be_is_refused_with_what_was_expected(
    tmp_path: Path, kind: str, fields: dict[str, Any], words: str
) -> None:
    async def story() -> None:
        async with a_handle(tmp_path) as (_, sup):
            eur = await sup.instrument("fx", "EUR_USD")
            given = {**FILL, **fields} if kind == "fill" else fields
            with pytest.raises(InvalidReport) as caught:
                await getattr(eur, f"record_{kind}")(**given)
            assert words in str(caught.value)
            assert (await eur.book()).state.version == 1

    virtual_time(story)()


@virtual_time
async def test_what_the_broker_said_of_its_legs_decides_where_its_name_does_not(tmp_path: Path) -> None:
    async with a_hall(tmp_path) as hall:
        hall.brokers["cfd"].conventions = Conventions(LegScheme.TICKET, CostBasis.WEIGHTED)
        await hall.up()
        sup = handle_of(hall)
        mt5 = await sup.instrument("cfd", "EURUSD")
        with pytest.raises(InvalidReport, match="cfd/EURUSD: there can be no leg 'net' as reported, expected the pos"):
            await mt5.record_position(leg="net", quantity=1, average_price=1)
        assert (await mt5.record_position(leg="7001", quantity=1, average_price=1)).news


def test_keywords_are_the_fields_of_the_models() -> None:
    for fields, model in ((OrderFields, OrderReport), (FillFields, FillReport), (PositionFields, PositionReport)):
        assert set(fields.__annotations__) == set(model.model_fields)


# Asking


@virtual_time
async def test_names_that_are_not_there_are_named_with_those_that_are(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (_, sup):
        with pytest.raises(UnknownName, match=r"there is no account 'nobody' here. There are: fx, cfd"):
            await sup.instrument("nobody", "EUR_USD")
        for ask in (sup.instrument, sup.reconcile, sup.detect_drift, sup.halt, sup.pause):
            with pytest.raises(UnknownName, match=r"account fx has no instrument 'X'. It has: EUR_USD, GBP_JPY"):
                await ask("fx", "X")


@virtual_time
async def test_an_account_with_all_instruments_starts_one_nobody_has_heard_of(tmp_path: Path) -> None:
    async with a_hall(tmp_path, ALL) as hall:
        sup = handle_of(hall)
        await hall.until(lambda s: states(s).get("fx") == "UP", "the account is up")
        new = await sup.instrument("fx", "USD_CAD")
        assert (await new.record_order(client_order_id="c1", side="SELL", quantity=1, status="OPEN")).news


@virtual_time
async def test_a_book_and_a_models_features_of_it_and_the_audit_trail(tmp_path: Path) -> None:
    """FEATURES 8, FEATURES 13"""
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, "1.1", instrument="EUR_USD", leg="long")
        await hall.up()
        sup = handle_of(hall)
        eur = await sup.instrument("fx", "EUR_USD")
        book = await eur.book()
        assert (book.quantity, book.legs["long"].average_price) == (Decimal(100), Decimal("1.1"))
        assert list(await eur.positions_by_ticket()) == ["long"]
        assert await eur.order_by_ticket(1) is None
        judged = await eur.validate_features(PositionFeatures(side="long", quantity=90), mark_price=1.2)  # type: ignore[arg-type] # validated
        assert (judged.differing, judged.corrected.unrealised_pnl) == (("quantity",), Decimal("10"))
        records = await sup.audit("fx", "EUR_USD", types=["POSITION_SYNCED"])
        assert [(entry.type, entry.payload["quantity"]) for entry in records] == [("POSITION_SYNCED", "100")]
        assert (await eur.recent(1))[0]["type"] == "RECONCILED"
        with pytest.raises(ValueError, match="offset from UTC"):
            await sup.audit(since=datetime(2024, 1, 1))  # noqa: DTZ001 - what is refused
        for answer in (book, judged, records, await sup.status(), await sup.reconcile(), await eur.post_trade("buy")):
            assert "<table>" in answer._repr_html_()
            assert str(answer)
            assert answer.to_dict()
            assert len(answer.to_pandas()) == len(answer.to_polars()) > 0
        with pytest.raises(ValueError, match="expected buy, sell or close"):
            await eur.post_trade("short")  # type: ignore[arg-type] # what is refused


# Blocking


class Scripted:
    """A client that fails a few times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def call(self, actor: str, method: str, *args: object, timeout_s: float) -> str:
        self.failures -= 1
        if self.failures >= 0:
            raise ActorUnavailable(actor, method, "it is being restarted")
        return f"{actor}.{method}{args}"


def test_a_blocking_call_needs_no_event_loop_and_waits_for_an_actor_that_is_being_restarted() -> None:
    port = BlockingPort(Scripted(2), LINK)  # type: ignore[arg-type] # stands in for the client
    assert run_blocking(call_with_retry(port, "fx", "book", 1, timeout_s=5)) == "fx.book(1,)"
    for_ever = BlockingPort(Scripted(10**9), LINK)  # type: ignore[arg-type] # as above
    with pytest.raises(ActorUnavailable):
        run_blocking(call_with_retry(for_ever, "fx", "book", timeout_s=0.2))


async def test_a_blocking_call_works_in_a_thread_whose_event_loop_is_running() -> None:
    assert run_blocking(call_with_retry(BlockingPort(Scripted(1), LINK), "fx", "book", timeout_s=5)) == "fx.book()"  # type: ignore[arg-type] # as above


# Finding a supervisor


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\n"
        "accounts: [{name: fx, broker: oanda, account_id: 101-001-0000001-001, token: '${NOT_SET_HERE}', "
        "instruments: all}]\n"
    )
    return path


def leave_run_file(configuration: Path, address: str, pid: int) -> None:
    plain = configuration.parent / "plain.yaml"
    plain.write_text(
        f"journal: {{url: 'sqlite:///{configuration.parent}/journal.db'}}\n"
        "accounts: [{name: fx, broker: oanda, simulator: true, instruments: all}]\n"
    )
    run_file.write(load(plain), RunFile(address, "token", "test", pid, detached=False))


def test_where_there_is_none_it_says_what_was_looked_for_and_how_to_start_one(configuration: Path) -> None:
    with pytest.raises(NotRunning) as caught:
        supervisor.connect(configuration)
    assert f"there is no run file {configuration.parent}/journal.db.run.json" in str(caught.value)
    assert str(caught.value).endswith(f"Start one with: python -m supervisor start {configuration}")


def test_a_run_file_of_a_process_that_ended_is_reported_at_once(configuration: Path) -> None:
    leave_run_file(configuration, "127.0.0.1:1", 2**22 - 1)
    with pytest.raises(NotRunning, match=r"names process 4194303 at 127.0.0.1:1, which has ended"):
        supervisor.connect(configuration)


def test_a_cluster_that_does_not_answer_is_reported_at_once(configuration: Path) -> None:
    with nobody_at() as port:
        address = f"127.0.0.1:{port}"
        leave_run_file(configuration, address, os.getpid())
        with pytest.raises(NotRunning, match=r"which does not answer\. If it was killed, start it again"):
            supervisor.connect(configuration)
        with pytest.raises(NotRunning, match=f"the Ray cluster at {address}"):
            supervisor.connect(None, address=address)
    for nowhere in ("somewhere", "127.0.0.1:99999", "127.0.0.1:0"):
        with pytest.raises(NotRunning, match=r"is not the host:port.*or leave address out"):
            supervisor.connect(None, address=nowhere)


@pytest.mark.parametrize(
    ("given", "error", "found"),
    [
        ({"address": 6379}, TypeError, "address: found 6379"),
        ({"address": ""}, ValueError, "address: found "),
        ({"namespace": ""}, ValueError, "namespace: found ''"),
        ({"strategy": 7}, TypeError, "strategy: found 7"),
        ({"timeout_s": -1}, ValueError, "timeout_s: found -1"),
    ],
)
def test_what_cannot_name_a_supervisor_is_refused_by_its_argument(
    given: dict[str, Any], error: type[Exception], found: str
) -> None:
    with pytest.raises(error, match=found):
        supervisor.connect(None, **given)


def test_without_a_configuration_and_a_cluster_both_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("supervisor.client.connection.clusters_of_this_machine", list)
    with pytest.raises(NotRunning) as caught:
        supervisor.connect()
    assert f"there is no config/accounts.yaml in {tmp_path}; no Ray cluster runs on this machine" in str(caught.value)


def test_a_configuration_that_cannot_be_read_is_reported_as_anywhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        supervisor.connect(tmp_path / "nowhere.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("ray: {adress: local}\n")
    with pytest.raises(ConfigurationError, match=r"ray\.adress"):
        supervisor.connect(bad)


def test_a_closed_handle_says_so() -> None:
    port: Any = None
    link: Any = Unwatched("nowhere:1", ours=False)
    connection = Connection(Place(Address("nowhere:1", None), "test", "a test"), link, port, port)
    connection.close()
    handle = supervisor.Handle(connection)
    with pytest.raises(NotConnected, match="this handle was closed"):
        handle.status()
    with pytest.raises(NotConnected, match="this handle was closed"):
        supervisor.Instrument(Named("fx", "X", "fx/X", LegScheme.NET), connection).trading_allowed(max_age_s=5)
    assert "closed" in repr(handle)


# When the cluster goes


def test_a_cluster_that_goes_is_noticed_and_every_call_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.client.link._LOOK_EVERY_S", 0.01)
    place = LOOPBACK, own_port()  # nobody else gets it once the server is gone
    address = "{}:{}".format(*place)
    with socket.create_server(place):
        link = Link(address, ours=False)
        link.join()
        port = BlockingPort(Scripted(0), link)  # type: ignore[arg-type] # stands in for the client
        assert run_blocking(port.call("fx", "book", timeout_s=1)) == "fx.book()"
    deadline_s = port.monotonic_s() + 20
    while link.usable and port.monotonic_s() < deadline_s:
        run_blocking(port.sleep(0.01))
    with pytest.raises(ClusterGone, match=f"the Ray cluster at {address} has ended. Connect again"):
        run_blocking(call_with_retry(port, "fx", "book", timeout_s=1))


def test_the_handler_of_a_signal_may_call_wherever_it_interrupts_a_call() -> None:
    link = Unwatched("nowhere:1", ours=False)
    called = threading.Event()

    def interrupted() -> None:
        with link._lock, link.call("fx", "book"):  # noqa: SLF001 - where the handler may find it
            called.set()

    threading.Thread(target=interrupted, daemon=True).start()
    assert called.wait(20)


def test_live_events_end_with_their_cluster_and_say_where_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream waits for a journal that is being restarted, and not for one that cannot come back."""
    monkeypatch.setattr("supervisor.client.events._ANSWER_WITHIN_S", 3600.0)
    monkeypatch.setattr("supervisor.client.events._PATIENCE_S", 3600.0)

    class Gone:
        """A client whose cluster has ended."""

        def call(self, actor: str, method: str, *args: object, timeout_s: float) -> object:
            raise ClusterGone(actor, method, "the Ray cluster at nowhere:1 has ended. Connect again")

    port = BlockingPort(Gone(), LINK)  # type: ignore[arg-type] # stands in for the client
    wanted: RecordFilter = {}
    with pytest.raises(NotAnswered, match=r"has ended\. Connect again$"):
        EventStream(lambda: port, wanted, None, None)
    with pytest.raises(NotAnswered, match=r"has ended\. Connect again\. Resume with after_seq=7$"):
        next(EventStream(lambda: port, wanted, 7, None))


# Filters


def test_one_type_of_events_may_be_named_by_itself() -> None:
    assert event_types("RECONCILED") == event_types(["RECONCILED"]) == (EventType.RECONCILED,)
    assert event_types(EventType.CHECKPOINT) == (EventType.CHECKPOINT,)
    assert event_types(None) is None


@pytest.mark.parametrize(
    ("choose", "found", "known"),
    [
        pytest.param(lambda: event_types(["RECONCILE"]), "types: found 'RECONCILE'", "RECONCILED", id="a type"),
        pytest.param(lambda: severity_of("BAD"), "severity: found 'BAD'", "INFO, WARNING, CRITICAL", id="a severity"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_with_those_there_are(
    choose: Callable[[], object], found: str, known: str
) -> None:
    with pytest.raises(ValueError, match=f"{found}, expected .*{known}"):
        choose()


# Arguments


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        pytest.param(lambda _, i: i.recent("x"), TypeError, "newest: found 'x', expected a whole number", id="recent"),
        pytest.param(lambda _, i: i.recent(-1), ValueError, "newest: found -1, .*0 or more", id="recent negative"),
        pytest.param(
            lambda _, i: i.trading_allowed(max_age_s="x"), TypeError, "max_age_s: found 'x'", id="age of text"
        ),
        pytest.param(
            lambda _, i: i.trading_allowed(max_age_s=math.nan), ValueError, "max_age_s: found nan", id="age nan"
        ),
        pytest.param(
            lambda _, i: i.trading_allowed(max_age_s=-1), ValueError, "max_age_s: found -1", id="age negative"
        ),
        pytest.param(lambda _, i: i.check(timeout_s=None), TypeError, "timeout_s: found None", id="time-out"),
        pytest.param(lambda _, i: i.order_by_ticket(None), TypeError, "ticket: found None, .* an id", id="ticket"),
        pytest.param(
            lambda _, i: i.validate_features(None), TypeError, "features: found None, .*mapping", id="features"
        ),
        pytest.param(
            lambda _, i: i.validate_features({"side": "up", "size": 1}),
            ValueError,
            'features: side: found "up", expected long, short or flat.*; size: found an unknown key, expected only',
            id="a mapping that is none",
        ),
        pytest.param(
            lambda _, i: i.validate_features({}, mark_price="x"), ValueError, "features: mark_price: found", id="mark"
        ),
        pytest.param(lambda s, _: s.audit(limit=-1), ValueError, "limit: found -1", id="limit"),
        pytest.param(lambda s, _: s.audit(since="x"), TypeError, "since: found 'x', expected a datetime", id="since"),
        pytest.param(lambda s, _: s.audit(types=5), TypeError, "types: found 5", id="types"),
        pytest.param(
            lambda s, _: s.audit("nope"),
            UnknownName,
            "no account 'nope' here. There are: .*cfd, fx",
            id="audit account",
        ),
        pytest.param(
            lambda s, _: s.audit("fx", "X"),
            UnknownName,
            "no instrument 'X'. It has: EUR_USD, GBP_JPY",
            id="audit symbol",
        ),
        pytest.param(
            lambda s, _: s.restart("nope"), UnknownName, "no actor 'nope'. There are: .*fx/EUR_USD", id="restart"
        ),
    ],
)
def test_an_argument_that_cannot_be_is_named_with_what_was_expected(
    tmp_path: Path, ask: Callable[[AsyncHandle, AsyncInstrument], Any], error: type[Exception], words: str
) -> None:
    async def story() -> None:
        async with a_handle(tmp_path) as (_, sup):
            eur = await sup.instrument("fx", "EUR_USD")
            with pytest.raises(error, match=words):
                await ask(sup, eur)

    virtual_time(story)()


@pytest.mark.parametrize(
    ("after_seq", "idle_s", "error", "words"),
    [
        ("x", None, TypeError, "after_seq: found 'x', expected a whole number"),
        (-1, None, ValueError, "after_seq: found -1"),
        (1, "x", TypeError, "idle_s: found 'x'"),
        (1, -1, ValueError, "idle_s: found -1"),
    ],
)
def test_live_events_are_refused_where_they_cannot_start_or_end(
    after_seq: Any, idle_s: Any, error: type[Exception], words: str
) -> None:
    def port() -> Port:
        raise AssertionError("nobody is asked")

    with pytest.raises(error, match=words):
        EventStream(port, {}, after_seq, idle_s)


async def test_the_venue_names_the_argument_that_cannot_be() -> None:
    def port() -> Port:
        raise AssertionError("nobody is asked")

    venue = AsyncVenue("desk", port)
    with pytest.raises(TypeError, match="broker_order_id: found None, expected an id"):
        await venue.cancel(None)  # type: ignore[arg-type] # what is refused
    with pytest.raises(ValueError, match="side: found 'LONG', expected one of BUY, SELL"):
        await venue.submit("EUR_USD", "c1", "LONG", 1)  # type: ignore[arg-type] # what is refused
    with pytest.raises(TypeError, match="symbol: found None"):
        await venue.feed(None, 1, 1)  # type: ignore[arg-type] # what is refused


@virtual_time
async def test_features_may_be_a_mapping_and_ids_and_numbers_of_a_frame_are_taken(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    async with a_hall(tmp_path) as hall:
        hall.brokers["fx"].hold(100, "1.1", instrument="EUR_USD", leg="long")
        await hall.up()
        eur = await handle_of(hall).instrument("fx", "EUR_USD")
        assert (await eur.validate_features({"side": "long", "quantity": 90}, mark_price=1.2)).differing == (
            "quantity",
        )
        assert await eur.order_by_ticket(numpy.int64(7)) is None
        assert len(await eur.recent(numpy.int64(1))) == 1


@virtual_time
async def test_a_check_before_its_time_says_that_none_was_made(tmp_path: Path) -> None:
    """FEATURES 15"""
    async with a_handle(tmp_path) as (_, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        made = await eur.post_trade("buy")
        again = await eur.check()
        assert (made.throttled, again.throttled) == (False, True)
        assert again.to_dict()["throttled"] is True
        expected = r"^fx/EUR_USD: no check was due, so none was made; the last one after a buy: SUCCESS, at 20"
        assert re.match(expected, str(again))


@virtual_time
async def test_after_a_stop_an_instrument_is_not_said_to_be_starting(tmp_path: Path) -> None:
    async with a_handle(tmp_path) as (_, sup):
        eur = await sup.instrument("fx", "EUR_USD")
        await sup.stop()
        permission = await eur.trading_allowed()
        assert not permission
        assert [str(one.text) for one in permission.reasons] == ["the supervisor was stopped, and its actor with it"]


def test_a_run_file_that_cannot_be_written_says_where_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal beside it could not be written either."""
    path = tmp_path / "accounts.yaml"
    path.write_text(
        f"journal: {{url: 'sqlite:///{tmp_path}/j.db'}}\naccounts: [{{name: p, broker: paper, instruments: [E]}}]\n"
    )

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        NotWritable, match=r"j\.db\.run\.json cannot be written: No space left on device\. .* make room"
    ):
        run_file.write(load(path), RunFile("127.0.0.1:1", None, "test", 1, detached=False))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["accounts.yaml"]
