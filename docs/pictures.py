"""Makes the pictures of README and docs from a house that really runs: the demonstration configuration, on Ray.

    .venv/bin/python docs/pictures.py [FOLDER]        # needs .[test] and Debian's chromium; default docs/assets

``live-table.svg`` is what ``start`` draws in a terminal, ``dashboard.png`` Ray's dashboard, signed in, and
``dashboard-log.png`` an account's log in it. The house lives in a folder of its own and ends with this program.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from actors.journal.store import Journal
from supervisor.cli.dashboard import TOKEN_FILE
from supervisor.cli.screen import Screen, View
from supervisor.config.loader import load
from supervisor.presentation.event_text import Happening, Summaries

ROOT = Path(__file__).parent.parent
WATCHED_S = 40.0
"""How long the simulated brokers trade before the pictures are made."""
WIDTH, HEIGHT = 1750, 1050  # shown at 0.8
COLUMNS, LINES = 148, 23
_FETCHED_FONTS = re.compile(r"\s*@font-face \{\{.*?\}\}\n", re.DOTALL)


@contextlib.contextmanager
def house(folder: Path) -> Iterator[Path]:
    """The demonstration house in a folder, running; gives its configuration."""
    config = folder / "config" / "accounts.yaml"
    config.parent.mkdir()
    shutil.copy(ROOT / "config" / "accounts.yaml", config)
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "supervisor", "start", str(config)]
        running = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield config
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(60)


def status(config: Path) -> dict[str, Any]:
    """What the house says of itself; empty while it does not."""
    command = [sys.executable, "-m", "supervisor", "status", "--json", "-c", str(config)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.stdout else {}


def verified(document: dict[str, Any]) -> bool:
    """Whether every instrument has been in step."""
    rows = [row for account in document.get("accounts", ()) for row in account["instruments"]]
    return bool(rows) and all(row["health"]["verified_at"] for row in rows)


def happened(config: Path) -> list[Happening]:
    """What the journal records, a line each."""
    summaries = Summaries()
    journal = Journal.open(load(config).journal_url, read_only=True)
    try:
        happenings = [summaries.of(record) for record in journal.records()]
    finally:
        journal.close()
    return [one for one in happenings if one is not None]


def live_table(document: dict[str, Any], happenings: list[Happening], run: dict[str, Any]) -> str:
    """The live table as an SVG that fetches nothing."""
    console = Console(record=True, width=COLUMNS, height=LINES, file=io.StringIO())
    view = View("", document, tuple(happenings), len(happenings), dashboard=run["dashboard"])
    console.print(Screen(view), height=LINES)
    plain = _FETCHED_FONTS.sub("", CONSOLE_SVG_FORMAT).replace("Fira Code, monospace", "ui-monospace, monospace")
    return console.export_svg(title="python -m supervisor start", code_format=plain, unique_id="live-table")


def dashboard(run: dict[str, Any], to: Path) -> None:
    """Ray's page of the actors, signed in, and the log of one of them."""
    token = Path(TOKEN_FILE).expanduser().read_text(encoding="utf-8").strip()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=0.8)
        name = "ray-authentication-token"
        context.add_cookies([{"name": name, "value": token, "url": run["dashboard"]}])
        page = context.new_page()
        page.goto(f"{run['dashboard']}/#/actors")
        page.get_by_text("Instrument", exact=True).first.wait_for(timeout=60_000)
        page.wait_for_timeout(3000)  # its tables fill one after the other
        page.screenshot(path=to / "dashboard.png")
        page.get_by_label("Name").fill("fx")
        page.get_by_role("row").filter(has=page.get_by_text("Account", exact=True)).get_by_text("Log").click()
        page.get_by_text(re.compile("fetches")).first.wait_for(timeout=60_000)
        page.wait_for_timeout(3000)
        page.screenshot(path=to / "dashboard-log.png")
        browser.close()


def main(to: Path) -> None:
    """Make them."""
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder, house(Path(folder)) as config:
        while not verified(status(config)):
            time.sleep(1)
        time.sleep(WATCHED_S)
        run = json.loads((Path(folder) / "var" / "journal.db.run.json").read_text())
        (to / "live-table.svg").write_text(live_table(status(config), happened(config), run), encoding="utf-8")
        dashboard(run, to)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "assets")
