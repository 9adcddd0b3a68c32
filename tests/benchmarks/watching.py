"""What exporter, page and alerts cost: the processor time of one fleet with and without them, in turns, in one run.

    .venv/bin/python -m tests.benchmarks.watching [INSTRUMENTS] [INTERVAL_S] [TURNS] [WINDOW_S]

A house of simulated instruments (50, each in a process of its own, looked at every 2 s), started from the command line.
With: the exporter in its own process, scraped every 5 s as Prometheus does; an actor of alerts with a route to a web
server; the page in its own process, with ten windows open on the fleet that follow it live. Without: none of them. The
processor time is that of every process of the house, the exporter and the page; the target is 3 % more. Prints
the private memory of each kind of actor at the first and the last window, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from brokers.simulators.oanda import OandaSimulator
from tests.benchmarks.form import Figure, show
from tests.unit.receivers import web_receiver

ACCOUNT_ID, TOKEN = "101-001-0000001-001", "benchmark-token"
SCRAPE_EVERY_S = 5.0
WINDOWS = 10
SETTLE_S = 10.0
UP_WITHIN_S = 300.0


def _supervisor(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "supervisor", *map(str, arguments)]


def _configuration(directory: Path, url: str, names: list[str], interval_s: float, desk: str | None) -> Path:
    path = directory / "accounts.yaml"
    routes = "" if desk is None else f"{{name: desk, url: '{desk}'}}"
    path.write_text(
        f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\n"
        f"defaults: {{interval_s: {interval_s}}}\n"
        f"alerts: {{routes: [{routes}]}}\n"
        f"accounts: [{{name: fx, broker: oanda, account_id: {ACCOUNT_ID}, token: {TOKEN}, rest_url: '{url}', "
        f"instruments: [{', '.join(names)}]}}]\n"
    )
    return path


def _status(path: Path) -> dict[str, Any]:
    done = subprocess.run(_supervisor("status", "--json", "-c", path), capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    return found


def _await_all_up(path: Path) -> None:
    until_s = time.monotonic() + UP_WITHIN_S
    while time.monotonic() < until_s:
        status = _status(path)
        rows = [row for account in status.get("accounts", ()) for row in account["instruments"]]
        if rows and all(row["status"] == "SUCCESS" for row in rows):
            return
        time.sleep(1)
    raise SystemExit("the fleet did not come up")


def _house(pid: int) -> list[psutil.Process]:
    sessions = {os.getsid(one.pid) for one in psutil.Process(pid).children(recursive=True)}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) in sessions:
                found.append(process)
    return [*found, psutil.Process(pid)]


def _cpu_s(processes: list[psutil.Process]) -> dict[int, float]:
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def _window(pid: int, beside: list[psutil.Process], url: str, window_s: float) -> float:
    """Processor seconds a second, of the house and of what runs beside it; ``url`` is scraped where there is one."""
    before, began_s = _cpu_s([*_house(pid), *beside]), time.monotonic()
    while (left_s := began_s + window_s - time.monotonic()) > 0:
        if url:
            urllib.request.urlopen(url, timeout=10).read()  # noqa: S310 - it is on loopback
        time.sleep(min(SCRAPE_EVERY_S, max(0.0, left_s)))
    after, took_s = _cpu_s([*_house(pid), *beside]), time.monotonic() - began_s
    return sum(now - before.get(one, 0.0) for one, now in after.items()) / took_s


def _memory(path: Path) -> dict[str, list[float]]:
    """Private megabytes of each kind of actor."""
    status = _status(path)
    found: dict[str, list[float]] = defaultdict(list)
    rows = [(row["kind"], row["pid"]) for row in status["supervisor"]["actors"]]
    for kind, pid in [*rows, ("supervisor", status["supervisor"]["pid"])]:
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                found[kind].append(psutil.Process(pid).memory_full_info().uss / 1e6)
    return found


@contextmanager
def _open_windows(address: str, token: str) -> Iterator[None]:
    """Windows that are signed in and follow the fleet, each of which must have been sent something."""
    origin = address.rstrip("/")
    form = urlencode({"token": token, "next": "/"}).encode()
    sign_in = urllib.request.Request(f"{origin}/sign-in", data=form, headers={"origin": origin})  # noqa: S310 - on loopback
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(sign_in, timeout=20).read()
    sent, ends = [0] * WINDOWS, threading.Event()

    def follow(number: int) -> None:
        with contextlib.suppress(OSError), opener.open(f"{origin}/live?page=/", timeout=60) as events:
            while not ends.is_set():
                sent[number] += len(events.readline())

    for number in range(WINDOWS):
        threading.Thread(target=follow, args=(number,), daemon=True).start()
    yield
    ends.set()
    if not all(sent):
        raise SystemExit("not every window was sent something: the figure would be of no page")


@contextmanager
def _watched(path: Path, configure: Any, desk: str) -> Iterator[tuple[list[psutil.Process], str]]:
    configure(desk)
    subprocess.run(_supervisor("apply", path), check=True, capture_output=True)
    added = _supervisor("console", "-c", path, "--add", "vic", "--role", "viewer")
    token = subprocess.run(added, check=True, capture_output=True, text=True).stdout.strip()
    commands = [("metrics", "-c", path, "--port", 0), ("console", "-c", path, "--port", 0)]
    beside = [subprocess.Popen(_supervisor(*one), stdout=subprocess.PIPE, text=True) for one in commands]
    try:
        places = []
        for one in beside:
            assert one.stdout is not None
            places.append(one.stdout.readline().strip())
        with _open_windows(places[1], token):
            yield [psutil.Process(one.pid) for one in beside], places[0]
    finally:
        for one in beside:
            one.send_signal(signal.SIGTERM)
            one.wait(20)
        configure(None)
        subprocess.run(_supervisor("apply", path), check=True, capture_output=True)


def measure(directory: Path, instruments: int, interval_s: float, turns: int, window_s: float) -> Iterator[Figure]:
    names = [f"PAIR_{number:03d}" for number in range(instruments)]
    simulator = OandaSimulator(ACCOUNT_ID, TOKEN, instruments=names)
    url = simulator.start()

    def configure(desk: str | None) -> Path:
        return _configuration(directory, url, names, interval_s, desk)

    path = configure(None)
    said = open(directory / "said", "w")  # noqa: SIM115 - closed with the process
    command = _supervisor("start", path, "--no-dashboard")
    process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
    without, with_them = [], []
    try:
        with web_receiver() as receiver:
            _await_all_up(path)
            time.sleep(SETTLE_S)
            first = _memory(path)
            for _ in range(turns):
                without.append(_window(process.pid, [], "", window_s))
                with _watched(path, configure, receiver.url.replace("http://", "json://")) as (beside, place):
                    time.sleep(SETTLE_S)
                    with_them.append(_window(process.pid, beside, place, window_s))
                time.sleep(SETTLE_S)
            last = _memory(path)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(180)
        simulator.close()
        said.close()
    without_s, with_s = statistics.median(without), statistics.median(with_them)
    name = f"{instruments} instruments at {interval_s:g} s with exporter, page and alerts"
    yield Figure(name, with_s, "cores", without_s, "without", "1.03 x")
    for kind, sizes in last.items():
        was = statistics.median(first[kind]) if first.get(kind) else None
        yield Figure(
            f"private memory of its {kind}, at the end", statistics.median(sizes), "MB", was, "at the beginning"
        )


def figures(
    *, quick: bool = False, instruments: int = 50, interval_s: float = 2.0, turns: int = 3, window_s: float = 30.0
) -> Iterator[Figure]:
    """With and without, in turns."""
    if quick:
        instruments, turns, window_s = 3, 1, 5.0
    with tempfile.TemporaryDirectory() as directory:
        yield from measure(Path(directory), instruments, interval_s, turns, window_s)


def main() -> None:
    """Measure and print."""
    given = [float(one) for one in sys.argv[1:]]
    instruments, interval_s, turns, window_s = [*given, *(50.0, 2.0, 3.0, 30.0)[len(given) :]]
    show(figures(instruments=int(instruments), interval_s=interval_s, turns=int(turns), window_s=window_s))


if __name__ == "__main__":
    main()
