"""The live table: what it says of books and brokers, and that it fits whatever the screen is."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from actors.events import Severity
from supervisor.cli.keyboard import named
from supervisor.cli.look import Look, Sort, after
from supervisor.cli.middle import cut
from supervisor.cli.screen import (
    Screen,
    View,
    book_words,
    coming_up,
    discrepancy_table,
    duration,
    settled,
    verdict_table,
)
from supervisor.presentation.event_text import Happening

UNKNOWN = {"positions": "FAILED", "orders": "FAILED", "fills": "FAILED"}
COMPLETE = {"positions": "COMPLETE", "orders": "COMPLETE", "fills": "COMPLETE"}
LONG = {"legs": [{"leg": "long", "quantity": "100", "average_price": "191.2"}], "open_orders": []}
FLAT: dict[str, Any] = {"legs": [], "open_orders": []}
DRIFT = {
    "id": "1",
    "type": "POSITION_MISMATCH",
    "severity": "CRITICAL",
    "phase": "DRIFT",
    "cause": None,
    "key": "long",
    "book_value": "80",
    "broker_value": "-100",
    "resolved": False,
    "correction": None,
}


def _row(symbol: str, status: str = "SUCCESS", **changes: Any) -> dict[str, Any]:
    health = {
        "state": "UP",
        "paused": False,
        "restarts": 0,
        "verified_at": "2026-01-31T12:00:00Z",
        "verified_age_s": 3.2,
        "last_cycle_at": "2026-01-31T12:00:00Z",
        "last_cycle_ms": 12.4,
        "next_check_s": 4.2,
        "corrections": 2,
    }
    row: dict[str, Any] = {
        "instrument": symbol,
        "status": status,
        "error": None,
        "book": LONG,
        "broker": COMPLETE,
        "discrepancies": [],
        "health": health | changes.pop("health", {}),
    }
    return row | changes


def _status(*rows: dict[str, Any], actors: tuple[str, ...] = ("UP",)) -> dict[str, Any]:
    return {
        "status": "SUCCESS",
        "duration_ms": 4_000.0,
        "accounts": [{"account": "fx", "discrepancies": [], "instruments": list(rows)}],
        "supervisor": {
            "state": "RUNNING",
            "journal": {"last_seq": 42, "error": None},
            "actors": [
                {"name": str(n), "kind": "instrument", "state": state, "restarts": 0} for n, state in enumerate(actors)
            ],
        },
    }


def _drawn(view: View, width: int = 120, height: int = 24) -> list[str]:
    out = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    lines = out.render_lines(Screen(view), out.options.update_dimensions(width, height), pad=False)
    drawn = ["".join(segment.text for segment in line).rstrip() for line in lines]
    while drawn and not drawn[-1]:
        drawn.pop()
    return drawn


def test_a_verified_instrument_shows_its_book_broker_age_cycle_and_restarts() -> None:
    drawn = _drawn(View("", _status(_row("GBP_JPY"))))

    assert drawn[2].split() == [
        "fx",
        "GBP_JPY",
        "SUCCESS",
        "long",
        "100",
        "@",
        "191.2",
        "complete",
        *("3", "s", "ago"),
        *("in", "4", "s"),
        *("12", "ms"),
        "0",
    ]
    assert "1 of 1 in step, corrections 2; journal last seen at record 42" in "\n".join(drawn)


def test_a_book_that_was_never_verified_is_not_shown_as_flat() -> None:
    never = _row("GBP_JPY", "DEGRADED", book=FLAT, broker=UNKNOWN, health={"verified_at": None, "verified_age_s": None})

    line = _drawn(View("", _status(never)))[2]

    assert "flat" not in line
    assert "unknown" in line
    assert "never" in line
    assert "FAILED" in line


@pytest.mark.parametrize(
    ("book", "known", "words"),
    [
        (FLAT, True, "flat"),
        (FLAT, False, "unknown"),
        (LONG, False, "long 100 @ 191.2"),
        (LONG | {"open_orders": [{}, {}]}, True, "long 100 @ 191.2, 2 orders"),
    ],
)
def test_a_book_in_words(book: dict[str, Any], known: bool, words: str) -> None:
    assert book_words(book, known=known) == words


def test_an_open_break_is_shown_with_its_type_and_leg() -> None:
    drawn = _drawn(View("", _status(_row("GBP_JPY", "PARTIAL", discrepancies=[DRIFT]))))

    assert "1: POSITION_MISMATCH long" in drawn[2]


UP_AND_ALL = {"audit": (1, 1), "alerts": (1, 1), "sink": (0, 0), "account": (3, 3), "instrument": (5_000, 5_000)}


@pytest.mark.parametrize(
    ("changes", "age_s", "words"),
    [
        ({}, 60, "5,005 of 5,005 actors up"),
        (
            {"audit": (0, 1), "alerts": (0, 1), "account": (0, 3), "instrument": (0, 5_000)},
            2,
            "0 of 5,005 actors up: journal 0 of 1, accounts 0 of 3, instruments 0 of 5,000, alerts 0 of 1",
        ),
        (
            {"account": (2, 3), "instrument": (999, 5_000)},
            10,
            "1,003 of 5,005 actors up: accounts 2 of 3, instruments 999 of 5,000, about 40 s left",
        ),
        ({"instrument": (200, 5_000)}, 10, "205 of 5,005 actors up: instruments 200 of 5,000"),
        ({"account": (1, 1), "instrument": (1, 9)}, 4, "4 of 12 actors up: instruments 1 of 9"),
        ({"account": (1, 1), "instrument": (2, 9)}, 4, "5 of 12 actors up: instruments 2 of 9, about 6 s left"),
        ({"instrument": (4_996, 5_000)}, 30, "5,001 of 5,005 actors up: instruments 4,996 of 5,000, about 1 s left"),
    ],
)
def test_a_fleet_that_comes_up_says_what_in_which_order_and_how_long_it_takes(
    changes: dict[str, tuple[int, int]], age_s: float, words: str
) -> None:
    status = _status()
    status["duration_ms"] = age_s * 1000
    status["supervisor"]["actors"] = [
        {"name": f"{kind} {n}", "kind": kind, "state": "UP" if n < up else "WAITING", "restarts": 0}
        for kind, (up, of) in (UP_AND_ALL | changes).items()
        for n in range(of)
    ]

    assert coming_up(status) == words
    for width in (40, 80, 160):
        assert all(len(line) <= width for line in _drawn(View("", status), width))


@pytest.mark.parametrize("height", [6, 10, 24, 50])
@pytest.mark.parametrize("width", [40, 80, 130])
@pytest.mark.parametrize("count", [1, 7, 60])
def test_the_screen_is_never_higher_or_wider_than_the_terminal(height: int, width: int, count: int) -> None:
    rows = [_row(f"INSTRUMENT_WITH_A_LONG_NAME_{n}", discrepancies=[DRIFT]) for n in range(count)]
    said = tuple(Happening("12:00:00", "fx/GBP_JPY", "x" * 300, Severity.INFO) for _ in range(30))

    drawn = _drawn(View("", _status(*rows, actors=("UP", "STARTING")), said), width, height)

    assert len(drawn) <= max(height, 9)
    assert all(len(line) <= width for line in drawn)


def test_what_needs_attention_is_shown_first_where_not_all_fits() -> None:
    rows = [_row(f"CALM_{n}") for n in range(30)]
    rows[29] = _row("BROKEN", "PARTIAL", discrepancies=[DRIFT])
    rows[20] = _row("DOWN", "DEGRADED", health={"state": "QUARANTINED"})

    drawn = "\n".join(_drawn(View("", _status(*rows)), height=14))

    assert "BROKEN" in drawn
    assert "QUARANTINED" in drawn
    assert "more" in drawn


def test_text_from_outside_is_not_read_as_markup() -> None:
    drawn = "\n".join(_drawn(View("", _status(_row("[red]X[/red]")), trouble="[bold]")))

    assert "[red]X[/red]" in drawn
    assert "[bold]" in drawn


@pytest.mark.parametrize(
    ("states", "done"),
    [((), False), (("UP", "WAITING"), False), (("UP", "STARTING"), False), (("UP", "QUARANTINED", "UP"), True)],
)
def test_progress_is_shown_until_every_actor_is_up_or_dealt_with(states: tuple[str, ...], done: bool) -> None:
    status = _status(_row("GBP_JPY"), actors=states)

    assert settled(status) is done
    assert ("actors up" in "\n".join(_drawn(View("", status)))) is not done


def test_the_latest_happenings_stand_below_the_table() -> None:
    said = tuple(Happening(f"12:00:{n:02}", "fx", f"happening {n}", Severity.WARNING) for n in range(40))

    drawn = _drawn(View("", _status(_row("GBP_JPY")), said), height=14)

    assert drawn[-1] == "12:00:39 fx happening 39"
    assert len(drawn) <= 14


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119, "119 s"), (600, "10 min"), (10_000, "3 h"), (10**6, "12 d"), (-1, "0 s")]
)
def test_an_age_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_verdict_shows_both_sides_values_and_what_was_done() -> None:
    document = {
        "accounts": [{"account": "fx", "discrepancies": [], "instruments": [_row("GBP_JPY", discrepancies=[DRIFT])]}]
    }
    out = Console(file=io.StringIO(), width=200)
    table = discrepancy_table(document)
    assert table is not None
    out.print(verdict_table(document), table)

    assert isinstance(out.file, io.StringIO)
    last = out.file.getvalue().splitlines()[-1]
    assert last.split() == ["fx", "GBP_JPY", "POSITION_MISMATCH", "CRITICAL", "long", "80", "-100", "open"]


def test_a_halt_stands_in_the_head() -> None:
    halts = [{"scope": "account fx", "reason": "news", "since": "2026-01-05T00:00:00Z"}]
    rows = (_row("GBP_JPY", health={"halted": halts}), _row("EUR_USD", health={"halted": halts}))

    assert "trading halted: account fx" in _drawn(View("", _status(*rows)))[0]


def test_what_nobody_looks_after_is_a_row_of_its_own_and_not_in_step() -> None:
    status = _status(_row("GBP_JPY"))
    status["accounts"][0]["discrepancies"] = [
        {
            "type": "UNMANAGED_INSTRUMENT",
            "key": "AUD_USD",
            "broker_value": "in the account: long 5, and not in the configuration",
            "resolved": False,
        }
    ]

    drawn = _drawn(View("", status), width=160)

    assert "AUD_USD" in drawn[2]
    assert "UNMANAGED" in drawn[2]
    assert "in the account: long 5" in drawn[2]
    assert "1 of 1 in step, 1 unmanaged, corrections 2" in "\n".join(drawn)


def _pressed(*keys: str, rows: int = 3) -> Look:
    look = Look()
    for key in keys:
        look = after(look, key, rows)
    return look


def _three() -> dict[str, Any]:
    aged = {"verified_age_s": 90.0}
    return _status(_row("CALM"), _row("OLD", health=aged), _row("BROKEN", "PARTIAL", discrepancies=[DRIFT]))


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("", ["BROKEN", "CALM", "OLD"]),
        ("s", ["OLD", "CALM", "BROKEN"]),
        ("ss", ["CALM", "OLD", "BROKEN"]),
        ("sss", ["BROKEN", "CALM", "OLD"]),
        ("f", ["BROKEN"]),
        ("ff", ["BROKEN", "CALM", "OLD"]),
        ("/ol", ["OLD"]),
        ("/fx", ["BROKEN", "CALM", "OLD"]),
        ("/q", []),
    ],
)
def test_keys_sort_and_filter_the_table(keys: str, shown: list[str]) -> None:
    screen = Screen(View("", _three()))
    screen.press(list(keys))

    drawn = _drawn(screen.view)

    found = [line.split()[1] for line in drawn if line.startswith("fx ")]
    assert found == shown


def test_a_filter_is_typed_until_enter_and_gone_with_escape() -> None:
    assert _pressed("/", "q", "s", "backspace", "enter") == Look(wanted="q")
    assert _pressed("/", "q", "enter", "s") == Look(wanted="q", sort=Sort.AGE)
    assert _pressed("/", "q", "escape") == Look()
    assert _pressed("q").left


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [(["down"], 0), (["down"] * 9, 2), (["up"], 2), (["down", "down", "up", "up"], 0), (["j", "k"], 0)],
)
def test_a_row_is_chosen_among_those_shown(keys: list[str], chosen: int) -> None:
    assert _pressed(*keys).chosen == chosen


def test_details_show_all_of_the_chosen_row_and_help_lists_the_keys() -> None:
    screen = Screen(View("", _three()))
    screen.press(["down", "enter"])
    details = "\n".join(_drawn(screen.view))
    screen.press(["?"])
    helped = "\n".join(_drawn(screen.view))

    assert "fx/BROKEN: PARTIAL" in details
    assert "CRITICAL POSITION_MISMATCH long: book 80, broker -100, no cause known, open" in details
    assert "CALM" not in details
    assert "Esc shows everything again" in helped


def test_the_chosen_row_stays_the_same_instrument_when_the_order_changes() -> None:
    screen = Screen(View("", _three()))
    screen.press(["down", "down"])
    screen.press(["enter"])
    assert "fx/CALM: SUCCESS" in "\n".join(_drawn(screen.view))
    worse = _status(_row("CALM", "FAILED"), _row("OLD", "FAILED"), _row("BROKEN"))
    screen.view = replace(screen.view, status=worse)
    assert "fx/CALM: FAILED" in "\n".join(_drawn(screen.view))
    screen.press(["enter", "down", "enter"])
    assert "fx/OLD: FAILED" in "\n".join(_drawn(screen.view))
    screen.view = replace(screen.view, status=_status(_row("CALM")))
    assert "fx/CALM: SUCCESS" in "\n".join(_drawn(screen.view))


def test_what_is_critical_or_halted_comes_before_what_is_in_step() -> None:
    halted = [{"scope": "account fx", "reason": "news"}]
    rows = [
        _row("CALM"), _row("HALTED", health={"halted": halted}), _row("SLIGHT", "PARTIAL"),
        _row("NAKED", "PARTIAL", discrepancies=[{**DRIFT, "severity": "CRITICAL"}]),
    ]  # fmt: skip
    drawn = _drawn(View("", _status(*rows)))
    assert [line.split()[1] for line in drawn if line.startswith("fx ")] == ["NAKED", "HALTED", "SLIGHT", "CALM"]


@pytest.mark.parametrize("width", [71, 80, 99, 120])
def test_the_heading_of_the_breaks_is_whole_where_none_is_open(width: int) -> None:
    assert "open breaks" in "\n".join(_drawn(View("", _status(_row("CALM"))), width=width))


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        ("s/x", ["s", "/", "x"]),
        ("\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        ("\r\x7f\x1b", ["enter", "backspace", "escape"]),
        ("\x1b[5~"[:1] + "\x00", ["escape"]),
    ],
)
def test_what_a_terminal_sends_is_named(sent: str, keys: list[str]) -> None:
    assert list(named(sent)) == keys


def test_the_brokers_quantity_stands_beside_the_books_where_they_differ() -> None:
    line = _drawn(View("", _status(_row("GBP_JPY", "PARTIAL", discrepancies=[DRIFT]))))[2]

    assert "long 100 @ 191.2" in line
    assert "long -100" in line


REASON = "fx: the broker did not answer GET /v3/accounts/101/openPositions within 10 s: connection refused by peer"


@pytest.mark.parametrize(("width", "head", "tail"), [(60, "fx: the", "refused by peer"), (30, "fx: the", "by peer")])
def test_a_reason_is_cut_in_the_middle_and_keeps_its_cause(width: int, head: str, tail: str) -> None:
    found = cut(REASON, width)

    assert len(found) == width
    assert found.startswith(head)
    assert found.endswith(tail)
    assert cut("short", width) == "short"


def test_at_forty_columns_what_needs_a_person_stays() -> None:
    halts = [{"scope": "account fx", "reason": "news", "since": "2026-01-05T00:00:00Z"}]
    degraded = _row("EUR_USD", "DEGRADED", error=REASON, book=FLAT, broker=UNKNOWN)
    status = _status(_row("GBP_JPY", "PARTIAL", discrepancies=[DRIFT], health={"halted": halts}), degraded)

    drawn = _drawn(View("", status, trouble="what is shown is 7 s old"), width=40)

    screen = "\n".join(drawn)
    for words in ("trading halted: account fx", "7 s old", "PARTIAL", "DEGRADED", "peer", "MATCH long"):
        assert words in screen


def test_a_halt_stands_in_its_rows_and_restarts_since_when_below() -> None:
    status = _status(_row("GBP_JPY", health={"halted": [{"scope": "fx/GBP_JPY", "reason": None, "since": "x"}]}))
    status["supervisor"]["run_began_at"] = "2026-11-29T20:07:16.000000Z"

    drawn = _drawn(View("", status), width=140)

    assert "SUCCESS HALTED" in drawn[2]
    assert "restarts since 11-29 20:07" in "\n".join(drawn)


def test_what_was_put_right_needs_no_attention() -> None:
    corrected = {**DRIFT, "resolved": True}
    screen = Screen(
        View("", _status(_row("CALM"), _row("MENDED", discrepancies=[corrected]), _row("BROKEN", "PARTIAL")))
    )

    everything = "\n".join(_drawn(screen.view))
    screen.press(["f"])

    assert "MENDED" in everything
    assert "MENDED" not in "\n".join(_drawn(screen.view))
    assert "BROKEN" in "\n".join(_drawn(screen.view))
