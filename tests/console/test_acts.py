"""What people do at the page: who may, what is asked of the supervisor on whose behalf, and what a refusal says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from actors.journal.client import JournalAway
from actors.runtime.ports import CallTimeout
from supervisor.console.desk import Away
from tests.console.house import BREAK, House, a_break, document, in_a_while, naked, refused

TERMS: dict[str, dict[str, str]] = {
    "acknowledge": {"reason": "MANUAL_TRADE", "until": "8h", "note": "mine"},
    "propose": {"reason": "MANUAL_TRADE", "looked": "yes", "book_value": "100"},
    "approve": {"reason": "MANUAL_TRADE", "looked": "yes", "book_value": "100"},
    "waive": {"reason": "LATE_FEED", "until": "1d"},
    "assign": {"owner": "cleo"},
}


@pytest.fixture
def broken(house: House) -> House:
    """A house in which a naked position is open."""
    house.desk.status = document(naked())
    house.desk.breaks = [a_break()]
    return house


@pytest.mark.parametrize("action", TERMS)
@pytest.mark.parametrize("name", ["vic", "ann", "bob"])
def test_each_role_does_what_it_may_and_is_offered_nothing_else(broken: House, name: str, action: str) -> None:
    may = name == "bob" or (name == "ann" and action != "approve")
    with broken.browser(name) as browser:
        offered = f'action="/break/{BREAK}/{action}"' in browser.text(f"/break/{BREAK}")
        answer = browser.send(f"/break/{BREAK}/{action}", **TERMS[action])
    assert offered is may
    assert answer.status_code == (303 if may else 403)
    assert [one[:4] for one in broken.desk.asked] == ([(name, "page", action, BREAK)] if may else [])


def test_an_approval_is_of_what_was_looked_at(broken: House) -> None:
    with broken.browser("bob") as browser:
        text = browser.text(f"/break/{BREAK}")
        form = re.search(rf'<form method="post" action="/break/{BREAK}/approve".*?</form>', text, re.DOTALL)
        assert form is not None
        assert 'name="book_value" value="100"' in form[0]
        assert "broker_value" not in form[0]  # the broker has nothing, which is not the same as an empty text
        assert browser.send(f"/break/{BREAK}/approve", **TERMS["approve"]).status_code == 303
        unseen = {key: value for key, value in TERMS["approve"].items() if key != "looked"}
        answer = browser.send(f"/break/{BREAK}/approve", **unseen)
        assert (answer.status_code, "you looked at both sides" in answer.text) == (400, True)
    ((*_, terms),) = broken.desk.asked
    assert terms["sides"] == ("100", None)


def test_a_time_until_which_is_a_length_from_now_on_or_a_moment(broken: House) -> None:
    with broken.browser("ann") as browser:
        browser.send(f"/break/{BREAK}/acknowledge", **TERMS["acknowledge"])
        answer = browser.send(f"/break/{BREAK}/acknowledge", **TERMS["acknowledge"] | {"until": "soon"})
    assert answer.status_code == 400
    assert "is not a time" in answer.text
    ((*_, terms),) = broken.desk.asked
    assert abs((terms["until"] - in_a_while()).total_seconds()) < 60
    assert (terms["reason"], terms["note"], terms["owner"]) == ("MANUAL_TRADE", "mine", None)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (refused("what you looked at (book 100, broker nothing) is now book 80"), 409, "is now book 80"),
        (Away("it is being restarted"), 503, "Whether it was done is not known: it is being restarted"),
        (CallTimeout("supervisor", "work_on_break", "no answer within 40 s"), 503, "no answer within 40 s"),
        (JournalAway("disk full"), 503, "disk full"),
    ],
)
def test_a_refusal_says_why_beside_the_break_as_it_now_is(
    broken: House, error: Exception, status: int, said: str
) -> None:
    broken.desk.fails = error
    with broken.browser("bob") as browser:
        answer = browser.send(f"/break/{BREAK}/approve", **TERMS["approve"])
    assert answer.status_code == status
    assert said in answer.text
    assert "NAKED_POSITION long" in answer.text
    assert f'action="/break/{BREAK}/approve"' in answer.text


def test_what_was_done_is_said_once_it_is_seen(broken: House) -> None:
    with broken.browser("ann") as browser:
        looks = broken.desk.looks
        answer = browser.send(f"/break/{BREAK}/propose", **TERMS["propose"])
        assert answer.headers["location"] == f"/break/{BREAK}?said=proposed"
        assert broken.desk.looks > looks
        assert "Another person has to approve it" in browser.text(answer.headers["location"])
        assert "alert(1)" not in browser.text(f"/break/{BREAK}?said=<script>alert(1)</script>")


@pytest.mark.parametrize(
    ("fields", "asked", "place"),
    [
        ({"do": "halt", "reason": "fat finger"}, ("halt", None, None, "fat finger"), "/?said=halted"),
        ({"do": "halt", "account": "fx"}, ("halt", "fx", None, None), "/account/fx?said=halted"),
        (
            {"do": "resume", "account": "fx", "instrument": "EUR_USD"},
            ("resume", "fx", "EUR_USD"),
            "/instrument/fx/EUR_USD?said=resumed",
        ),
    ],
)
def test_trading_is_halted_and_resumed(
    broken: House, fields: dict[str, str], asked: tuple[Any, ...], place: str
) -> None:
    with broken.browser("ann") as browser:
        answer = browser.send("/halt", looked="yes", **fields)
        assert (answer.status_code, answer.headers["location"]) == (303, place)
        browser.text(place)
    assert broken.desk.asked == [("ann", "page", *asked)]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"do": "halt"}, 400),
        ({"do": "burn", "looked": "yes"}, 400),
        ({"looked": "yes"}, 400),
        ({"do": "halt", "looked": "yes", "account": "none"}, 404),
        ({"do": "halt", "looked": "yes", "account": "fx", "instrument": "none"}, 404),
        ({"do": "halt", "looked": "yes", "instrument": "EUR_USD"}, 404),
    ],
)
def test_a_halt_that_is_not_meant_or_of_nobody_does_nothing(broken: House, fields: dict[str, str], status: int) -> None:
    with broken.browser("ann") as browser:
        assert browser.send("/halt", **fields).status_code == status
    assert broken.desk.asked == []


@pytest.mark.parametrize(
    ("path", "status"),
    [("/break/zz/acknowledge", 404), (f"/break/{BREAK}/burn", 404), (f"/break/{BREAK}", 405), ("/nowhere", 404)],
)
def test_what_cannot_be_done_to_anything_is_a_plain_page(broken: House, path: str, status: int) -> None:
    with broken.browser("bob") as browser:
        answer = browser.send(path, **TERMS["acknowledge"])
        assert (answer.status_code, "Traceback" in answer.text) == (status, False)


def test_a_form_that_is_too_large_or_of_another_kind_does_nothing(broken: House) -> None:
    with broken.browser("bob") as browser:
        csrf = browser.csrf()
        origin = {"origin": "http://127.0.0.1:8321"}
        assert browser.send("/halt", do="halt", looked="yes", reason="x" * 20_000).status_code == 413
        many = {f"field{number}": "x" for number in range(40)}
        assert browser.send("/halt", do="halt", looked="yes", **many).status_code == 400
        as_json = browser.request("POST", "/halt", json={"do": "halt", "csrf": csrf}, headers=origin)
        assert as_json.status_code == 415
        raw = {**origin, "content-type": "application/x-www-form-urlencoded"}
        assert browser.request("POST", "/halt", content=b"\xff=\xfe", headers=raw).status_code == 400
    assert broken.desk.asked == []
