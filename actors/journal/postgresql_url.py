"""The URL of a journal in PostgreSQL, which may name several servers: a primary, and the standbys that take over.

Both common forms are read: libpq's ``postgresql://me@one:5432,two:5432/db`` and SQLAlchemy's, with ``?host=one:5432``
for each of them. ``target_session_attrs`` says whom a reader may ask; a writer takes a server that accepts writes,
whatever it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import URL, make_url

from actors.journal.types import JournalUnavailable

_DRIVERS: Final = frozenset({"postgresql", "postgresql+psycopg"})
_SEVERAL: Final = re.compile(r"(postgresql(?:\+\w+)?://(?:[^@/?]*@)?)([^/?@]*,[^/?@]*)(/[^?]*)?(\?.*)?\Z", re.DOTALL)
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?\Z")
_OURS: Final = ("host", "port", "target_session_attrs")
_PRIMARY_ONLY: Final = frozenset({"read-write", "primary"})


def make_server_url(text: str) -> URL:
    """``text`` as a URL, in either form; raises what :func:`sqlalchemy.make_url` does."""
    found = _SEVERAL.match(text)
    if found is None:
        return make_url(text)
    start, hosts, path, query = found.groups(default="")
    url = make_url(f"{start}{path or '/'}{query}")
    return url.set(query={**url.query, "host": tuple(hosts.split(","))})


def with_our_driver(url: URL) -> URL:
    """The URL with the driver that every promise of ours is made with; raises :class:`JournalUnavailable` for another
    one, whose waits have no bound."""
    if url.drivername not in _DRIVERS:
        raise JournalUnavailable(
            "open the journal",
            f"its URL asks for the driver {url.drivername.partition('+')[2]}, and only psycopg is used",
            "Write journal.url as postgresql://…",
        )
    return url.set(drivername="postgresql+psycopg")


def each_server(url: URL) -> tuple[URL, ...]:
    """A URL for each of the servers that are named, in their order."""
    rest = {key: value for key, value in url.query.items() if key not in _OURS}
    return tuple(url.set(host=host, port=port, query=rest) for host, port in _places(url))


def place_of(server: URL) -> str:
    """The host and the port of one server."""
    host = server.host or "the local server"
    return host if server.port is None else f"{host}:{server.port}"


def hosts_of(url: URL) -> tuple[str | None, ...]:
    """The hosts that are named; ``None`` for the default one."""
    return tuple(host for host, _ in _places(url))


def only_primary(url: URL) -> bool:
    """Whether a reader may ask no standby. With several servers it may not unless the URL says so: a standby may be
    behind what its primary has answered."""
    said = url.query.get("target_session_attrs")
    return said in _PRIMARY_ONLY if said is not None else len(_places(url)) > 1


def shown_url(url: URL) -> str:
    """The URL for people: its servers and its database, without a password, whichever part that stands in."""
    user = f"{url.username}@" if url.username else ""
    servers = ",".join(place_of(server) if server.host else "" for server in each_server(url))
    return f"{url.get_backend_name()}://{user}{servers}/{url.database or ''}"


def _places(url: URL) -> Sequence[tuple[str | None, int | None]]:
    named = list(_split(url.query.get("host")))
    if not named:
        return [(url.host, url.port)]
    ports = list(_split(url.query.get("port")))
    if len(ports) == 1:
        ports *= len(named)
    found = []
    for number, one in enumerate(named):
        # A path is the directory of a Unix socket, and a bare IPv6 address has no port.
        match = None if one.startswith("/") or (one.count(":") > 1 and not one.startswith("[")) else _HOST.match(one)
        host, port = (one, None) if match is None else (match[1].strip("[]"), match[2])
        port = port or (ports[number] if number < len(ports) else None)
        found.append((host or None, int(port) if port and port.isdecimal() else url.port))
    return found


def _split(value: str | tuple[str, ...] | None) -> Iterator[str]:
    for one in (value,) if isinstance(value, str) else value or ():
        yield from one.split(",")
