"""Whatever is asked of the page: a page with a status, never a traceback, and nothing done that was not asked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.breaks import until_of
from supervisor.cli.console import Failure
from supervisor.cli.time_text import NoMoment, moment
from tests.brokers.mutations import EXAMPLES, ODD_TEXTS
from tests.console.house import BREAK, PORT, House, a_break, document, naked

NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
HEADERS = ("x-frame-options", "content-security-policy")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("house"))
    made.open()
    made.desk.status = document(naked("EUR_USD"))
    made.desk.breaks = [a_break()]
    yield made
    made.close()


odd = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
sizes = st.integers(-(10**30), 10**30).map(str)
units = st.sampled_from(["s", "m", "h", "d", "w", "mo", "y", " ago", "", "Z", "T25:61", ".5h"])
times = (
    odd | st.tuples(sizes, units).map("".join) | st.datetimes().map(str) | st.datetimes().map(lambda at: at.isoformat())
)


@EXAMPLES
@given(times)
def test_what_people_write_for_a_time_is_one_or_is_refused(text: str) -> None:
    for read, refusal in ((moment, NoMoment), (until_of, Failure)):
        with contextlib.suppress(refusal):
            assert read(text, NOW).tzinfo is not None


PARTS = ["account", "instrument", "break", "record", "static", "..", "%00"]
KNOWN = "/ /account/fx /instrument/fx/EUR_USD /breaks /at /search /record/1 /verify /sign-in /healthz /live /static/x"
paths = st.sampled_from([*KNOWN.split(), f"/break/{BREAK}"]) | st.lists(odd | st.sampled_from(PARTS), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
ASKED = "at account instrument q part once page seen said next type state min_severity severity order after token"
names = st.sampled_from(ASKED.split()) | st.text(max_size=6)
queries = st.lists(st.tuples(names, times), max_size=4)
posts = st.sampled_from(
    [f"/break/{BREAK}/{what}" for what in ("acknowledge", "assign", "propose", "approve", "waive", "x")]
    + ["/halt", "/sign-in", "/sign-out", "/verify", "/at"]
)
FIELDS = "csrf until reason note owner looked book_value broker_value do account instrument token next"
ANSWERS = ["yes", "halt", "resume", "fx", "EUR_USD", "1h"]
fields = st.lists(
    st.tuples(st.sampled_from(FIELDS.split()) | st.text(max_size=5), times | st.sampled_from(ANSWERS)), max_size=8
)


def ask(
    house: House,
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes = b"",
) -> tuple[int, dict[str, str], bytes]:
    """One request, as a server hands it on, whatever stands in it."""
    sent: list[Any] = []
    asked = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(asked, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "root_path": "",
        "scheme": "http",
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", PORT),
    }

    async def served() -> None:
        async with asyncio.timeout(20):
            await house.console.app(scope, receive, send)

    assert house.client.portal is not None
    house.client.portal.call(served)
    start = sent[0]
    found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    return start["status"], found, b"".join(one.get("body", b"") for one in sent[1:])


def looks_right(status: int, headers: dict[str, str], body: bytes) -> None:
    """What holds for every answer."""
    assert status != 500, body[-2_000:]
    assert 200 <= status < 504
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"Traceback" not in body


@pytest.fixture(scope="module")
def signed_in(house: House) -> tuple[str, str]:
    """The cookie and the secret of somebody who may do anything."""
    with house.browser("bob") as browser:
        [(name, value)] = browser.cookies.items()
        return f"{name}={value}", browser.csrf()


@EXAMPLES
@given(
    path=paths,
    query=queries | st.binary(max_size=40),
    cookie=st.none() | odd,
    host=st.none() | odd,
    inside=st.booleans(),
)
def test_every_address_answers_with_a_page(
    house: House,
    signed_in: tuple[str, str],
    path: str,
    query: list[tuple[str, str]] | bytes,
    cookie: str | None,
    host: str | None,
    inside: bool,
) -> None:
    headers = [(b"host", f"127.0.0.1:{PORT}".encode() if host is None else host.encode("latin-1", "replace"))]
    given_cookie = signed_in[0] if inside else cookie
    if given_cookie is not None:
        headers.append((b"cookie", given_cookie.encode("latin-1", "replace")))
    encoded = query if isinstance(query, bytes) else urlencode(query, errors="replace").encode()
    if path == "/live" or "page=" in encoded.decode("latin-1"):
        encoded += b"&once=1"
    status, answered, body = ask(house, "GET", path, encoded, headers)
    looks_right(status, answered, body)
    assert body or answered.get("location"), "what is no page of its own leads to one"


@EXAMPLES
@given(path=posts, form=fields, raw=st.none() | st.binary(max_size=60), proven=st.booleans(), token=odd)
def test_every_form_answers_with_a_page_and_does_nothing_without_its_secret(
    house: House,
    signed_in: tuple[str, str],
    path: str,
    form: list[tuple[str, str]],
    raw: bytes | None,
    proven: bool,
    token: str,
) -> None:
    cookie, csrf = signed_in
    if path == "/sign-out" and proven:
        return  # it is needed for the others
    headers = [
        (b"host", f"127.0.0.1:{PORT}".encode()),
        (b"origin", f"http://127.0.0.1:{PORT}".encode()),
        (b"cookie", cookie.encode()),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"x-csrf-token", csrf.encode() if proven else token.encode("latin-1", "replace")),
    ]
    before = len(house.desk.asked)
    body = raw if raw is not None else urlencode(form, errors="replace").encode()
    status, headers_sent, page = ask(house, "POST", path, b"", headers, body)
    looks_right(status, headers_sent, page)
    if not proven:
        assert len(house.desk.asked) == before, "nothing was done"
    for _, _, what, *terms in house.desk.asked[before:]:
        assert what in {"halt", "resume", "acknowledge", "assign", "propose", "approve", "waive"}, terms
