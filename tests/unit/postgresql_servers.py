"""Real PostgreSQL servers on loopback for the tests of the journal: a primary and its streaming standby, which can be
killed, frozen, restarted and promoted. Where this runs as root, the servers run as another user, as they demand."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import psycopg
import pytest

from tests.ports import own_port

_USER = "postgres"
_READ_AT = "SELECT pg_conf_load_time()"
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 4MB
dynamic_shared_memory_type = mmap
autovacuum = off
hot_standby = on
wal_receiver_timeout = 2s
wal_retrieve_retry_interval = 100ms
wal_sender_timeout = 2s
"""


@cache
def programs() -> Path:
    """The directory with ``initdb`` and ``postgres``, of the system or of the package pgserver; skips without."""
    found = shutil.which("pg_ctl")
    if found is not None and (Path(os.path.realpath(found)).parent / "initdb").exists():
        return Path(os.path.realpath(found)).parent
    pgserver = pytest.importorskip("pgserver", reason="there is no PostgreSQL server to test with")
    return Path(pgserver.__file__).parent / "pginstall" / "bin"


@cache
def _account() -> int | None:
    if os.geteuid() != 0:
        return None
    import pwd

    for name in (_USER, "pgserver", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


def _own(directory: Path) -> None:
    user = _account()
    if user is not None:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, user, -1, follow_symlinks=False)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/nonexistent"}


def make_template(directory: Path) -> Path:
    """A cluster as ``initdb`` leaves it, to be copied."""
    for parent in (directory, *directory.parents):  # the other user has to get there
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    data = directory / "template"
    data.mkdir(mode=0o700)
    _own(data)
    arguments = ["-D", data, "-U", "owner", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
    _run("initdb", *arguments)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(_SETTINGS)
    return data


def _run(program: str, *arguments: object) -> None:
    done = subprocess.run(
        [str(programs() / program), *map(str, arguments)],
        user=_account(), env=_environment(), cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def until(what: str, holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    """Wait for something that the server does in its own time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}, not within {timeout_s:g} s"
        time.sleep(0.02)


class Server:
    """One server with its data in ``data``, on a port of its own that it keeps."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = own_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """Its place, as a URL names it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """A URL that names this server alone."""
        return f"postgresql://owner@{self.host}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.data.parent / f"{self.data.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(programs() / "postgres"), "-D", str(self.data), "-p", str(self.port)],
                user=_account(), env=_environment(), cwd="/", stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until(f"{self.data.name} answers", self.answers)

    @staticmethod
    def own(directory: Path) -> None:
        """Let the server's user have a directory."""
        directory.chmod(0o700)
        _own(directory)

    def answers(self) -> bool:
        """Whether somebody can connect to it."""
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def ask(self, statement: str) -> object:
        """The first value of an answer of its own connection."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="owner", dbname="postgres", autocommit=True, connect_timeout=3
        ) as connection:
            found = connection.execute(statement)
            row = found.fetchone() if found.description else None
            return None if row is None else row[0]

    def configure(self, **settings: str) -> None:
        """Change settings of a server that runs, without a restart; they are in force when it returns."""
        for name, value in settings.items():
            self.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        before = self.ask(_READ_AT)
        self.ask("SELECT pg_reload_conf()")
        # The request returns before the server has read them. It notifies all sessions before it begins another one.
        until(f"{self.data.name} reads its settings", lambda: self.ask(_READ_AT) != before)

    def pids(self) -> list[int]:
        """Its processes, the first of them the postmaster."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [self._process.pid, *map(int, children.read_text().split())]

    def freeze(self) -> None:
        """Stop every process of it: the kernel still takes connections for it, and nobody answers."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for pid in reversed(self.pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """As a machine that loses its power: without a word to anybody."""
        if self._process is None or self._process.poll() is not None:
            return
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=20)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is."""
        assert self.ask("SELECT pg_promote(true, 20)") is True

    def follow(self, primary: Server) -> None:
        """Be the standby of a primary from the next start on."""
        (self.data / "standby.signal").touch()
        with (self.data / "postgresql.auto.conf").open("a") as settings:
            place = f"host=127.0.0.1 port={primary.port} user=owner application_name={self.data.name}"
            settings.write(f"primary_conninfo = '{place}'\n")
        _own(self.data)


class Servers:
    """A primary and its standby, both running."""

    def __init__(self, template: Path, directory: Path, *, synchronous: bool) -> None:
        self.primary, self.standby = (self._made(template, directory / name) for name in ("first", "second"))
        self.standby.follow(self.primary)
        if synchronous:
            with (self.primary.data / "postgresql.auto.conf").open("a") as settings:
                settings.write("synchronous_standby_names = 'second'\n")
        self.primary.start()
        self.standby.start()
        until("the standby follows", lambda: self.primary.ask("SELECT state FROM pg_stat_replication") == "streaming")
        if synchronous:
            until("it is synchronous", lambda: self.primary.ask("SELECT sync_state FROM pg_stat_replication") == "sync")

    @staticmethod
    def _made(template: Path, data: Path) -> Server:
        shutil.copytree(template, data)
        data.chmod(0o700)
        _own(data)
        return Server(data)

    @property
    def url(self) -> str:
        """A URL that names both."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """A URL that names both, and a database."""
        places = f"{self.primary.host},{self.standby.host}"
        return f"postgresql://owner@{places}/{database}?target_session_attrs=read-write"

    def end(self) -> None:
        """Let nothing of them live on."""
        self.primary.kill()
        self.standby.kill()


@contextlib.contextmanager
def one_server(template: Path, data: Path) -> Iterator[Server]:
    """A server without a standby."""
    server = Server(data)
    shutil.copytree(template, data)
    data.chmod(0o700)
    _own(data)
    server.start()
    try:
        yield server
    finally:
        server.kill()
