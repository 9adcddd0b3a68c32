"""A whole house, looked at from outside: who may reach it, who may read its files, and where its secrets are."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import pickle
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from actors.journal.kept_slices import unpacked
from actors.runtime.ports import LocalRuntime
from actors.runtime.ray_session import lets_everybody_in
from brokers.simulators.base import Fault
from brokers.simulators.oanda import OandaSimulator
from supervisor.changes.shown_configuration import shown
from supervisor.cli.metrics import StatusCollector
from supervisor.client import processes, run_file
from supervisor.config.loader import load
from supervisor.config.models import Configuration
from supervisor.console.users import Role, add
from supervisor.errors import NotRunning
from supervisor.supervision import specs
from tests.cluster.conftest import PATIENCE_S, all_verified
from tests.ports import own_port
from tests.unit.receivers import WebReceiver, web_receiver

TOKEN = "canary-token-8c1f0b7e"
URL_PASSWORD = "canary-url-55d2a9c4"
KITE_TOKEN = "canary-kite-0e7d31aa"
CANARIES = (TOKEN, URL_PASSWORD, KITE_TOKEN)
ACCOUNT = "101-001-1-001"
CONFIGURATION = """
journal: {{url: "sqlite:///{directory}/var/journal.db", keep_slices: true}}
defaults: {{interval_s: 1, confirm_gap_ms: 50, settle_ms: 100, timeout_ms: 2000}}
log: {{file: var/supervisor.log}}
console: {{port: {page}}}
alerts: {{routes: [{{name: desk, url: "${{DESK_URL}}"}}, {{name: here, url: "{receiver}"}}]}}
accounts:
  - {{name: fx, broker: oanda, account_id: {account}, token: "${{FX_TOKEN}}", rest_url: "{url}",
     instruments: [EUR_USD]}}
  - {{name: eq, broker: kite, api_key: "file:kite", access_token: "file:kite", rest_url: "{url}",
     instruments: ["NSE:INFY"]}}
  - {{name: cfd, broker: mt5, simulator: true, instruments: [EURUSD]}}
"""
ENVIRON = {"FX_TOKEN": TOKEN, "DESK_URL": f"json://me:{URL_PASSWORD}@127.0.0.1:9/"}


class House:
    """One that runs, with what it was started by."""

    person: str
    """The token of somebody who may look at its page."""
    alerts: WebReceiver

    def __init__(self, directory: Path, configuration: Configuration, process: subprocess.Popen[str]) -> None:
        self.directory = directory
        self.configuration = configuration
        self.process = process

    @property
    def informed(self) -> set[int]:
        """Those who are given the environment: `start`, and the process that it begins with."""
        return {self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children())}

    def status(self) -> dict[str, Any]:
        return processes.find(self.configuration).status()

    def processes(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children(recursive=True)
        sessions = {os.getsid(child.pid) for child in children}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError):
                if os.getsid(process.pid) in sessions:
                    found.append(process)
        return [*found, psutil.Process(self.process.pid)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Started from the command line, with secrets in the environment and in a file; its brokers refuse and lie."""
    directory = tmp_path_factory.mktemp("house")
    simulator = OandaSimulator(ACCOUNT, TOKEN, instruments=["EUR_USD"])
    path = directory / "accounts.yaml"
    (directory / "kite").write_text(KITE_TOKEN)
    (directory / "kite").chmod(0o600)
    before = {name: os.environ.get(name) for name in ENVIRON}
    os.environ.update(ENVIRON)
    command = [sys.executable, "-m", "supervisor", "--verbose", "start", str(path)]
    with web_receiver() as receiver, open(directory / "said", "w") as said:
        places = {"directory": directory, "page": own_port(), "receiver": receiver.url}
        path.write_text(CONFIGURATION.format(**places, account=ACCOUNT, url=simulator.start()))
        configuration = load(path)
        configuration.state_dir.mkdir(mode=0o700)
        person = add(configuration.console_tokens, "vic", Role.VIEWER)
        with subprocess.Popen(command, stdout=said, stderr=said, text=True, start_new_session=True) as process:
            try:
                made = House(directory, configuration, process)
                made.person, made.alerts = person, receiver
                until(
                    made,
                    lambda status: all_verified(
                        {**status, "accounts": [one for one in status["accounts"] if one["account"] == "cfd"]}
                    ),
                )
                until(made, lambda status: status["accounts"][0]["instruments"][0]["status"] == "SUCCESS")
                for fault in (Fault.UNAUTHORIZED, Fault.HTML, Fault.HALF_BODY, Fault.MALFORMED_ROW, Fault.SERVER_ERROR):
                    simulator.faults.add(fault, times=3)
                until(made, lambda status: status["accounts"][0]["connection"] != "CONNECTED")
                until(made, lambda status: bool(status["supervisor"]["alerts"]))
                yield made
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)
                simulator.close()
                for name, value in before.items():
                    os.environ.pop(name) if value is None else os.environ.update({name: value})


