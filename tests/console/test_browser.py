"""The flows of an operator in a real browser: Debian's chromium, driven by playwright, against actors that live.

Pictures of what is seen are kept in the folder that ``CONSOLE_PICTURES`` names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.reconciliation.own_reports import PositionReport
from tests.console.living import LivingHouse
from tests.unit.builders import dec

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser can be driven")
CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt-get install chromium"),
]
WITHIN_MS = 20_000
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "has_touch": True}


class Window:
    """One person's browser, which complains of nothing."""

    def __init__(self, browser: Any, house: LivingHouse, name: str, **kind: Any) -> None:
        self.context = browser.new_context(base_url=house.address, **kind)
        self.context.set_default_timeout(WITHIN_MS)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto("/")
        self.page.get_by_label("your token").fill(house.tokens[name])
        self.page.get_by_role("button", name="Sign in").press("Enter")
        self.page.wait_for_url("/")

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def keep(self, name: str) -> None:
        """A picture, for whoever looks after the run."""
        folder = os.environ.get("CONSOLE_PICTURES")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)

    def sees(self, text: str | re.Pattern[str], where: str = "main") -> None:
        """Wait, without reloading, until it stands there."""
        playwright.expect(self.page.locator(where)).to_contain_text(text, timeout=WITHIN_MS)

    def close(self, house: LivingHouse) -> None:
        """Look back: no complaint, and nobody else was asked for anything."""
        self.context.close()
        assert self.complaints == []
        assert [one for one in self.requests if not one.startswith(house.address)] == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHouse]:
    made = LivingHouse(tmp_path_factory.mktemp("house"))
    yield made
    made.close()


def test_a_naked_position_from_its_first_sight_to_the_all_clear_by_two_people(browser: Any, house: LivingHouse) -> None:
    ann = Window(browser, house, "ann")
    ann.sees("Nothing needs a person")
    house.report("EUR_USD", PositionReport("EUR_USD", "net", dec(100), dec("1.1")))  # and the broker has nothing of it
    ann.sees("NAKED_POSITION net: book 100, broker nothing, open")
    assert ann.page.title().startswith("(1▲)")
    ann.keep("fleet")

    # By keyboard alone: to the row, into the instrument, into the break.
    ann.page.keyboard.press("j")
    ann.page.keyboard.press("Enter")
    ann.sees("▲ DIFFER", "#sides")
    ann.sees("nothing", "#sides")
    ann.keep("instrument")
    ann.page.locator("#open a").focus()
    ann.page.keyboard.press("Enter")
    ann.sees("NAKED_POSITION", "h1")
    ann.page.locator("#evidence summary").first.click()
    ann.sees("hash before it", "#evidence")
    here = ann.page.url

    # Two people at once, one of them on a phone in the dark.
    bob = Window(browser, house, "bob", **PHONE)
    bob.page.goto(here)
    bob.sees("OPEN", "#break")
    bob.page.locator("#act-approve select").select_option("MANUAL_TRADE")
    ann.page.locator("#act-propose select").select_option("MANUAL_TRADE")
    ann.page.locator("#act-propose input[name=note]").fill("closed by hand at the broker")
    ann.page.locator("#act-propose input[type=checkbox]").check()
    ann.page.get_by_role("button", name=re.compile("^Propose")).click()
    ann.sees("Another person has to approve it")
    bob.sees("PROPOSED", "#break")
    bob.sees("closed by hand at the broker", "#break")
    # What bob had chosen already is still chosen; that he looked at both sides he says now.
    assert bob.page.locator("#act-approve select").input_value() == "MANUAL_TRADE"
    bob.keep("break-on-a-phone")
    bob.page.locator("#act-approve input[type=checkbox]").check()
    bob.page.get_by_role("button", name=re.compile("^Approve")).click()
    for window in (ann, bob):
        window.sees("All clear.", "#break")
        window.sees("approved by bob@", "#break")
    ann.keep("all-clear")

    ann.page.go_back()
    ann.sees(re.compile("All clear|everything"))
    ann.page.goto("/")
    ann.sees("Nothing needs a person")
    ann.close(house)
    bob.close(house)


