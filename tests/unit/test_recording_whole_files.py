"""A file that is recorded is recorded whole or not at all, whichever of its books refuses a line of it."""

from __future__ import annotations

import json
import pickle

import pytest

from actors.reconciliation.own_reports import UnfitReports
from tests.unit import cli_cases
from tests.unit.cli_cases import House, records, run

house = cli_cases.house  # the fixture

FILL = {"kind": "fill", "instrument": "GBP_JPY", "fill_id": "f1", "side": "BUY", "quantity": "5", "price": "191",
        "time": "2026-01-31T12:00:00Z"}  # fmt: skip
ORDER = {"kind": "order", "instrument": "GBP_JPY", "client_order_id": "c1", "broker_order_id": "7", "side": "BUY",
         "quantity": "5", "order_type": "LIMIT", "limit_price": "191", "status": "OPEN"}  # fmt: skip
POSITION = {"kind": "position", "instrument": "GBP_JPY", "leg": "long", "quantity": "5", "average_price": "191"}
OTHER = FILL | {"instrument": "EUR_USD", "fill_id": "e1", "price": "1.1"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([OTHER, FILL | {"time": "2199-01-01T00:00:00Z"}], "line 2: fx/GBP_JPY: fill f1 is dated 2199"),
        ([OTHER, FILL, FILL | {"quantity": "9"}], "line 3: fx/GBP_JPY: fill f1 was reported as a BUY of 5"),
        ([OTHER, FILL, FILL | {"side": "SELL"}], "line 3: fx/GBP_JPY: fill f1 was reported as a BUY of 5"),
        ([OTHER, ORDER, ORDER | {"side": "SELL"}], "line 3: fx/GBP_JPY: order c1 is a BUY"),
        ([OTHER, ORDER, FILL | {"side": "SELL", "broker_order_id": "7"}], "line 3: fx/GBP_JPY: fill f1 was reported"),
        ([OTHER, FILL | {"price": "-1"}], "line 2: fx/GBP_JPY: fill f1 is at -1"),
        ([OTHER, ORDER | {"limit_price": "-1"}], "line 2: fx/GBP_JPY: order c1 is at -1"),
        ([OTHER, POSITION | {"average_price": "-1"}], "line 2: fx/GBP_JPY: the average price of leg long is at -1"),
    ],
    ids=[
        "a fill of the future", "another fill under the same id", "its other side", "an order of both sides",
        "a fill of the other side", "a fill below zero", "a limit below zero", "an average below zero",
    ],
)  # fmt: skip
def test_a_line_that_its_book_refuses_is_named_by_number_and_no_book_takes_anything(
    house: House, lines: list[dict[str, str]], words: str
) -> None:
    result = run("record", house.path, "--account", "fx", stdin="\n".join(map(json.dumps, lines)))

    assert result.exit_code == 2
    assert words in result.stderr
    assert "nothing was recorded, 1 to correct" in result.stderr
    assert records(house) == []


def test_every_refused_line_is_named_at_once_and_the_file_is_taken_when_they_are_right(house: House) -> None:
    late = {"time": "2199-01-01T00:00:00Z"}
    lines = [OTHER | late, "", FILL | late, FILL | {"fill_id": "f2"}]
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)

    refused = run("record", house.path, "--account", "fx", stdin=text)
    taken = run("record", house.path, "--account", "fx", stdin=text.replace("2199", "2025"))

    assert [line.split(": ")[1] for line in refused.stderr.splitlines()[1:]] == ["line 1", "line 3"]
    assert taken.stdout == "3 lines read, 3 new\n"


def test_a_fill_of_an_order_that_the_book_does_not_have_is_recorded_with_a_warning(house: House) -> None:
    of_known = FILL | {"fill_id": "f2", "broker_order_id": "7"}
    of_unknown = FILL | {"fill_id": "f3", "broker_order_id": "88"}
    by_our_id = FILL | {"fill_id": "f4", "client_order_id": "nobody's"}
    of_none = FILL | {"fill_id": "f5"}
    lines = "\n".join(map(json.dumps, [ORDER, of_known, of_unknown, by_our_id, of_none]))

    result = run("record", house.path, "--account", "fx", stdin=lines)

    assert (result.exit_code, result.stdout) == (0, "5 lines read, 5 new\n")
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert [line.partition(": the fill")[0] for line in warnings] == [
        "warning: fx/GBP_JPY: the book has no order 88",
        "warning: fx/GBP_JPY: the book has no order nobody's",
    ]


def test_what_is_refused_crosses_between_processes() -> None:
    error = UnfitReports((("GBP_JPY", 0, "not so"),))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert again.problems == error.problems
    assert str(error) == "not so"
