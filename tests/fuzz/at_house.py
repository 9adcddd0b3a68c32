"""What people, files and programs give the house itself: configurations, reports, journals, proofs, requests."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from actors.book.book import Book
from actors.journal.actor import Audit
from actors.journal.evidence import EvidenceSettings
from actors.journal.head_checks import notes_in
from actors.journal.kept_slices import KeptSlices, unpacked
from actors.journal.merkle_tree import ProofError
from actors.journal.proofs import check
from actors.journal.signed_head import HeadError, PublicKey, parse_head, split_notes, trusted_keys, verified_head
from actors.journal.store import Journal
from actors.journal.time_stamp import StampError, claimed_time
from actors.journal.token_key import TokenUri
from actors.journal.types import JournalError
from actors.reconciliation.grounds import Grounds, kept
from actors.reconciliation.recompute import UnusablePass, entry_of, grounds_of
from brokers.errors import BrokerError
from brokers.model import LegScheme
from brokers.mt5.curve import certificate
from brokers.mt5.serve import answer_to
from brokers.mt5.terminal import Terminal
from brokers.paper.store import Store
from supervisor.changes.shown_configuration import shown
from supervisor.cli.record_lines import BadLines, read
from supervisor.client import run_file
from supervisor.config.cautions import cautions
from supervisor.config.errors import ConfigurationError
from supervisor.config.loader import load, load_place
from supervisor.console.users import TokensUnusable, Users
from tests.brokers.metatrader import StandIn, deal, order, position
from tests.console.house import PORT, House, a_break, document, naked
from tests.console.test_fuzz import ask
from tests.fuzz.target import Kind, Target, as_json, looks_right, unpacking
from tests.unit.builders import at, pos, slice_at
from tests.unit.fakes import in_this_thread
from tests.unit.journal_cases import events, url_of, write_five

ROOT = Path(__file__).parents[2]


def _folder() -> Path:
    """One for this process, gone with it."""
    made = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


# -- configurations ------------------------------------------------------------------------------------------------


def _configuration(folder: Path, body: bytes) -> None:
    file = folder / "accounts.yaml"
    file.write_bytes(body)
    with contextlib.suppress(ConfigurationError):
        load_place(file)
    found = load(file, {"TOKEN": "t", "HOME": "/"})
    looks_right(shown(found))
    cautions(found)
    for account in found.accounts:
        for symbol in account.symbols:
            found.instrument_settings(account.name, symbol)


def at_configuration() -> Target:
    """A file of YAML, from the first byte to what an instrument is given of it."""
    samples = [one.read_bytes() for one in sorted((ROOT / "config").glob("*.yaml")) if one.stat().st_size < 20_000]
    small = b"accounts: [{name: fx, broker: paper, instruments: [{symbol: EURUSD, interval_s: 1}]}]\n"
    kind = Kind(partial(_configuration, _folder()), (ConfigurationError,), (small, *samples))
    return Target({"a configuration": kind}, ("supervisor.config", "supervisor.changes"))


# -- reports -------------------------------------------------------------------------------------------------------


def _reports(legs: LegScheme, symbols: tuple[str, ...] | None, body: bytes) -> None:
    looks_right(read(body, symbols, legs))


def _lines(leg: str) -> bytes:
    lines = [
        {"kind": "order", "instrument": "EUR_USD", "client_order_id": "c1", "side": "BUY", "quantity": "5",
         "status": "OPEN"},
        {"kind": "order", "instrument": "EUR_USD", "client_order_id": "c1", "side": "SELL", "quantity": 5,
         "limit_price": "1.1", "status": "OPEN", "broker_order_id": "7", "leg": leg,
         "submitted_at": "2026-01-05T09:00:00Z"},
        {"kind": "fill", "instrument": "EUR_USD", "fill_id": "f1", "client_order_id": "c1", "side": "BUY",
         "quantity": "2", "price": "1.1", "time": "2026-01-05T09:00:00Z"},
        {"kind": "position", "instrument": "EUR_USD", "leg": leg, "quantity": "5", "average_price": "0.9"},
    ]  # fmt: skip
    return b"\n".join(json.dumps(one).encode() for one in lines)


def at_record() -> Target:
    """The lines of `record`."""
    names = {LegScheme.NET: "net", LegScheme.SIDED: "long", LegScheme.TICKET: "700"}
    return Target(
        {
            legs.value: Kind(partial(_reports, legs, symbols), (BadLines,), (_lines(names[legs]),))
            for legs, symbols in zip(LegScheme, (None, ("EUR_USD",), None), strict=False)
        },
        ("supervisor.cli", "supervisor.client"),
    )


# -- journals ------------------------------------------------------------------------------------------------------


def _journal(made: Path, folder: Path, body: bytes) -> None:
    """A journal whose file is this."""
    for one in folder.iterdir():
        one.unlink()
    for name in ("journal.db.mark",):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(made / name, folder / name)
    (folder / "journal.db").write_bytes(body)
    _read_journal(folder)


def _altered(made: Path, folder: Path, body: bytes) -> None:
    """A journal in which somebody has put other values: a list of table, column, place and value."""
    with unpacking():
        changes = [(str(table), str(column), place, value) for table, column, place, value in json.loads(body)]
    for one in folder.iterdir():
        one.unlink()
    for one in made.iterdir():
        shutil.copy(one, folder / one.name)
    with contextlib.closing(sqlite3.connect(folder / "journal.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        for table, column, place, value in changes:
            columns = [row[1] for row in connection.execute("SELECT * FROM pragma_table_info(?)", (table,))]
            if column in columns:
                change = f"UPDATE {table} SET {column} = ? WHERE rowid = ?"  # noqa: S608 - names that are there
                with contextlib.suppress(sqlite3.Error, OverflowError, UnicodeError):
                    connection.execute(change, (value, place))
    _read_journal(folder)


def _read_journal(folder: Path) -> None:
    for look in (_verified, _listed, _appended):
        with contextlib.suppress(JournalError):
            look(folder)


def _verified(folder: Path) -> None:
    journal = Journal.open(url_of(folder), read_only=True)
    try:
        looks_right(journal.verify().reason or "")
    finally:
        journal.close()


def _listed(folder: Path) -> None:
    journal = Journal.open(url_of(folder), read_only=True)
    try:
        for stream in journal.streams()[:5]:
            with contextlib.suppress(JournalError):
                journal.load(stream)
        for record in journal.records():  # shown as it is: only a verification says that somebody altered it
            assert record.event.time.tzinfo is not None
    finally:
        journal.close()


def _appended(folder: Path) -> None:
    journal = Journal.open(url_of(folder), exclusive=True)
    try:
        journal.append([])
        journal.head()
    finally:
        journal.close()


_PLACES = [
    ["journal_records", "payload", 2, "{}"],
    ["journal_records", "time", 3, "9999-12-31T23:59:59-23:00"],
    ["journal_records", "seq", 3, 77],
    ["journal_head", "seq", 1, 4],
]


def _slices(body: bytes) -> None:
    """A kept pass and its parts, whose hashes are always right: then all depends on what they say."""
    unpacked(body)
    with unpacking():
        said = json.loads(body)
        parts = {sha256(data).hexdigest(): data for data in (one.encode() for one in said["parts"])}
        entry = said["entry"].encode()
    book = Book("acc", "EURUSD")
    grounds_of(entry_of(sha256(entry).hexdigest(), entry), book, parts.get)


def _a_pass() -> bytes:
    grounds = Grounds(Book("acc", "EURUSD"), slice_at(5, [pos(1)]), _policy(), at(6), None, None)
    made = kept(grounds, 1, None)
    return json.dumps({"entry": made.entry.decode(), "parts": [one.decode() for one in made.parts.values()]}).encode()


def _policy() -> Any:
    from actors.book.policy import Policy

    return Policy()


def _store_of_slices(folder: Path, body: bytes) -> None:
    file = folder / "journal.db.slices"
    file.write_bytes(body)
    store = KeptSlices(file, read_only=True)
    try:
        for stream in store.streams():
            list(store.passes(stream))
    finally:
        store.close()


def at_journal() -> Target:
    """A journal's file, its rows, and the slices that are kept beside it."""
    made, folder = _folder(), _folder()
    write_five(made)
    whole = (made / "journal.db").read_bytes()
    beside = _folder() / "slices"
    KeptSlices(beside).close()
    return Target(
        {
            "rows": Kind(partial(_altered, made, folder), (), (json.dumps(_PLACES).encode(),)),
            "a file": Kind(partial(_journal, made, folder), (), (whole,)),
            "a pass": Kind(_slices, (UnusablePass,), (_a_pass(),)),
            "slices": Kind(partial(_store_of_slices, folder), (JournalError,), (beside.read_bytes(),)),
        },
        ("actors.journal", "actors.reconciliation"),
    )


