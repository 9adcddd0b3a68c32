"""The sink's table in an S3-compatible store: moto's server as a process on loopback.

moto cannot be installed beside what `constraints.txt` pins (it wants an older python-dateutil), so its server is taken
from an environment of its own: the program `moto_server` on the path, or the one that MOTO_SERVER names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import quote

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from actors.delta.book_spec import BookTableSpec, open_book_table
from actors.delta.once import OnceTable, OvertakenError, Place
from actors.delta.positions import PositionUpdate
from actors.delta.sink import position_table, rows_to_arrow
from actors.reconciliation.reconciliation_pass import ClaimCorrection
from brokers.errors import Malformed, Unreachable
from brokers.spec import SecretRef, SecretSource
from tests.ports import nobody_at, own_port

SERVER = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")
URI = "s3://bucket/positions"
SECRET = "not-to-be-shown"
UP_WITHIN_S = 30.0

pytestmark = pytest.mark.skipif(SERVER is None, reason="no moto_server: install moto[server] in a place of its own")


@pytest.fixture(name="options")
def _options() -> Iterator[dict[str, str]]:
    """Storage options of a store with an empty bucket."""
    assert SERVER is not None
    port = own_port()
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        credential = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"
        made = urllib.request.Request(f"{endpoint}/bucket", method="PUT", headers={"Authorization": credential})  # noqa: S310
        until = time.monotonic() + UP_WITHIN_S
        while True:
            try:
                urllib.request.urlopen(made, timeout=UP_WITHIN_S).close()  # noqa: S310 - our own server on loopback
                break
            except urllib.error.URLError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
    finally:
        process.kill()
        process.wait()


def put(table: OnceTable, seq: int, expected: int) -> None:
    place = Place(seq, f"{seq:064x}")
    row = PositionUpdate(seq, "acc", "EUR/USD", "net", Decimal(seq), Decimal("1.1"), _now(), "X", place.hash)
    table.append(rows_to_arrow([row]), expected, place)


def _now() -> datetime:
    return datetime(2025, 1, 6, tzinfo=UTC)


def test_rows_in_a_store_are_written_once_by_two_writers(options: dict[str, str]) -> None:
    first, second = position_table(URI, options), position_table(URI, options)
    assert (first.reached().seq, second.reached().seq) == (0, 0)
    put(first, 1, expected=0)
    with pytest.raises(OvertakenError):
        put(second, 1, expected=0)
    put(second, 2, expected=1)
    first.compact()
    put(first, 3, expected=2)
    rows = DeltaTable(URI, storage_options=options).to_pyarrow_table().to_pylist()
    assert sorted((row["seq"], row["instrument"], row["symbol"]) for row in rows) == [
        (number, "EUR/USD", "EUR/USD") for number in (1, 2, 3)
    ]


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a store that does not answer."""
    with nobody_at() as port:
        yield f"http://127.0.0.1:{port}"


def test_a_store_that_does_not_answer_is_unreachable_and_no_credential_is_shown(nobody: str) -> None:
    options = {
        "AWS_ENDPOINT_URL": nobody,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "max_retries": "0",
        "retry_timeout": "1s",
    }
    with pytest.raises(Unreachable, match="tried again") as refused:
        position_table(URI, options).reached()
    assert SECRET not in str(refused.value)
    assert "positions" in str(refused.value)


def positions(quantity: str) -> pa.Table:
    at = pa.array([_now()], pa.timestamp("us", "UTC"))
    exact = pa.decimal128(38, 18)
    texts = {"source": pa.array(["engine"]), "discrepancy_id": pa.nulls(1, pa.string())}
    return pa.table({"contract": ["EUR/USD"], "qty": pa.array([Decimal(quantity)], exact), "at": at, **texts})


def test_a_book_in_a_store_is_read_corrected_once_and_its_lost_files_are_named(
    options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "s3://bucket/book"
    for quantity in ("5", "6"):
        write_deltalake(uri, positions(quantity), mode="append", storage_options=options, partition_by=["contract"])
    monkeypatch.setenv("STORE_KEY", SECRET)
    secret = SecretRef(SecretSource.ENVIRONMENT, "ib", "AWS_SECRET_ACCESS_KEY", "STORE_KEY")
    given: dict[str, str | SecretRef] = {**options, "AWS_SECRET_ACCESS_KEY": secret}
    spec = BookTableSpec("ib", uri, key="contract", quantity="qty", time="at", writable=True, options=given)
    table = open_book_table(spec)
    assert table.read(_now()).claims("EUR/USD", None).rows[0].quantity == 6
    wanted = [ClaimCorrection("d1", "net", Decimal(7), None)]
    assert [table.correct("EUR/USD", None, wanted, _now()) for _ in range(2)] == [1, 0]
    assert table.read(_now()).claims("EUR/USD", None).rows[0].quantity == 7
    for file in DeltaTable(uri, storage_options=options).file_uris():
        path = quote(file.removeprefix("s3://bucket/"))
        credential = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"
        address = f"{options['AWS_ENDPOINT_URL']}/bucket/{path}"
        gone = urllib.request.Request(address, method="DELETE", headers={"Authorization": credential})  # noqa: S310
        urllib.request.urlopen(gone, timeout=UP_WITHIN_S).close()  # noqa: S310 - our own server on loopback
    with pytest.raises(Malformed, match="gone") as caught:
        open_book_table(spec).read(_now())
    assert SECRET not in str(caught.value)


def test_a_book_in_a_store_that_does_not_answer_is_unreachable_and_no_credential_is_shown(
    nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEY", SECRET)
    secret = SecretRef(SecretSource.ENVIRONMENT, "ib", "AWS_SECRET_ACCESS_KEY", "STORE_KEY")
    options: dict[str, str | SecretRef] = {
        "AWS_ENDPOINT_URL": nobody,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": secret,
        "max_retries": "0",
        "retry_timeout": "1s",
    }
    spec = BookTableSpec("ib", "s3://bucket/book", key="contract", quantity="qty", time="at", options=options)
    with pytest.raises(Unreachable) as caught:
        open_book_table(spec).read(_now())
    assert SECRET not in str(caught.value) + repr(spec)