def until(house: House, holds: Any) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    last: object = None
    while time.monotonic() < deadline_s:
        assert house.process.poll() is None, (house.directory / "said").read_text()
        try:
            last = status = house.status()
        except NotRunning as error:
            last = error
        else:
            if holds(status):
                return
        time.sleep(0.2)  # there is no event for it outside the cluster
    raise AssertionError(last)


def loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def listeners(house: House) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for process in house.processes():
        with contextlib.suppress(psutil.Error):
            for one in process.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN:
                    found.setdefault(one.laddr.port, set()).add(one.laddr.ip)
    return found


def test_every_socket_that_listens_is_on_loopback(house: House) -> None:
    found = listeners(house)
    assert len(found) > 5  # Ray's own, and the simulator's
    heard_by_others = {ip for ips in found.values() for ip in ips if not loopback(ip)}
    assert heard_by_others == set()


def test_no_actor_comes_after_what_else_its_machine_does(house: House) -> None:
    actors = {row["name"]: row["pid"] for row in house.status()["supervisor"]["actors"]}
    assert {name: psutil.Process(pid).nice() for name, pid in actors.items()} == dict.fromkeys(
        actors, psutil.Process().nice()
    )


def test_nobody_gets_in_without_the_token(house: House) -> None:
    run = run_file.read(house.configuration)
    assert run is not None
    assert not lets_everybody_in(run.address)
    assert run.dashboard is not None
    for path in ("/api/cluster_status", "/api/jobs/", "/logs/"):
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(run.dashboard + path, timeout=PATIENCE_S)  # noqa: S310 - it is on loopback
        assert raised.value.code in {401, 403}, path
    assert run.local_door is not None
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(run.local_door.path)
        door.sendall(b"\0" * 32 + b"\0" * 8)
        assert door.recv(1) == b""


def test_no_other_user_reads_or_changes_a_file_of_it(house: House) -> None:
    run = run_file.read(house.configuration)
    assert run is not None
    assert run.logs is not None
    assert run.door is not None
    meant_to_be_given_away = {"journal.db.pub"}
    for file in files(house.directory / "var"):
        with contextlib.suppress(FileNotFoundError):  # one that was written and renamed meanwhile
            assert file.stat().st_mode & 0o077 == 0 or file.name in meant_to_be_given_away, file
    sockets = [one for one in (Path(run.logs).parent / "sockets").iterdir() if re.fullmatch("[0-9a-f]{18}", one.name)]
    assert len(sockets) >= len(house.status()["supervisor"]["actors"]), "each actor answers the others at one"
    assert {stat.S_IMODE(one.stat().st_mode) for one in sockets} == {0o600}
    for place in (Path(run.logs), Path(run.door)):
        assert any(folder.stat().st_mode & 0o077 == 0 for folder in place.parents), place


