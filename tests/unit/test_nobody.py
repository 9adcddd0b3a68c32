"""Where nothing runs, `connect()` says so from cheap facts, and in the words that it has for it otherwise."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.runtime import cluster_probe
from supervisor.client import processes
from supervisor.client.connection import open_connection
from supervisor.client.nobody import nobody
from supervisor.client.run_file import RunFile, path_of, write
from supervisor.config.loader import load_place
from supervisor.errors import NotRunning
from tests.ports import nobody_at

ROOT = Path(__file__).parents[2]
ACCOUNTS = "accounts: [{name: fx, broker: paper, instruments: [EURUSD]}]\n"
ENDED = 2**22 - 1


@contextmanager
def a_port(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """host:port of one that accepts connections, and does that with each."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return
            serve(kept[-1])

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in kept:
            one.close()


def silent(_: socket.socket) -> None:
    """Accepts, and says nothing."""


def greets(talk: socket.socket) -> None:
    """Speaks HTTP/2, and answers no call."""
    settings, acknowledged = b"\0\0\0\4\0\0\0\0\0", b"\0\0\0\4\1\0\0\0\0"
    talk.sendall(settings + acknowledged)


def speaks_something_else(talk: socket.socket) -> None:
    """An HTTP/1 server."""
    talk.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    talk.close()


def left(path: Path, address: str, pid: int) -> None:
    write(load_place(path), RunFile(address, "token", "reconciliation", pid, detached=False))


CONFIGURATIONS = {
    "the default": "",
    "a path": "journal: {url: 'sqlite:///book/journal.db'}\n",
    "an absolute path": "journal: {url: 'sqlite:////tmp/nowhere-at-all/../journal.db', keep_slices: true}\n",
    "of home": "journal: {url: 'sqlite:///~/nowhere-at-all/journal.db'}\n",
    "a namespace": "ray: {address: local, namespace: desk, require_auth: false}\njournal: {heads: ['${UNSET}']}\n",
    "from the environment": "journal: {url: 'sqlite:///${NAME_OF_THE_JOURNAL}.db'}\n",
    "null": "journal:\nray: {}\n",
    "a cluster": "ray: {address: '127.0.0.1:1'}\n",
    "the one of this machine": "ray: {address: auto}\n",
    "PostgreSQL": "journal: {url: 'postgresql://somewhere/journal', state_dir: state}\n",
    "with a file of heads": "journal: {head_file: heads.txt}\n",
    "a misspelt key": "ray: {adress: local}\n",
    "a wrong value": "ray: {require_auth: perhaps}\n",
    "a wrong namespace": "ray: {namespace: 'a b'}\n",
    "no file": "journal: {url: 'sqlite:///'}\n",
    "another scheme": "journal: {url: 'mysql://x'}\n",
    "a number": "journal: {url: 7}\n",
    "a list": "- 1\n",
    "no YAML": "journal: {\n",
    "twice": "ray: {}\nray: {}\n",
}
IS_SAID_CHEAPLY = {"the default", "a path", "an absolute path", "of home", "a namespace"}


def said(ask: Callable[[], object]) -> tuple[type[BaseException], str] | None:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 - whichever: both have to say the same
        return type(error), str(error)
    return None


@pytest.fixture(autouse=True)
def away_from_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs on the machine of the tests."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setenv("NAME_OF_THE_JOURNAL", "journal")
    for module in ("connection", "nobody"):
        monkeypatch.setattr(f"supervisor.client.{module}.clusters_of_this_machine", list)
        monkeypatch.setattr(f"supervisor.client.{module}.owners_of_others", list)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize(
    "of_a_process", [None, ENDED, os.getpid()], ids=["no run file", "one that ended", "one that lives"]
)
def test_what_is_said_from_cheap_facts_is_what_is_said_otherwise(
    tmp_path: Path, name: str, of_a_process: int | None
) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(CONFIGURATIONS[name] + ("" if name in {"a list", "no YAML"} else ACCOUNTS))
    with nobody_at() as port:
        nowhere = f"127.0.0.1:{port}"
        if of_a_process is not None and name in IS_SAID_CHEAPLY - {"of home", "an absolute path"}:
            left(path, nowhere, of_a_process)
        cheap = nobody(path, None, 1.0)
        assert (cheap is not None) == (name in IS_SAID_CHEAPLY)
        if cheap is not None:
            assert said(lambda: open_connection(path, None, None, 1.0)) == (NotRunning, str(cheap))


