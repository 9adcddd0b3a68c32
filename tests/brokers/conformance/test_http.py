"""What every adapter over HTTP promises of servers that misbehave, and of the credentials it sends there."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from brokers.errors import Malformed, Refused, Unreachable
from brokers.model import rows_of
from brokers.simulators.base import Fault
from tests.brokers.conformance.adapters import (
    BUY,
    KITE_KEY,
    KITE_TOKEN,
    KITE_USER,
    OANDA_ID,
    OANDA_TOKEN,
    Adapter,
    D,
    kite,
    oanda,
)
from tests.brokers.listeners import answering, http_answer
from tests.brokers.reading import a_failure, calls_have_ended


@dataclass(frozen=True)
class Http:
    """An adapter over HTTP: what it sends in secret, where it proves its account, and answers of another shape."""

    adapter: Adapter
    secrets: tuple[str, ...]
    proof: str
    shapes: tuple[bytes, ...]


OANDA = Http(
    oanda(hedging=False),
    (OANDA_TOKEN,),
    f"/v3/accounts/{OANDA_ID}",
    (
        b'{"account": 5}',
        b'{"account": {"id": 5}}',
        b'{"account": {"id": "%s"}}' % OANDA_ID.encode(),
    ),
)
KITE = Http(
    kite(),
    (KITE_KEY, KITE_TOKEN),
    "/user/profile",
    (b'{"status": "success"}', b'{"data": {"user_id": "%s"}}' % KITE_USER.encode(), b"5"),
)
ANY_SHAPES = (b"", b"null", b"[]", b"{}", b"\xff\xfe", b'"text"')
over_http = pytest.mark.parametrize("over", [OANDA, KITE], ids=lambda over: str(over.adapter.id.split()[0]))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"], ids=["head", "body"])
@over_http
async def test_a_server_that_trickles_is_cut_off(over: Http, start: bytes) -> None:
    """PEERS 7: each byte comes well within the read time-out, and the answer never does."""
    pause = threading.Event()

    def trickle(_request: bytes) -> Iterator[bytes]:
        yield start
        while not pause.wait(0.02):
            yield b"H"

    with answering(trickle) as url:
        async with over.adapter.opened(url, timeout_s=0.2) as broker:
            raised = await a_failure(broker.connect())
            await asyncio.to_thread(calls_have_ended, *over.adapter.threads)
        assert isinstance(raised, Unreachable)
        assert "within 0.2 s" in raised.found


@over_http
async def test_a_call_whose_caller_is_gone_is_cut_off(over: Http) -> None:
    """PEERS 7"""
    async with over.adapter.alone(timeout_s=60.0) as (simulator, broker):
        simulator.faults.add(Fault.TIMEOUT, times=3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(broker.connect(), 0.1)
        await asyncio.to_thread(calls_have_ended, *over.adapter.threads)
        simulator.faults.clear()
        await broker.connect()


@pytest.mark.parametrize("place", range(9))
@over_http
async def test_json_of_another_shape_is_malformed(over: Http, place: int) -> None:
    body = (*ANY_SHAPES, *over.shapes)[place]
    with answering(lambda _: iter([http_answer(body)])) as url:
        async with over.adapter.opened(url) as broker:
            assert isinstance(await a_failure(broker.connect()), Malformed)


@over_http
async def test_a_redirect_is_not_followed(over: Http) -> None:
    """The credentials go to the configured host alone."""
    simulator = over.adapter.simulator()
    try:
        head = f"Content-Type: text/html\r\nLocation: {simulator.start()}{over.proof}\r\n"
        with answering(lambda _: iter([http_answer(b"", "302 Found", head)])) as url:
            async with over.adapter.opened(url) as broker:
                assert isinstance(await a_failure(broker.connect()), Malformed)
        assert simulator.requests == ()
    finally:
        simulator.close()


@pytest.mark.parametrize(("wait", "calls"), [("0", 3), ("3600", 1)], ids=["short", "long"])
@over_http
async def test_a_wait_that_the_broker_asks_for_is_kept_or_left_to_the_caller(over: Http, wait: str, calls: int) -> None:
    head = f"Content-Type: application/json\r\nRetry-After: {wait}\r\n"
    with answering(lambda _: iter([http_answer(b"{}", "429 Too Many Requests", head)])) as url:
        async with over.adapter.opened(url) as broker:
            assert isinstance(await a_failure(broker.connect()), Unreachable)
            assert broker.calls == calls


ATTEMPTS = {
    Fault.TIMEOUT: 2,
    Fault.LATE: 2,
    Fault.RESET: 3,
    Fault.SERVER_ERROR: 3,
    Fault.UNAVAILABLE: 3,
    Fault.RATE_LIMITED: 3,
    Fault.UNAUTHORIZED: 1,
    Fault.HTML: 3,
    Fault.HALF_BODY: 3,
}
"""What may pass is asked for again, within twice the time-out; a refusal is not."""


@pytest.mark.parametrize("fault", ATTEMPTS, ids=lambda fault: str(fault.value))
@over_http
async def test_a_read_is_tried_a_few_times_and_a_refused_one_once(over: Http, fault: Fault) -> None:
    """FEATURES 4"""
    within_s = 3 * over.adapter.timeout_s(fault)  # both attempts begin within it, on a busy machine too
    async with over.adapter.alone(timeout_s=within_s) as (simulator, broker):
        simulator.faults.add(fault, times=9)
        await a_failure(broker.connect())
        assert broker.calls == ATTEMPTS[fault]
    async with over.adapter.alone(timeout_s=within_s) as (simulator, broker):
        simulator.faults.add(fault)
        if fault is Fault.UNAUTHORIZED:
            assert isinstance(await a_failure(broker.connect()), Refused)
        else:
            await broker.connect()
            assert broker.calls == 2


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "401 Unauthorized", "403 Forbidden", "500 Oops"])
@over_http
async def test_credentials_that_the_server_echoes_appear_nowhere(
    over: Http, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with answering(lambda request: iter([http_answer(request, status)])) as url:
        async with over.adapter.opened(url) as broker:
            raised = await a_failure(broker.connect())
    shown = f"{raised!r} {raised} {pickle.loads(pickle.dumps(raised))!r} {broker!r} {caplog.text}"  # noqa: S301 - ours
    assert "***" in raised.found
    assert [secret for secret in over.secrets if secret in shown] == []
    assert (raised.__cause__, raised.__context__) == (None, None)


@over_http
async def test_a_token_in_a_row_appears_in_no_row(over: Http) -> None:
    token = over.secrets[-1]
    async with over.adapter.alone() as (simulator, broker):
        simulator.place_limit(over.adapter.symbols[0], BUY, over.adapter.lot, D("1.0"), token)
        snapshot = await broker.snapshot(None)
    assert rows_of(snapshot.orders)[0].client_order_id == "***"
    assert token not in repr(snapshot)
    assert token not in json.dumps(repr(snapshot.orders))
