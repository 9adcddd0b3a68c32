"""What the exporter does with names that nobody would choose, and with whoever asks it in an odd way."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.request
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, start_http_server

from supervisor.cli.metrics import StatusCollector
from tests.unit.test_metrics import document, exported, instrument


@given(st.text(min_size=1, max_size=12))
def test_every_name_is_one_label_whole_and_hides_no_other(name: str) -> None:
    found = exported(document(instrument(name), instrument("GBP_JPY")))
    named = {dict(labels).get("instrument") for metric, labels in found if metric == "reconciliation_in_step"}
    assert named == {name, "GBP_JPY"}


@pytest.fixture
def port() -> Iterator[int]:
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: document(instrument("GBP_JPY")), time.monotonic))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


PATIENCE_S = 60.0
ASKED = [
    b"\x00\x01\x02",
    b"GET\r\n\r\n",
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"GET /metrics?name[]=%ff%00 HTTP/1.1\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nAccept: \xff\xff\r\nAccept-Encoding: gzip;q=x\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
]


@pytest.mark.parametrize("asked", ASKED, ids=range(len(ASKED)))
def test_whoever_asks_oddly_gets_no_more_than_an_answer_and_a_scrape_goes_on(port: int, asked: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as talk, contextlib.suppress(OSError):
        talk.sendall(asked)
        talk.shutdown(socket.SHUT_WR)
        while talk.recv(65_536):
            pass
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S).read().decode()
    assert 'reconciliation_in_step{account="fx",instrument="GBP_JPY"} 1.0' in text