# -- evidence ------------------------------------------------------------------------------------------------------


def _proof(keys: list[PublicKey], body: bytes) -> None:
    check(as_json(body), keys)


def _heads(folder: Path, keys: list[PublicKey], body: bytes) -> None:
    file = folder / "heads"
    file.write_bytes(body)
    for note in notes_in(file):
        looks_right(parse_head(note).time)
        trusted_keys(keys, [note])
        verified_head(note, keys)


def _key(body: bytes) -> None:
    for line in body.decode(errors="replace").splitlines():
        PublicKey.parse(line)


def _text(declared: Callable[[str], object], body: bytes) -> None:
    declared(body.decode(errors="replace"))


def at_evidence() -> Target:
    """Proofs, signed heads, public keys, time stamps and names of keys."""
    from actors.journal.proof_reading import ProofReader

    folder = _folder()
    settings = EvidenceSettings(str(folder / "journal.db.key"), str(folder / "journal.db.pub"))

    async def signed() -> None:
        audit = Audit(url_of(folder), None, settings, run_blocking=in_this_thread)
        await audit.open()
        await audit.append("fx/A", 0, events("1", "2", "3"))
        await audit.close()

    asyncio.run(signed())
    public = (folder / "journal.db.pub").read_text()
    keys = [PublicKey.parse(line) for line in public.split("\n") if line]
    journal = Journal.open(url_of(folder), read_only=True)
    reader = ProofReader(journal)
    head = reader.head(None)
    document = json.dumps(reader.proof([1, 3], head, None)).encode()
    journal.close()
    stamp = bytes.fromhex("300502010230000500")
    tokens = (b"pkcs11:token=T;object=O?module-path=/lib/x.so&pin-value=${PIN}", b"pkcs11:?pin-source=file:/x")
    assert split_notes(head.note)
    return Target(
        {
            "a proof": Kind(partial(_proof, keys), (ProofError, HeadError), (document,)),
            "heads": Kind(partial(_heads, folder, keys), (HeadError,), (head.note.encode(),)),
            "a key": Kind(_key, (HeadError,), (public.encode(),)),
            "a time stamp": Kind(claimed_time, (StampError,), (stamp,)),
            "a token's key": Kind(partial(_text, TokenUri.parse), (ValueError,), tokens),
        },
        ("actors.journal",),
    )


