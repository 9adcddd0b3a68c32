"""Where signed heads go: what a configuration may name, what a place is given, and that no credential is shown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import http.server
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.journal.evidence_tables import StoredHead
from actors.journal.head_places import PlaceAway, deliver, shown, stored_name
from actors.journal.signed_head import parse_head, split_notes
from supervisor.config.loader import load, load_place
from supervisor.config.models import Configuration, ConfigurationError
from supervisor.supervision.specs import audit_actor
from tests.brokers.listeners import self_signed, taking
from tests.ports import own_port
from tests.unit.journal_cases import change, events
from tests.unit.test_journal_evidence import run_audit

HEADS = [StoredHead(1, "t", "one\n\n— k AAAA\n"), StoredHead(2, "t", "two\n\n— k AAAA\n")]


@pytest.fixture
def collector() -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """A server that takes what is posted to it: its port, and the bodies with their authorization."""
    taken: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            taken.append((body, self.headers["Authorization"]))
            self.send_response(204 if self.path == "/heads" else 403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, taken
    server.shutdown()
    server.server_close()
    thread.join()


def configured(directory: Path, journal: str) -> Configuration:
    path = directory / "accounts.yaml"
    path.write_text(f"journal: {journal}\naccounts: [{{name: p, broker: paper, instruments: [X]}}]\n")
    return load(path, {"PW": "s3cret"})


def test_a_server_gets_what_is_due_in_one_post_and_its_password_from_the_environment(
    collector: tuple[int, list[tuple[str, str | None]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, taken = collector
    monkeypatch.setenv("HEADS_PASSWORD", "s3cret@/")
    deliver(f"http://me:${{HEADS_PASSWORD}}@127.0.0.1:{port}/heads", HEADS)
    ((body, authorization),) = taken
    assert body == "one\n\n— k AAAA\n\ntwo\n\n— k AAAA\n\n"
    assert authorization == "Basic " + base64.b64encode(b"me:s3cret@/").decode()


def test_one_that_refuses_or_lacks_its_password_is_away_and_no_credential_is_named(
    collector: tuple[int, list[tuple[str, str | None]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _ = collector
    monkeypatch.setenv("HEADS_PASSWORD", "s3cret")
    for place in (f"http://me:${{HEADS_PASSWORD}}@127.0.0.1:{port}/no?token=s3cret", "http://me:s3cret@127.0.0.1:1/"):
        with pytest.raises(PlaceAway) as refused:
            deliver(place, HEADS)
        assert "s3cret" not in str(refused.value)
        assert "127.0.0.1" in str(refused.value)
    monkeypatch.delenv("HEADS_PASSWORD")
    with pytest.raises(PlaceAway, match="HEADS_PASSWORD} is not set"):
        deliver(f"http://me:${{HEADS_PASSWORD}}@127.0.0.1:{port}/heads", HEADS)


def test_a_place_is_shown_without_its_credentials() -> None:
    assert shown("https://me:pw@host:8443/a?token=t") == "https://host:8443/a"
    assert shown("/var/heads.txt") == "/var/heads.txt"


def test_the_configuration_names_key_places_and_time_stamps(tmp_path: Path) -> None:
    given = configured(
        tmp_path,
        "{url: 'sqlite:///j.db', key: secret.pem, heads: [heads.txt, 'https://me:${PW}@example.org/heads'], "
        "timestamp: {url: 'http://tsa.example.org/', roots: roots.pem}}",
    )
    settings = audit_actor(given)[2]
    assert "s3cret" not in repr(given) + given.model_dump_json() + repr(settings)
    assert settings.key == f"{tmp_path}/secret.pem"
    assert settings.public == f"{tmp_path}/j.db.pub"
    assert settings.places == (f"{tmp_path}/heads.txt", "https://me:${PW}@example.org/heads")
    assert (settings.timestamp_url, settings.timestamp_roots) == ("http://tsa.example.org/", f"{tmp_path}/roots.pem")
    assert load_place(tmp_path / "accounts.yaml").journal.heads == ()


def test_without_a_word_the_key_lies_beside_the_journal(tmp_path: Path) -> None:
    settings = audit_actor(configured(tmp_path, "{url: 'sqlite:///j.db'}"))[2]
    assert (settings.key, settings.places) == (f"{tmp_path}/j.db.key", ())


@pytest.mark.parametrize(
    "journal",
    ["{heads: heads.txt}", "{heads: ['http://example.org/heads']}", "{heads: [3]}", "{heads: ['smtp://host/']}",
     "{timestamp: {url: 'ftp://x', roots: r.pem}}", "{timestamp: {url: 'http://x/'}}", "{key: 3}"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, journal: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configured(tmp_path, journal)
    (problem,) = refused.value.problems
    assert problem.key.startswith("journal.")


class Mailbox:
    """A mail server on loopback, and what it was given: ``refuses`` mail for nobody there."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []

    async def handle_RCPT(self, _: object, __: object, envelope: Envelope, address: str, ___: object) -> str:  # noqa: N802 - the library's name
        if address == "nobody@there":
            return "550 there is no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: object, __: object, envelope: Envelope) -> str:  # noqa: N802 - as above
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[int, Mailbox]]:
    box = Mailbox()
    port = own_port()  # its controller cannot be asked to take any
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield port, box
    controller.stop()