def test_no_secret_is_in_anything_that_is_written_reported_or_passed_on(house: House) -> None:
    status = house.status()
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: status, time.monotonic))
    rows = processes.find(house.configuration).breaks()
    said: dict[str, bytes] = {
        "status": json.dumps(status, default=str).encode(),
        "breaks": json.dumps(rows, default=str).encode(),
        "metrics": generate_latest(registry),
        "repr": repr(house.configuration).encode(),
        "shown": str(shown(house.configuration)).encode(),
        "arguments": b"".join(arguments(house.configuration)),
        "output": (house.directory / "said").read_bytes(),
        "alerts": json.dumps([house.alerts.got.get(timeout=PATIENCE_S), *house.alerts.got.queue]).encode(),
        "kept slices": b"".join(kept_slices(house)),
        **pages(house),
    }
    assert b"EURUSD" in said["kept slices"], "they are looked into as they are read"
    assert b"EUR_USD" in said["page /"]
    run = run_file.read(house.configuration)
    assert run is not None
    assert run.logs is not None
    for folder in (house.directory / "var", Path(run.logs)):
        for file in files(folder):
            with contextlib.suppress(FileNotFoundError):  # as above
                said[str(file)] = file.read_bytes()
    for process in house.processes():
        with contextlib.suppress(OSError, psutil.Error):
            said[f"the command line of {process.pid}"] = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if process.pid not in house.informed:
                said[f"the environment of {process.pid}"] = Path(f"/proc/{process.pid}/environ").read_bytes()
            said[f"the title of {process.pid}"] = Path(f"/proc/{process.pid}/comm").read_bytes()
    assert sum("environment" in place for place in said) > 5
    assert b"401" in said["output"] or any(b"401" in one for one in said.values())  # what failed was reported
    canaries = (*CANARIES, house.person)
    assert [(place, one) for place, text in said.items() for one in canaries if one.encode() in text] == []


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def kept_slices(house: House) -> Iterator[bytes]:
    """They are compressed: no search of the file finds anything."""
    with contextlib.closing(sqlite3.connect(f"file:{house.directory}/var/journal.db.slices?mode=ro", uri=True)) as kept:
        for (data,) in kept.execute("SELECT data FROM parts UNION ALL SELECT data FROM passes"):
            yield unpacked(data) or b""


def pages(house: House) -> dict[str, bytes]:
    """What somebody who is signed in is shown."""
    port = house.configuration.console.port
    here = f"http://127.0.0.1:{port}"
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    form = urllib.parse.urlencode({"token": house.person, "next": "/"}).encode()
    signing_in = urllib.request.Request(f"{here}/sign-in", data=form, headers={"origin": here})  # noqa: S310 - it is on loopback
    deadline_s = time.monotonic() + PATIENCE_S
    found: object = None
    while True:  # the page is a process of its own, which comes up and asks the supervisor in its own time
        try:
            opener.open(signing_in, timeout=PATIENCE_S).close()
            with opener.open(f"{here}/", timeout=PATIENCE_S) as fleet:
                if b"EUR_USD" in (found := fleet.read()):
                    break
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            found = error
        assert time.monotonic() < deadline_s, found
        time.sleep(0.2)  # there is no event for it here
    shown_to_people = {}
    for path in ("/", "/account/fx", "/account/eq", "/instrument/fx/EUR_USD", "/breaks", "/search?q=fx"):
        with opener.open(here + path, timeout=PATIENCE_S) as page:
            shown_to_people[f"page {path}"] = page.read()
    return shown_to_people


def test_no_process_leaves_its_memory_in_a_file_when_it_dies(house: House) -> None:
    limits = {}
    for process in house.processes():
        with contextlib.suppress(psutil.Error):
            limits[process.name(), process.pid] = process.rlimit(psutil.RLIMIT_CORE)[0]
    assert len(limits) > 5
    assert {one: soft for one, soft in limits.items() if soft} == {}


def arguments(configuration: Configuration) -> Iterator[bytes]:
    """What Ray is given to make each kind of actor with, and to make it again with."""
    runtime = LocalRuntime(None, None, None)  # type: ignore[arg-type] # nobody runs in it
    for account in configuration.accounts:
        settings, make, *_ = specs.account_actor(configuration, account.name, runtime)
        yield pickle.dumps((settings, make))
        for symbol in account.symbols:
            yield pickle.dumps(specs.instrument_actor(configuration, account.name, symbol, runtime)[0])
    yield pickle.dumps(specs.audit_actor(configuration))
    yield pickle.dumps(specs.alerts_settings(configuration))
    yield pickle.dumps(configuration)