# -- files beside --------------------------------------------------------------------------------------------------


def _venue(folder: Path, body: bytes) -> None:
    (folder / "venue.json").write_bytes(body)
    looks_right(Store("rehearsal", folder / "venue.json").read())


def _run_file(folder: Path, body: bytes) -> None:
    configuration = load(folder / "accounts.yaml", {})
    path = run_file.path_of(configuration)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)
    run_file.read(configuration)


def _tokens(folder: Path, body: bytes) -> None:
    file = folder / "tokens"
    file.write_bytes(body)
    file.chmod(0o600)
    Users(str(file)).all()


def _certificate(folder: Path, body: bytes) -> None:
    file = folder / "curve"
    file.write_bytes(body)
    file.chmod(0o600)
    certificate("cfd", str(file))


def at_files() -> Target:
    """The state of a paper venue, the run file, the page's people, ZeroMQ certificates."""
    folder = _folder()
    (folder / "accounts.yaml").write_text(
        f"journal: {{url: 'sqlite:///{folder}/var/journal.db'}}\n"
        "accounts: [{name: p, broker: paper, instruments: [EURUSD]}]\n"
    )
    venue = {
        "account": "rehearsal", "clock": "2026-01-05T09:00:00Z", "last_order": 1, "last_fill": 1, "format": 1,
        "ended": [],
        "working": [{"number": 1, "instrument": "EURUSD", "client_order_id": "c1", "side": "BUY", "quantity": "5",
                     "order_type": "LIMIT", "price": "1.1", "expires_at": None, "submitted_at": "2026-01-05T09:00:00Z",
                     "filled": "1", "notional": "1.1", "status": "PARTIALLY_FILLED"}],
        "fills": [{"number": 1, "order": 1, "instrument": "EURUSD", "client_order_id": "c1", "side": "BUY",
                   "quantity": "1", "price": "1.1", "time": "2026-01-05T09:00:00Z"}],
        "holdings": [["EURUSD", {"quantity": "1", "average_price": "1.1"}]],
        "quotes": [["EURUSD", {"bid": "1.1", "ask": "1.2", "at": "2026-01-05T09:00:00Z", "fed": False, "steps": 1,
                               "bid_left": None, "ask_left": "5"}]],
    }  # fmt: skip
    run = {"address": "127.0.0.1:1", "auth_mode": "token", "namespace": "r", "pid": 1, "detached": False}
    people = f"ann viewer sha256:{'0' * 64}\nbob approver sha256:{'1' * 64}  # desk\n".encode()
    curve = b'metadata\ncurve\n    public-key = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"\n'
    return Target(
        {
            "a venue": Kind(partial(_venue, folder), (BrokerError,), (json.dumps(venue).encode(),)),
            "a run file": Kind(partial(_run_file, folder), (), (json.dumps(run).encode(),)),
            "people": Kind(partial(_tokens, folder), (TokensUnusable,), (people,)),
            "a certificate": Kind(partial(_certificate, folder), (BrokerError,), (curve,)),
        },
        ("brokers.paper", "brokers.mt5", "supervisor.client", "supervisor.console"),
    )