def test_heads_go_by_mail_and_are_read_out_of_it_as_they_were_signed(
    mailbox: tuple[int, Mailbox], tmp_path: Path
) -> None:
    port, box = mailbox
    deliver(f"smtp://127.0.0.1:{port}/?from=journal@here&to=auditor@there", HEADS)
    (mail,) = box.mails
    assert (mail.mail_from, mail.rcpt_tos) == ("journal@here", ["auditor@there"])
    assert isinstance(mail.content, bytes)
    read = email.message_from_bytes(mail.content)
    assert read["Subject"] == "journal head 2 t"
    payload = read.get_payload(decode=True)
    assert isinstance(payload, bytes)
    text = payload.decode().replace("\r\n", "\n")
    assert text == "one\n\n— k AAAA\n\ntwo\n\n— k AAAA\n\n"


def test_a_mail_that_is_refused_is_away_and_says_so_without_a_password(mailbox: tuple[int, Mailbox]) -> None:
    port, box = mailbox
    for place in (
        f"smtp://127.0.0.1:{port}/?from=journal@here&to=nobody@there",
        f"smtp://me:s3cret@127.0.0.1:{port}/?from=journal@here&to=auditor@there",  # it takes no login, and no TLS
        "smtp://127.0.0.1:1/?from=journal@here&to=auditor@there",
    ):
        with pytest.raises(PlaceAway) as away:
            deliver(place, HEADS)
        assert "s3cret" not in str(away.value)
        assert "127.0.0.1" in str(away.value)
    assert not box.mails


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_password_goes_to_no_mail_server_whose_certificate_nobody_vouches_for(scheme: str, tmp_path: Path) -> None:
    context, heard = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[bytes]()
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            talk = context.wrap_socket(connection, server_side=True) if scheme == "smtps" else connection
            talk.sendall(b"220 here\r\n")
            while said := talk.recv(1000):
                heard.append(said)
                if said.startswith(b"STARTTLS"):
                    talk.sendall(b"220 go\r\n")
                    talk = context.wrap_socket(talk, server_side=True)
                else:
                    talk.sendall(b"250-here\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n")

    with taking(serve) as port, pytest.raises(PlaceAway, match=r"certificate|CERTIFICATE|SSL"):
        deliver(f"{scheme}://me:s3cret@localhost:{port}/?from=journal@here&to=auditor@there", HEADS)
    assert not [one for one in heard if b"AUTH" in one]


async def test_a_place_that_hangs_keeps_its_heads_from_nobody_else(tmp_path: Path) -> None:
    """It takes what is sent and answers nothing, and every other place has the head of that stop."""
    near = tmp_path / "near.txt"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}/heads"
        settings = EvidenceSettings(str(tmp_path / "key"), str(tmp_path / "pub"), (hanging, hanging + "/2", str(near)))
        audit = Audit(f"sqlite:///{tmp_path}/journal.db", None, settings)
        await audit.open()
        await audit.append("fx/A", 0, events("1"))
        closing = asyncio.create_task(audit.close())
        while not (near.exists() and near.read_text().endswith("\n\n")) and not closing.done():
            await asyncio.sleep(0.01)
        assert not closing.done()  # the others are still waited for
        outside = [thread for thread in threading.enumerate() if thread.name == "audit-publish"]
        assert outside
        assert all(thread.daemon for thread in outside)  # a process that ends waits for none of them
        assert [parse_head(note).size for note in split_notes(near.read_text())] == [1]
        silent.close()
        closing.cancel()


@pytest.mark.parametrize("version", ["this one", "one that kept the whole address"])
async def test_no_copy_of_the_journal_has_the_password_of_a_place_which_receives_each_head_once(
    collector: tuple[int, list[tuple[str, str | None]]], tmp_path: Path, version: str
) -> None:
    port, taken = collector
    place = f"http://me:s3cret-s3cret@127.0.0.1:{port}/heads"
    await run_audit(tmp_path, "a", places=(place,))
    if version != "this one":
        change(tmp_path, "UPDATE journal_head_deliveries SET place = ?", place)
    await run_audit(tmp_path, places=(place,))

    [(body, _)], [(name, size)] = taken, _deliveries(tmp_path)
    assert parse_head(next(iter(split_notes(body)))).size == size == 1
    assert name.startswith(f"http://127.0.0.1:{port}/heads#")
    with sqlite3.connect(tmp_path / "journal.db") as journal:
        assert "s3cret" not in "".join(journal.iterdump())


def test_two_places_that_differ_in_their_query_alone_are_two() -> None:
    names = {stored_name(f"https://h/heads?{query}") for query in ("", "token=a", "token=b")}
    assert len(names) == 3
    assert not any("token" in name for name in names)


def _deliveries(directory: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(directory / "journal.db") as journal:
        return list(journal.execute("SELECT place, size FROM journal_head_deliveries"))
