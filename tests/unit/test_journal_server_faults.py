"""The journal on a PostgreSQL server that restarts, hangs, is full, lets nobody write, or has no connection left: each
has its reason in words and passes by itself. Also: what its URL may say.

Needs psycopg and the programs of PostgreSQL (of the system, or of the package pgserver)."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from actors.journal.store import Journal
from actors.journal.types import Append, Appended, JournalCorrupt, JournalUnavailable
from supervisor.cli.main import app
from tests.unit.journal_cases import an_event, events

pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
import psycopg

from tests.unit.postgresql_servers import Server, make_template, one_server, until

NUMBERS = count(1)
ROOM = 5
"""How many connections the server has for those who are no superuser."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        template = make_template(Path(directory))
        with (template / "postgresql.conf").open("a") as settings:
            settings.write(f"max_connections = {ROOM + 2}\nsuperuser_reserved_connections = 2\n")
        with one_server(template, Path(directory) / "only") as running:
            running.ask("CREATE ROLE trader LOGIN")
            yield running


@pytest.fixture
def url(server: Server) -> str:
    name = f"journal_{next(NUMBERS)}"
    server.ask(f"CREATE DATABASE {name} OWNER trader")
    return f"postgresql://trader@{server.host}/{name}"


@pytest.fixture
def journal(url: str, tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal.open(url, exclusive=True, beside=tmp_path / "journal", answer_within_s=1.0)) as opened:
        assert opened.append([Append("fx/A", 0, events("1"))]) == [Appended(1, 1)]
        yield opened


@contextmanager
def restarted(server: Server) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def read_only(server: Server) -> Iterator[None]:
    server.configure(default_transaction_read_only="on")
    try:
        yield
    finally:
        writable = "-c default_transaction_read_only=off"
        with psycopg.connect(server.url, autocommit=True, options=writable) as connection:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


@contextmanager
def crowded(server: Server) -> Iterator[None]:
    with ExitStack() as others:
        server.ask("SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = 'trader'")
        taken = 0

        def is_full() -> bool:
            nonlocal taken
            with suppress(psycopg.OperationalError):  # one that was closed keeps its place until its process ends
                others.enter_context(psycopg.connect(server.url.replace("owner", "trader")))
                taken += 1
            return taken == ROOM

        until("it is full", is_full)
        yield


@contextmanager
def hanging(server: Server) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        (restarted, ["(refused|closed the connection|terminating connection).*it is tried again"]),
        (read_only, ["(read-only transaction.*Make the server writable|lets nobody write)", r"lets nobody write \("]),
        (crowded, ["(remaining connection slots|too many clients).*Give it connections"]),
        (hanging, ["no answer within 1 s"]),
    ],
    ids=["restarted", "read only", "crowded", "hanging"],
)
def test_a_fault_of_the_server_is_named_and_passes(
    journal: Journal,
    server: Server,
    fault: Callable[[Server], AbstractContextManager[None]],
    reasons: list[str],
) -> None:
    """Law 2. What could not be written is written afterwards, once."""
    with fault(server):
        for reason in reasons:
            with pytest.raises(JournalUnavailable, match=reason):
                journal.append([Append("fx/A", 1, events("2"))])

    def written() -> bool:
        with suppress(JournalUnavailable):  # the server still ends what it did during the fault
            return journal.append([Append("fx/A", 1, events("2"))]) == [Appended(2, 2)]
        return False

    until("it is over", written)
    assert journal.verify().ok
    assert len(list(journal.records())) == 2


def test_a_server_that_is_restarted_while_nobody_writes_costs_no_error(journal: Journal, server: Server) -> None:
    server.kill()
    server.start()
    assert journal.append([Append("fx/A", 1, events("2"))]) == [Appended(2, 2)]


def test_a_server_whose_disk_is_full_goes_on_when_there_is_space(
    journal: Journal, server: Server, url: str, tmp_path: Path
) -> None:
    with _a_small_disk() as disk:
        server.own(disk)
        server.ask(f"CREATE TABLESPACE small LOCATION '{disk}'")
        try:
            journal.close()
            server.ask(f"ALTER DATABASE {url.rpartition('/')[2]} SET TABLESPACE small")
            filler = disk / "filler"
            filler.write_bytes(b"\0" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 200_000))
            with closing(Journal.open(url, exclusive=True, beside=tmp_path / "journal")) as again:
                much = tuple(an_event(f"much {one}", payload={"text": os.urandom(4000).hex()}) for one in range(100))
                with pytest.raises(
                    JournalUnavailable, match=r"No space left on device.*Free space on the server's disk"
                ):
                    again.append([Append("fx/A", 1, much)])
                filler.unlink()
                assert again.append([Append("fx/A", 1, much)]) == [Appended(101, 101)]
                assert again.verify().ok
        finally:
            server.ask(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
            server.ask("DROP TABLESPACE small")


@contextmanager
def _a_small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="postgresql-disk-") as directory:
        mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", directory]
        unmount = ["umount", "--lazy", directory]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root can make a small disk")
        try:
            yield Path(directory)
        finally:
            subprocess.run(unmount, check=True)


def test_check_connect_cautions_of_a_server_that_waits_for_no_standby(url: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(url.replace(server.host, f"{server.host},127.0.0.1:1"))
    (tmp_path / "url").chmod(0o600)
    config = tmp_path / "accounts.yaml"
    config.write_text(
        "journal: {url: 'file:url'}\n"
        "accounts: [{name: a, broker: mt5, simulator: true, enabled: false, instruments: [EURUSD]}]\n"
    )
    said = CliRunner().invoke(app, ["check", str(config), "--connect"])
    assert said.exit_code == 0, said.output
    assert f"caution: the journal: {server.host} waits for no standby" in said.stdout
    assert "waits for no standby" not in CliRunner().invoke(app, ["check", str(config)]).stdout
    (tmp_path / "url").write_text("postgresql://trader@127.0.0.1:1/j")
    said = CliRunner().invoke(app, ["check", str(config), "--connect"])
    assert "caution: could not look at the journal's server: " in said.stdout


def test_an_empty_database_is_not_begun_where_records_were_durable(
    journal: Journal, server: Server, tmp_path: Path
) -> None:
    server.ask("CREATE DATABASE empty OWNER trader")
    elsewhere = f"postgresql://trader@{server.host}/empty"
    with pytest.raises(JournalCorrupt, match=r"its database is empty, and 1 records were durable.*remove .*\.mark"):
        Journal.open(elsewhere, exclusive=True, beside=tmp_path / "journal")
    with psycopg.connect(elsewhere) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_table_that_is_gone_is_damage_and_no_outage(journal: Journal, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE journal_records")
    with pytest.raises(JournalCorrupt, match="does not exist"):
        journal.append([Append("fx/A", 1, events("2"))])


def test_a_lost_machine_does_not_keep_its_lock_for_hours(journal: Journal, server: Server) -> None:
    """The server asks after its silent writer within seconds: by default it would after two hours."""
    found: list[float] = []

    def has_a_timer() -> bool:
        asks_within_s = _asks_within_s(server.port)
        found.extend([] if asks_within_s is None else [asks_within_s])
        return bool(found)

    until("the kernel has a timer for it", has_a_timer)
    assert found[0] <= 5.1


def _asks_within_s(port: int) -> float | None:
    """When the kernel will ask after the last connection to a server that is silent; see proc(5), "/proc/net/tcp"."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    timers = [row[5].split(":") for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]
    return max((int(when, 16) / 100 for kind, when in timers if kind == "02"), default=None)