def test_what_was_refused_leaves_nothing_behind_that_the_back_button_could_send_again(
    browser: Any, house: LivingHouse
) -> None:
    ann = Window(browser, house, "ann", viewport={"width": 320, "height": 640})
    ann.page.goto("/account/fx")
    ann.page.locator("summary", has_text="Halt").click()
    ann.page.get_by_label("I mean it").check()
    ann.page.evaluate("document.querySelector('form input[name=account]').value = 'nowhere'")
    ann.page.get_by_role("button", name="Halt trading").click()
    ann.sees("nothing was done")
    ann.page.goto("/verify")
    ann.page.get_by_role("button", name="Verify now").click()
    ann.sees("chain intact", "#verification")
    wide, window = ann.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window, "a hash is broken, not the page"
    ann.page.goto("/breaks?severity=CRITICAL")
    ann.sees("0 open")
    assert ann.page.get_by_label("severity").input_value() == "CRITICAL"
    for _ in range(3):
        ann.page.go_back()  # it raises where the browser would have to send the form again
    ann.page.wait_for_url("/")
    ann.complaints = [one for one in ann.complaints if "404" not in one]
    ann.close(house)


def test_a_lost_connection_is_shown_with_the_age_of_what_is_shown_and_caught_up_on(
    browser: Any, house: LivingHouse
) -> None:
    vic = Window(browser, house, "vic")
    vic.sees(re.compile("updated [0-9]s ago"), "#link")
    vic.context.set_offline(True)
    vic.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the stream is opened anew
    vic.sees("The connection is lost. What is shown was updated", "#link")
    vic.keep("lost")
    house.broker(lambda fx: fx.hold(7, instrument="GBP_JPY", leg="net"))
    vic.context.set_offline(False)
    vic.sees("MISSING_LOCALLY net: book nothing, broker 7")
    vic.sees(re.compile("^updated"), "#link")
    # A supervisor that is silent is another matter than a connection.
    house.desk.away = "it is being restarted"
    vic.sees("The supervisor does not answer: it is being restarted")
    vic.sees("MISSING_LOCALLY net")
    house.desk.away = None
    playwright.expect(vic.page.locator("main")).not_to_contain_text("does not answer", timeout=WITHIN_MS)
    assert vic.page.locator("button", has_text="Halt").count() == 0
    vic.complaints = [one for one in vic.complaints if "ERR_INTERNET_DISCONNECTED" not in one]
    vic.close(house)


def test_the_past_its_proof_and_a_halt(browser: Any, house: LivingHouse) -> None:
    bob = Window(browser, house, "bob", reduced_motion="reduce", forced_colors="active")
    bob.page.goto("/verify")
    bob.page.get_by_role("button", name="Verify now").click()
    bob.sees("chain intact", "#verification")
    bob.keep("verified")
    bob.page.goto("/at?account=fx&instrument=EUR_USD&at=now")
    bob.sees("nothing was held")
    bob.page.goto("/account/fx")
    bob.page.locator("summary", has_text="Halt").click()
    bob.page.get_by_label("why").fill("fat finger")
    bob.page.get_by_label("I mean it").check()
    bob.page.get_by_role("button", name="Halt trading").click()
    bob.sees("Trading is halted: account fx", "#top")
    bob.keep("halted")
    bob.page.keyboard.press("/")
    bob.page.keyboard.type("no-such-order")
    bob.page.keyboard.press("Enter")
    bob.sees("No record of this journal names no-such-order")
    bob.page.get_by_role("button", name="Sign out").click()
    bob.page.wait_for_url("/sign-in")
    bob.page.go_back()
    bob.page.wait_for_url(re.compile("/sign-in"))
    bob.close(house)
