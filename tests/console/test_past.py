"""What the journal shows on the page: the records behind a break, a book as it was, ids, and whether it is whole."""

from __future__ import annotations

import re
import sqlite3
import time
from typing import Any

from actors.book.policy import Correct, Policy
from actors.events import EventType
from tests.console.house import House, document, instrument
from tests.console.living import PATIENCE_S
from tests.unit.builders import Desk, at, order_report, pos, position_report, slice_at

ALERT = Policy(correct=Correct.ALERT)


def written(house: House) -> Desk:
    """A journal in which 100 were held, and the broker came to show 150."""
    desk = Desk(ALERT)
    desk.report(position_report(100), at_s=0)
    desk.look(slice_at(10, [pos(100)]))
    for second in (20, 30):
        desk.look(slice_at(second, [pos(150)]))
    house.write(desk.book.stream, desk.events)
    house.desk.status = document(instrument(desk.book.instrument, health={"version": desk.book.version}))
    house.desk.status["accounts"][0]["account"] = desk.book.account
    return desk


def place(desk: Desk) -> str:
    return f"/instrument/{desk.book.account}/{desk.book.instrument}"


def test_an_instrument_s_page_has_its_lots_its_records_and_a_drawing_of_both_sides(
    house: House,
) -> None:
    desk = written(house)
    with house.browser("vic") as browser:
        text = browser.text(place(desk))
    assert "Lots of leg net" in text
    assert "POSITION_MISMATCH net: 100 → 150, open" in text
    assert re.search(r'<path class="believed" d="M[\d.]+,[\d.]+H', text)
    assert re.search(r"broker reported 150 at 2024-01-02 \d\d:\d\d:\d\dZ, record \d", text)


def test_without_a_supervisor_the_breaks_are_those_of_the_journal(house: House) -> None:
    desk = written(house)
    (found,) = desk.book.breaks.values()
    house.desk.away = "no supervisor is running"
    with house.browser("vic") as browser:
        text = browser.text("/breaks")
        assert f'href="/break/{found.id}"' in text
        assert "by it 1 break is open" in text
        assert "no supervisor is running" in text
        assert "POSITION_MISMATCH net" in browser.text(f"/break/{found.id}")
        house.later(3600)
        assert browser.get("/breaks").status_code == 200


def test_the_records_behind_a_break_open_to_all_they_hold(house: House) -> None:
    desk = written(house)
    (found,) = desk.book.breaks.values()
    with house.browser("vic") as browser:
        text = browser.text(f"/break/{found.id}")
        assert "is not open any more" in text  # by the journal it is, and by the supervisor it is not
        seq = re.search(r'data-record="(\d+)"', text)
        assert seq is not None
        part = browser.text(f"/record/{seq[1]}?part=1")
        assert "hash before it" in part
        assert found.id in part
        assert "<html" not in part
        assert "<html" in browser.text(f"/record/{seq[1]}")


def test_a_break_that_is_over_says_how_it_ended_and_who_approved_it(house: House) -> None:
    desk = written(house)
    (found,) = desk.book.breaks.values()
    desk.look(slice_at(40, [pos(100)]))
    assert desk.events[-1].type is EventType.DISCREPANCY_RESOLVED or desk.book.breaks == {}
    with house.browser("vic") as browser:
        from actors.journal.store import Journal
        from actors.journal.types import Append

        journal = Journal.open(house.configuration.journal_url)
        tail = journal.load(desk.book.stream).version
        journal.append([Append(desk.book.stream, tail, tuple(desk.events[tail:]))])
        journal.close()
        text = browser.text(f"/break/{found.id}")
    assert "All clear." in text
    assert "by itself" in text


def test_the_book_at_a_past_time_and_what_changed_since(house: House) -> None:
    desk = written(house)
    query = f"/at?account={desk.book.account}&instrument={desk.book.instrument}&at="
    with house.browser("vic") as browser:
        text = browser.text(query + at(15).isoformat().replace("+", "%2B"))
        assert re.search(r"net</th><td[^>]*>100</td>", text)
        assert "break POSITION_MISMATCH net" in text
        assert "RECONCILIATION_DISCREPANCY" in text
        before = browser.text(query + at(-100).isoformat().replace("+", "%2B"))
        assert "which does not mean that nothing was held" in before
        for bad, status, said in (
            ("2999-01-01", 404, "in the future"),
            ("x" * 40, 400, "is not a time"),
            ("", 400, "is not a time"),
        ):
            answer = browser.get(query + bad)
            assert (answer.status_code, said in answer.text) == (status, True)
        unknown = browser.get(f"/at?account={desk.book.account}&instrument=none&at=1h")
        assert (unknown.status_code, "There are:" in unknown.text) == (404, True)


def test_an_order_and_a_fill_are_found_by_their_ids(house: House) -> None:
    desk = Desk(ALERT)
    desk.report(order_report("c1"), at_s=0)
    house.write(desk.book.stream, desk.events)
    with house.browser("vic") as browser:
        assert "1 record names it" in browser.text("/search?q=c1")
        assert "No record of this journal names nothing" in browser.text("/search?q=nothing")
        assert "<h1>Search" in browser.text("/search?q=")


def progress(browser: Any) -> str:
    deadline_s = time.monotonic() + PATIENCE_S
    while "hx-get" in (text := str(browser.text("/verify?part=1"))):
        assert time.monotonic() < deadline_s, "it did not end"
        time.sleep(0.01)  # it runs in a thread of its own, and is asked about as a browser does
    return text


def test_the_chain_is_verified_and_a_change_is_found(house: House) -> None:
    desk = written(house)
    with house.browser("vic") as browser:
        assert "Nobody has verified it" in browser.text("/verify")
        assert browser.send("/verify").status_code == 303
        assert f"{len(desk.events)} records, chain intact" in progress(browser)
        with sqlite3.connect(house.configuration.journal_url.removeprefix("sqlite:///")) as connection:
            table = connection.execute("select name from sqlite_master where name like '%record%'").fetchone()[0]
            connection.execute(f"drop trigger if exists {table}_no_update")
            for (trigger,) in connection.execute("select name from sqlite_master where type='trigger'").fetchall():
                connection.execute(f"drop trigger {trigger}")
            connection.execute(f"update {table} set payload = replace(payload, '150', '151')")  # noqa: S608 - as above
        browser.send("/verify")
        found = progress(browser)
        assert "NOT PROVEN" in found
        assert "NOT intact" in found


def test_a_journal_that_is_away_is_named_and_never_shown_as_empty(house: House, tmp_path: Any) -> None:
    desk = written(house)
    (tmp_path / "journal.db").unlink()
    with house.browser("vic") as browser:
        assert "The journal was not read" in browser.text(place(desk))
        for path in ("/search?q=1", "/record/1", f"/at?account={desk.book.account}&instrument=x&at=1h"):
            answer = browser.get(path)
            assert (answer.status_code, "was not read" in answer.text) == (503, True), path
