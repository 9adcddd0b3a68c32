"""What is no time stamp: each way in which a server can be wrong, away or late. Nothing of it is kept, the head is
signed and delivered all the same, and the next server that is right is asked again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from actors.journal import time_stamp
from actors.journal.time_stamp import StampError, ask_for_stamp, verified_time
from tests.unit.test_journal_evidence import audit, run_audit
from tests.unit.time_stamp_server import answer_to, make_authority, question_over, serving

pytest.importorskip("rfc3161_client", reason="the extra 'timestamp' is not installed")
if shutil.which("openssl") is None:
    pytest.skip("there is no openssl to be the time-stamp server", allow_module_level=True)

NOTE = "a head\n\n— k AAAA\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("authority")
    make_authority(directory)
    return directory


def valid(directory: Path, begin: timedelta, end: timedelta) -> None:
    """Give the signer of an authority a certificate that is valid from the one to the other, counted from now."""
    root = x509.load_pem_x509_certificate((directory / "root.pem").read_bytes())
    root_key = load_pem_private_key((directory / "root.key").read_bytes(), None)
    key = load_pem_private_key((directory / "tsa.key").read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a time-stamp signer")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    (directory / "tsa.pem").write_bytes(made.public_bytes(Encoding.PEM))


def spoilt(answer: bytes) -> bytes:
    return answer[:-20] + bytes(20)


def refusal(directory: Path) -> bytes:
    """What openssl answers to a request whose hash it does not take."""
    return answer_to(directory, question_over(directory, NOTE.encode(), "-sha1"))


def other_request(directory: Path) -> Callable[[bytes], bytes]:
    return lambda question: answer_to(directory, question_over(directory, NOTE.encode()))


def no_nonce(directory: Path) -> Callable[[bytes], bytes]:
    return lambda question: answer_to(directory, question_over(directory, NOTE.encode(), "-sha256", "-no_nonce"))


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        pytest.param(lambda at: lambda question: b"<html>busy</html>", "cannot be read", id="garbage"),
        pytest.param(lambda at: lambda question: b"", "cannot be read", id="nothing"),
        pytest.param(lambda at: lambda question: answer_to(at, question)[:200], "cannot be read", id="half of it"),
        pytest.param(lambda at: lambda question: spoilt(answer_to(at, question)), "does not hold", id="altered"),
        pytest.param(lambda at: lambda question: refusal(at), "the time-stamp server refused", id="refused"),
        pytest.param(other_request, "answered another request", id="another nonce"),
        pytest.param(no_nonce, "answered another request", id="no nonce"),
    ],
)
def test_an_answer_that_is_none_is_refused_by_what_is_wrong_with_it(
    authority: Path, answer: Callable[[Path], Callable[[bytes], bytes]], found: str
) -> None:
    with serving(authority, answer(authority)) as url, pytest.raises(StampError, match=found):
        ask_for_stamp(url, NOTE, authority / "root.pem")


def test_a_stamp_over_another_head_is_refused(authority: Path) -> None:
    with serving(authority) as url:
        stamp = ask_for_stamp(url, NOTE, authority / "root.pem")
    assert verified_time(stamp, NOTE, authority / "root.pem") <= datetime.now(UTC) + timedelta(seconds=2)
    with pytest.raises(StampError, match="does not hold"):
        verified_time(stamp, NOTE.replace("a head", "another"), authority / "root.pem")


def test_a_server_that_keeps_the_nonce_and_stamps_another_head_is_refused(authority: Path) -> None:
    def another(question: bytes) -> bytes:
        asked = hashlib.sha512(NOTE.encode()).digest()
        assert question.count(asked) == 1
        return answer_to(authority, question.replace(asked, bytes(64)))

    with serving(authority, another) as url, pytest.raises(StampError, match="does not hold"):
        ask_for_stamp(url, NOTE, authority / "root.pem")


@pytest.mark.parametrize(
    ("begin", "end"),
    [pytest.param(-20, -10, id="expired"), pytest.param(10, 20, id="not yet valid")],
)
def test_a_certificate_that_was_not_valid_when_it_stamped_counts_for_nothing(
    tmp_path: Path, begin: int, end: int
) -> None:
    make_authority(tmp_path)
    valid(tmp_path, timedelta(days=begin), timedelta(days=end))
    with serving(tmp_path) as url, pytest.raises(StampError, match="does not hold"):
        ask_for_stamp(url, NOTE, tmp_path / "root.pem")


@pytest.mark.parametrize("roots", [b"", b"no certificate", None])
def test_roots_that_cannot_be_read_are_named(authority: Path, tmp_path: Path, roots: bytes | None) -> None:
    file = tmp_path / "roots.pem"
    if roots is not None:
        file.write_bytes(roots)
    with serving(authority) as url, pytest.raises(StampError, match=r"the roots in .*roots\.pem cannot be read"):
        ask_for_stamp(url, NOTE, file)


def test_a_server_that_is_late_or_ends_its_answer_early_is_away(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_stamp, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(StampError, match="the time-stamp server did not answer"):
            ask_for_stamp(url, NOTE, authority / "root.pem")
    with serving(authority, lambda question: None) as url, pytest.raises(StampError, match="did not answer"):
        ask_for_stamp(url, NOTE, authority / "root.pem")


def test_a_wrong_answer_keeps_no_head_from_being_signed_and_is_said_and_the_next_right_one_is_taken(
    tmp_path: Path, authority: Path
) -> None:
    roots = str(authority / "root.pem")

    def life(name: str, url: str) -> dict[str, Any]:
        return asyncio.run(run_audit(tmp_path, name, timestamp_url=url, timestamp_roots=roots))

    with serving(authority, other_request(authority)) as url:
        life("1", url)
    with serving(authority, lambda question: b"<html>") as url:
        life("2", url)
    with serving(authority) as url:
        life("3", url)
    heads = json.loads(audit("heads", "--journal", tmp_path / "journal.db", "--json").stdout)
    assert [(head["size"], head["stamped"] is not None) for head in heads] == [(1, False), (2, False), (3, True)]