@pytest.mark.parametrize("address", ["somewhere", "127.0.0.1:0", "127.0.0.1:99999", "[::1]:1", "127.0.0.1:1", "a:b"])
def test_an_address_at_which_nothing_listens_is_reported_in_the_same_words(address: str) -> None:
    cheap = nobody(None, address, 1.0)
    assert said(lambda: open_connection(None, address, None, 1.0)) == (NotRunning, str(cheap))


def test_without_a_configuration_and_a_cluster_it_is_reported_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for config in (None, "config/accounts.yaml"):
        cheap = nobody(config, None, 1.0)
        assert said(lambda config=config: open_connection(config, None, None, 1.0)) == (NotRunning, str(cheap))  # type: ignore[misc]


def test_one_whose_run_file_cannot_be_read_or_whose_process_may_be_there_is_left_to_more_than_cheap_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(ACCOUNTS)
    (tmp_path / "var").mkdir()
    monkeypatch.setattr("supervisor.client.nobody.of_another_at", lambda _: "user ann")
    assert nobody(path, None, 1.0) is None
    assert nobody(tmp_path / "nowhere.yaml", None, 1.0) is None
    monkeypatch.setitem(sys.modules, "ray", object())  # it may be connected to that cluster
    assert nobody(None, "127.0.0.1:1", 1.0) is None


@pytest.mark.parametrize(
    ("serve", "within_s", "words"),
    [
        (silent, 0.2, "it accepts connections and answers nothing within 0.2 s"),
        (greets, 0.2, "it accepts connections and answers nothing within 0.2 s"),
        (speaks_something_else, 30.0, "what listens there is no Ray cluster, or has just ended"),
    ],
)
def test_one_that_accepts_connections_and_answers_no_call_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[[socket.socket], None], within_s: float, words: str
) -> None:
    """Ray itself waits for it for minutes."""
    monkeypatch.setattr("supervisor.client.processes.ANSWERS_WITHIN_S", within_s)
    path = tmp_path / "accounts.yaml"
    path.write_text(ACCOUNTS)
    with a_port(serve) as address:
        left(path, address, os.getpid())
        for config, given in ((None, address), (path, None)):
            with pytest.raises(NotRunning, match=words):
                open_connection(config, given, None, within_s)
            assert words in str(nobody(config, given, within_s))
        with pytest.raises(NotRunning, match="names process"):
            processes.find(load_place(path))
        assert "ray" not in sys.modules


def test_a_cluster_that_was_configured_and_answers_nothing_is_not_started_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.client.processes.ANSWERS_WITHIN_S", 0.2)
    path = tmp_path / "accounts.yaml"
    with a_port(silent) as address:
        path.write_text(f"ray: {{address: '{address}'}}\n{ACCOUNTS}")
        configuration = load_place(path)
        with (
            pytest.raises(ConnectionError, match=f"{address} does not answer: it accepts connections and"),
            processes.started(configuration, detach=False, on_step=print),
        ):
            pass
    assert not path_of(configuration).exists()


def test_a_cluster_with_tls_between_its_nodes_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_port(silent) as address:
        with pytest.raises(OSError, match="answers nothing"):
            cluster_probe.answers(address, 0.1)
        monkeypatch.setenv("RAY_USE_TLS", "1")
        cluster_probe.answers(address, 0.1)  # nothing is raised now


@pytest.mark.parametrize(
    "given", ["", "address='127.0.0.1:1'", "strategy='momentum'", "address='127.0.0.1:1', timeout_s=3"]
)
def test_a_program_that_finds_nobody_has_imported_next_to_nothing(tmp_path: Path, given: str) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(ACCOUNTS)
    heavy = ("ray", "pydantic", "loguru", "asyncio", "grpc", "supervisor.config.models", "actors.book.book")
    code = (
        f"import supervisor, sys\ntry: supervisor.connect({str(path)!r}, {given})\n"
        f"except supervisor.NotRunning: print(*(name for name in {heavy!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("address=7", "TypeError"),
        ("address=''", "ValueError"),
        ("strategy=7", "TypeError"),
        ("timeout_s=True", "Type"),
    ],
)
def test_an_argument_that_is_wrong_is_named_first(tmp_path: Path, given: str, error: str) -> None:
    code = f"import supervisor\nsupervisor.connect({str(tmp_path)!r}, {given})"
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert error in done.stderr.splitlines()[-1]