# -- requests ------------------------------------------------------------------------------------------------------


def _page(house: House, inside: str, csrf: str, body: bytes) -> None:
    with unpacking():
        asked = json.loads(body)
        method, path, query = str(asked["method"]), str(asked["path"]), str(asked["query"])
        headers = [(str(name).encode("latin-1"), str(value).encode("latin-1")) for name, value in asked["headers"]]
        headers += [(b"host", f"127.0.0.1:{PORT}".encode()), (b"cookie", inside.encode())]
        if asked["proven"]:
            headers += [(b"origin", f"http://127.0.0.1:{PORT}".encode()), (b"x-csrf-token", csrf.encode())]
        form = urlencode([(str(name), str(value)) for name, value in asked["form"]], errors="replace").encode()
        if path == "/live" or "page=" in query:
            query += "&once=1"
        sent = query.encode("utf-8", "replace")
    if method == "POST" and path.startswith("/sign-out"):
        return
    status, answered, page = ask(house, method, path, sent, headers, form)
    assert status != 500, page[-2_000:]
    assert b"Traceback" not in page
    assert answered["x-frame-options"] == "DENY"


def at_page() -> Target:
    """Requests to the page, by somebody who is signed in."""
    house = House(_folder())
    house.open()
    atexit.register(house.close)
    house.desk.status = document(naked("EUR_USD"))
    house.desk.breaks = [a_break()]
    with house.browser("bob") as browser:
        [(name, value)] = browser.cookies.items()
        csrf = browser.csrf()
    form = [["csrf", csrf], ["content-type", "application/x-www-form-urlencoded"]]
    asked = [
        {"method": method, "path": path, "query": query, "form": fields, "proven": True, "headers":
         [["content-type", "application/x-www-form-urlencoded"]]}
        for method, path, query, fields in (
            ("GET", "/", "", []),
            ("GET", "/at", "account=fx&instrument=EUR_USD&at=2026-01-05+09:00", []),
            ("GET", "/search", "q=c1&since=1h&until=now&page=1", []),
            ("GET", "/breaks", "state=open&type=NAKED_POSITION&min_severity=INFO&order=age&account=fx", []),
            ("GET", "/record/1", "", []),
            ("GET", "/instrument/fx/EUR_USD", "part=book&seen=1", []),
            ("POST", f"/break/{a_break()['id']}/waive", "", [["until", "1h"], ["reason", "x"], ["note", "y"], *form]),
            ("POST", "/halt", "", [["do", "halt"], ["account", "fx"], ["reason", "x"], *form]),
        )
    ]  # fmt: skip
    declared = (ValueError, KeyError, TypeError)  # of an input that is no request
    kind = Kind(
        partial(_page, house, f"{name}={value}", csrf), declared, tuple(json.dumps(one).encode() for one in asked)
    )
    return Target({"a request": kind}, ("supervisor.console", "supervisor.cli", "actors.journal"))


def _gateway(terminal: Terminal, body: bytes) -> None:
    assert json.loads(answer_to(terminal, body))["status"] in {"SUCCESS", "ERROR"}


def at_gateway() -> Target:
    """Requests to the gateway that is started beside a MetaTrader terminal."""
    stand_in = StandIn()
    stand_in.positions, stand_in.working, stand_in.deals = [position(9, 0.1)], [order(7)], [deal(900, 1_700_000_000)]
    terminal = Terminal(stand_in, {}, lambda: datetime(2026, 1, 5, tzinfo=UTC).timestamp())
    asked = [
        {"action": action, "symbol": "*", "ticket": 7, "since": 0, "request_id": "a-1"}
        for action in ("PING", "GET_POSITIONS", "GET_ORDERS", "GET_DEALS", "GET_ACCOUNT", "GET_SYMBOLS")
    ]
    kind = Kind(partial(_gateway, terminal), (), tuple(json.dumps(one).encode() for one in asked))
    return Target({"a request": kind}, ("brokers.mt5",))
