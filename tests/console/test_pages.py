"""What the pages show: what needs a person first, both sides, and never more than is known."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from supervisor.console.stream import BUDGET
from supervisor.console.users import Role
from tests.console.house import BREAK, House, a_break, document, instrument, naked


def rows(text: str) -> list[str]:
    """The instruments of a fleet, as they stand."""
    return re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>', text)


def test_the_fleet_is_sorted_by_what_needs_a_person_and_says_so_in_words(house: House) -> None:
    house.desk.status = document(
        instrument("AUD_USD"),
        instrument("CHF_JPY", status="FAILED", error="the broker did not answer"),
        instrument("EUR_GBP", status="PARTIAL"),
        naked("EUR_USD"),
        instrument("NZD_USD", health={"state": "QUARANTINED"}),
    )
    house.desk.breaks = [a_break(), a_break("EUR_GBP", id="f" * 32, state="ACKNOWLEDGED", severity="WARNING")]
    with house.browser("vic") as browser:
        text = browser.text("/")
    assert rows(text) == ["fx/NZD_USD", "fx/EUR_USD", "fx/CHF_JPY", "fx/EUR_GBP", "fx/AUD_USD"]
    assert "2 need a person" in text
    assert "NAKED_POSITION long: book 100, broker nothing, open" in text
    assert "<title>(2▲) Fleet" in text


def test_an_account_s_own_trouble_is_a_row_and_its_page_has_its_instruments_alone(house: House) -> None:
    house.desk.status = document(instrument("EUR_USD"), error="401 from the broker", connection="LOST")
    other = document(instrument("USD_CHF"), account="cfd")
    house.desk.status["accounts"] += other["accounts"]
    with house.browser("vic") as browser:
        assert rows(browser.text("/")) == ["fx", "cfd/USD_CHF", "fx/EUR_USD"]
        text = browser.text("/account/fx")
        assert rows(text) == ["fx", "fx/EUR_USD"]
        assert "lost: 401 from the broker" in text


def test_an_instrument_s_page_has_both_sides_beside_each_other(house: House) -> None:
    house.desk.status = document(naked())
    house.desk.breaks = [a_break()]
    with house.browser("vic") as browser:
        text = browser.text("/instrument/fx/EUR_USD")
    assert re.search(r"long</th><td[^>]*>100 @ 1.1</td><td[^>]*>nothing</td><td[^>]*>▲ DIFFER", text)
    assert f'href="/break/{BREAK}"' in text
    assert "opened <time" in text
    assert ">1m 1s ago<" in text


UNKNOWN = {"positions": "FAILED", "orders": "FAILED", "fills": "FAILED"}


@pytest.mark.parametrize(
    ("row", "book", "broker"),
    [
        (instrument("EUR_USD"), "flat", "the same"),
        (instrument("EUR_USD", status="FAILED", broker=UNKNOWN), "flat", "not known"),
        (instrument("EUR_USD", status="DEGRADED", error="not verified for 90 s"), "flat", "not known"),
        (instrument("EUR_USD", health={"verified_at": None, "verified_age_s": None}), "not known", "not known"),
    ],
    ids=["in step", "the broker failed", "too old", "never verified"],
)
def test_what_is_not_known_is_never_shown_as_flat_or_as_the_same(
    house: House, row: dict[str, Any], book: str, broker: str
) -> None:
    house.desk.status = document(row)
    with house.browser("vic") as browser:
        text = browser.text("/instrument/fx/EUR_USD")
    assert re.search(f"everything</th><td[^>]*>{book}</td><td[^>]*>{broker}</td>", text)


def test_a_supervisor_that_is_away_leaves_what_was_heard_with_its_age_and_the_reason(house: House) -> None:
    with house.browser("vic") as browser:
        assert rows(browser.text("/")) == ["fx/EUR_USD", "fx/GBP_JPY"]
        house.desk.away = "the run file names process 17, which has ended"
        house.later(75)
        text = browser.text("/")
        assert rows(text) == ["fx/EUR_USD", "fx/GBP_JPY"]
        assert "process 17, which has ended" in text
        assert ">1m 17s ago</time>" in text  # it was verified two seconds before it was heard
        assert json.loads(browser.text("/live?page=/&once=1"))["heard"] == 75.0


def test_a_supervisor_that_was_never_heard_shows_no_fleet_and_no_calm(house: House) -> None:
    house.desk.away = "no supervisor is running"
    with house.browser("vic") as browser:
        text = browser.text("/")
    assert "no supervisor is running" in text
    assert "The supervisor has not answered yet" in text
    assert "Nothing needs a person" not in text


def test_a_supervisor_that_is_slow_is_not_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.console.feed.PATIENCE_S", 60.0)
    with house.browser("vic") as browser:
        assert rows(browser.text("/")) == ["fx/EUR_USD", "fx/GBP_JPY"]
        monkeypatch.setattr("supervisor.console.feed.PATIENCE_S", 0.01)
        house.desk.hangs = True
        before = house.desk.looks
        house.later(30)
        for _ in range(3):
            text = browser.text("/")
            assert rows(text) == ["fx/EUR_USD", "fx/GBP_JPY"]
            assert ">32s ago</time>" in text
        assert house.desk.looks <= before + 1  # one question is under way, and no more


def test_a_fleet_that_is_too_long_for_a_page_shows_what_needs_a_person_and_says_how_much_it_leaves_out(
    house: House,
) -> None:
    house.desk.status = document(*(instrument(f"SYM{number:03}") for number in range(600)), naked("ZZZ"))
    house.desk.breaks = [a_break("ZZZ")]
    with house.browser("vic") as browser:
        text = browser.text("/")
    assert rows(text)[0] == "fx/ZZZ"
    assert len(rows(text)) == 500
    assert "101 more that need a person less" in text
    assert "600 in step" in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/account/none", 404), ("/instrument/fx/none", 404), ("/instrument/none/EUR_USD", 404),
        ("/instrument/fx", 404), ("/instrument/fx/", 404), ("/breaks/", 404),
        ("/break/zz", 404), ("/break/" + "f" * 32, 404), ("/break/" + "F" * 32, 404), ("/record/0", 404),
        ("/record/-1", 404), ("/record/9999999999999999999", 404), ("/nowhere", 404), ("/static/none.js", 404),
        ("/static/../users.py", 404), ("/at?account=fx&instrument=x&at=never", 400), ("/live?page=/none", 404),
        ("/live?page=/break/zz", 404),
        ("/live?page=", 200), ("/live?page=//&once=1", 200), ("/halt", 405), ("/sign-out", 405),
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_plain_page_with_the_right_status(house: House, path: str, status: int) -> None:
    if path == "/live?page=":
        path = "/live?page=&once=1"
    with house.browser("vic") as browser:
        answer = browser.get(path)
        assert answer.status_code == status, answer.text
        assert "Traceback" not in answer.text
    for method in ("PUT", "DELETE", "TRACE"):
        with house.browser("vic") as browser:
            assert browser.request(method, "/").status_code == 405


def test_whatever_goes_wrong_inside_is_a_plain_page_and_says_nothing_of_it(house: House) -> None:
    house.desk.status = {"accounts": [{"surprise": "SECRET"}]}
    with house.browser("vic") as browser:
        answer = browser.get("/")
        assert answer.status_code in (200, 500)
        assert "SECRET" not in answer.text
        assert "Traceback" not in answer.text


def test_text_from_outside_is_never_markup(house: House) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=y>\"'"
    house.desk.status = document(
        instrument(
            evil, error=evil, status="FAILED", health={"halted": [{"scope": evil, "reason": evil, "since": "x"}]}
        )
    )
    house.desk.breaks = [a_break(evil, key=evil, note=evil, told=evil, owner=evil, book_value=evil, broker_value=evil)]
    with house.browser("bob") as browser:
        paths = ["/", "/breaks", f"/break/{BREAK}", "/account/fx", f"/search?q={evil}", f"/at?account={evil}&at={evil}"]
        paths += ["/instrument/fx/%3Cscript%3Ealert(1)%3C%2Fscript%3E%3Cimg%20src=x%20onerror=y%3E%22'"]
        for path in paths:
            text = browser.get(path).text
            assert "<script>alert" not in text, path
            assert "<img" not in text, path
            assert "alert(1)" in text or path == "/account/fx", path


# What is sent while a page is open


def message(browser: Any, page: str, seen: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(browser.text(f"/live?page={page}&once=1&seen={seen}"))
    return found


def test_an_open_page_is_sent_what_changed_and_nothing_else(house: House) -> None:
    with house.browser("vic") as browser:
        seen = re.search(r'data-seen="([^"]+)"', browser.text("/"))
        assert seen is not None
        quiet = message(browser, "/", seen[1])
        assert ("parts" in quiet, "lists" in quiet, quiet["seen"]) == (False, False, seen[1])
        house.desk.status = document(instrument("EUR_USD"), naked("GBP_JPY"))
        house.desk.breaks = [a_break("GBP_JPY")]
        house.later(2)
        news = message(browser, "/", seen[1])
        assert len(news["parts"]) == 2  # the row, and the sum above
        assert [news["lists"]["rows"][0]] == [name for name in news["parts"] if name != "top"]
        assert news["waiting"] == 1
        again = message(browser, "/", news["seen"])
        assert "parts" not in again


def test_breaks_are_filtered_by_what_they_are_and_the_page_stays_so_while_it_lives(house: House) -> None:
    grave, slight = a_break(), a_break("GBP_JPY", id="f" * 32, severity="WARNING", type="STALE_ORDER", age_s=7300)
    slight |= {"owner": "ann@desk", "state": "ACKNOWLEDGED"}
    house.desk.breaks = [grave, slight]
    with house.browser("vic") as browser:
        every = browser.text("/breaks")
        assert (grave["id"] in every, slight["id"] in every, "2 open" in every) == (True, True, True)
        for asked in (
            "instrument=GBP_JPY", "type=STALE_ORDER", "severity=WARNING", "state=ACKNOWLEDGED", "older=1h",
            "owner=ann%40desk", "account=fx&older=15m",
        ):  # fmt: skip
            text = browser.text(f"/breaks?{asked}&said=")
            assert (f'id="{grave["id"]}"' in text, f'id="{slight["id"]}"' in text) == (False, True), asked
            assert "1 of 2 open" in text
            assert "selected" in text
        live = re.search(r'data-live="([^"]*)"', browser.text("/breaks?owner=nobody&state="))
        assert live is not None
        assert live[1] == "/breaks?owner=nobody"
        first = message(browser, "/breaks?owner=nobody")
        assert first["lists"]["rows"] == [grave["id"]]
        house.desk.breaks = [slight | {"owner": None}, grave]
        house.later(5)
        assert message(browser, "/breaks?owner=nobody", first["seen"])["lists"]["rows"] == [slight["id"], grave["id"]]


def test_a_filter_that_means_nothing_is_refused_in_words_and_hides_no_break(house: House) -> None:
    house.desk.breaks = [a_break()]
    with house.browser("vic") as browser:
        for asked in ("type=NAKED", "severity=x", "state=RESOLVED", "older=long"):
            answer = browser.get(f"/breaks?{asked}")
            assert (answer.status_code, "All are shown" in answer.text, BREAK in answer.text) == (400, True, True)
            assert browser.get(f"/live?page=/breaks%3F{asked.replace('=', '%3D')}&once=1").status_code == 404


def test_time_alone_sends_no_part(house: House) -> None:
    house.desk.status = document(naked())
    house.desk.breaks = [a_break()]
    with house.browser("vic") as browser:
        for page in ("/", "/breaks", f"/break/{BREAK}", "/instrument/fx/EUR_USD"):
            first = message(browser, page)
            house.desk.status["accounts"][0]["instruments"][0]["health"]["verified_age_s"] += 5.0
            house.desk.breaks[0]["age_s"] += 5
            house.later(5)
            assert "parts" not in message(browser, page, first["seen"]), page


def test_who_comes_back_from_a_lost_connection_gets_what_differs_and_from_another_life_all_of_it(house: House) -> None:
    with house.browser("vic") as browser:
        first = message(browser, "/")
        assert len(first["parts"]) == 4
        house.desk.status = document(instrument("GBP_JPY"))
        house.later(60)
        back = message(browser, "/", first["seen"])
        assert (list(back["parts"]), len(back["lists"]["rows"])) == (["top"], 1)
        of_another_life = message(browser, "/", "beef-17")
        assert (len(of_another_life["parts"]), len(of_another_life["lists"]["rows"])) == (3, 1)
        header = browser.get("/live?page=/&once=1", **{"last-event-id": back["seen"]})
        assert "parts" not in json.loads(header.text)


def test_an_open_page_is_sent_no_more_than_its_share_however_much_changes(house: House) -> None:
    symbols = [f"SYM{number:03}" for number in range(300)]
    house.desk.status = document(*map(instrument, symbols))
    with house.browser("vic") as browser:
        seen = message(browser, "/")["seen"]
    streams = house.console.streams

    async def follow() -> list[int]:
        has = streams.has("/", Role.VIEWER, seen)
        house.desk.status = document(*(instrument(one, status="FAILED", error="away") for one in symbols))
        now = await house.console.feed.refresh()
        sizes = []
        sent: set[str] = set()
        while len(sent) < 301:
            sent_now = await streams.message("/", Role.VIEWER, now, has)
            assert sent_now is not None
            sent |= sent_now["parts"].keys()
            sizes.append(sum(len(html.encode()) for html in sent_now["parts"].values()))
        return sizes

    sizes = asyncio.run(follow())
    assert max(sizes) <= BUDGET
    assert len(sizes) > 1
