"""What ``journal.url`` may say of servers, and what of it is shown. Nothing is connected to."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
from actors.journal.postgresql_url import each_server, only_primary, place_of
from actors.journal.schema import parse_url, shown
from actors.journal.types import JournalUnavailable


@pytest.mark.parametrize(
    ("url", "servers", "said"),
    [
        ("postgresql://me:pw@db/j", ["db"], "postgresql://me@db/j"),
        ("postgresql+psycopg://me:pw@db:5433/j?sslmode=require", ["db:5433"], "postgresql://me@db:5433/j"),
        ("postgresql://me:pw@a:1,b:2/j?target_session_attrs=read-write", ["a:1", "b:2"], "postgresql://me@a:1,b:2/j"),
        ("postgresql://me:p%2Cw%40@a,b:2/j", ["a", "b:2"], "postgresql://me@a,b:2/j"),
        ("postgresql://a,b", ["a", "b"], "postgresql://a,b/"),
        ("postgresql://me@/j?host=a:1&host=b:2&password=pw", ["a:1", "b:2"], "postgresql://me@a:1,b:2/j"),
        ("postgresql://me@/j?host=a,b&port=1,2", ["a:1", "b:2"], "postgresql://me@a:1,b:2/j"),
        ("postgresql://me@/j?host=a,b&port=7", ["a:7", "b:7"], "postgresql://me@a:7,b:7/j"),
        ("postgresql://me@[::1]:1,[::2]/j", ["::1:1", "::2"], "postgresql://me@::1:1,::2/j"),
        ("postgresql:///j?host=/run/postgresql", ["/run/postgresql"], "postgresql:///run/postgresql/j"),
        ("postgresql:///j", ["the local server"], "postgresql:///j"),
    ],
)
def test_each_server_of_a_url_is_found_and_no_password_is_shown(url: str, servers: list[str], said: str) -> None:
    parsed = parse_url(url)
    assert [place_of(one) for one in each_server(parsed)] == servers
    assert shown(parsed) == said
    # All else goes to each of them.
    assert {one.query.get("sslmode") for one in each_server(parsed)} == {parsed.query.get("sslmode")}


@pytest.mark.parametrize(
    ("url", "primary"),
    [
        ("postgresql://a/j", False),
        ("postgresql://a/j?target_session_attrs=read-write", True),
        ("postgresql://a,b/j", True),
        ("postgresql://a,b/j?target_session_attrs=any", False),
    ],
)
def test_a_reader_asks_a_standby_only_where_there_is_one_server_or_the_url_says_so(url: str, primary: bool) -> None:
    assert only_primary(parse_url(url)) is primary


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql+psycopg2://a/j", "only psycopg is used"),
        ("postgresql://a:x/j", "cannot be read"),
        ("postgresql://a:1:2/j", "cannot be read"),
        ("nonsense", "cannot be read"),
    ],
)
def test_what_cannot_be_connected_to_is_named(url: str, found: str) -> None:
    with pytest.raises(JournalUnavailable, match=found):
        parse_url(url)
