"""What `record` takes and what it refuses: exact numbers, every bad line by number, all or nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.reconciliation.own_reports import FillReport, OrderReport, PositionReport
from brokers.model import LegScheme, OrderStatus, Side
from supervisor.cli.record_lines import BadLines, LineProblem, Recording, read

SYMBOLS = ("GBP_JPY", "EUR_USD")
ORDER = {
    "kind": "order",
    "instrument": "GBP_JPY",
    "client_order_id": "c1",
    "broker_order_id": None,
    "side": "BUY",
    "quantity": "100",
    "order_type": "LIMIT",
    "limit_price": "191.0",
    "status": "PENDING_SUBMIT",
    "submitted_at": "2026-01-31T12:00:00Z",
}
FILL = {
    "kind": "fill",
    "instrument": "GBP_JPY",
    "fill_id": "f1",
    "broker_order_id": "7",
    "side": "SELL",
    "quantity": "0.3",
    "price": "191.25",
    "time": "2026-01-31T13:00:00+01:00",
}
POSITION = {"kind": "position", "instrument": "EUR_USD", "leg": "short", "quantity": "-3", "average_price": "1.1"}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _lines(*rows: object) -> bytes:
    return b"".join((row if isinstance(row, str) else json.dumps(row)).encode() + b"\n" for row in rows)


def _read(*rows: object, legs: LegScheme = LegScheme.SIDED) -> Recording:
    return read(_lines(*rows), SYMBOLS, legs)


def _problems(*rows: object, legs: LegScheme = LegScheme.SIDED) -> list[str]:
    with pytest.raises(BadLines) as caught:
        _read(*rows, legs=legs)
    return [str(problem) for problem in caught.value.problems]


def test_each_kind_of_line_becomes_its_report_in_the_order_of_the_file() -> None:
    found = _read(ORDER, FILL, POSITION)

    assert found.lines == 3
    assert found.reports == {
        "GBP_JPY": [
            OrderReport(
                "GBP_JPY",
                "c1",
                None,
                Side.BUY,
                Decimal(100),
                "LIMIT",
                Decimal("191.0"),
                OrderStatus.PENDING_SUBMIT,
                NOON,
            ),
            FillReport("GBP_JPY", "f1", "7", Side.SELL, Decimal("0.3"), Decimal("191.25"), NOON),
        ],
        "EUR_USD": [PositionReport("EUR_USD", "short", Decimal(-3), Decimal("1.1"))],
    }


def test_leg_and_strategy_are_taken_by_all_kinds() -> None:
    more = {"leg": "long", "strategy": "trend"}

    found = _read(ORDER | more, FILL | more, POSITION | more | {"quantity": "3"})

    reports = [report for of_one in found.reports.values() for report in of_one]
    assert [(report.leg, report.strategy) for report in reports] == [("long", "trend")] * 3


def test_numbers_are_exact_whether_written_as_text_or_as_json_numbers() -> None:
    written = '{"kind":"fill","instrument":"EUR_USD","fill_id":9007199254740993,"side":"BUY","quantity":0.1,'
    written += '"price":1.10000000000000000001,"time":"2026-01-31T12:00:00Z"}'

    (report,) = _read(written).reports["EUR_USD"]

    assert isinstance(report, FillReport)
    assert (report.fill_id, report.quantity, report.price) == (
        "9007199254740993",
        Decimal("0.1"),
        Decimal("1.10000000000000000001"),
    )


@pytest.mark.parametrize("price", ["-37.63", "0", "1e-5"], ids=["negative", "zero", "with an exponent"])
def test_a_price_may_be_any_finite_number(price: str) -> None:
    (report,) = _read(FILL | {"price": price}).reports["GBP_JPY"]

    assert isinstance(report, FillReport)
    assert report.price == Decimal(price)


def test_blank_lines_a_byte_order_mark_and_carriage_returns_are_no_lines() -> None:
    content = b"\xef\xbb\xbf\r\n" + _lines(ORDER).replace(b"\n", b"\r\n") + b"   \n"

    assert read(content, SYMBOLS, LegScheme.NET).lines == 1
    assert read(b"", SYMBOLS, LegScheme.NET) == Recording(0, {})


def test_an_account_with_all_instruments_takes_any_symbol() -> None:
    assert read(_lines(ORDER | {"instrument": "USD_CAD"}), None, LegScheme.NET).reports.keys() == {"USD_CAD"}


@pytest.mark.parametrize(
    ("line", "beginning"),
    [
        ("nonsense", "line 1: found invalid JSON (Expecting value), expected one JSON object"),
        ("[1]", "line 1: found a list, expected one JSON object"),
        ("{}", "line 1: kind: found nothing, expected order, fill or position"),
        ({"kind": "trade"}, 'line 1: kind: found "trade", expected order, fill or position'),
        ({"kind": ["order"]}, "line 1: kind: found a list, expected order, fill or position"),
        (
            FILL | {"price": float("nan")},
            "line 1: found invalid JSON (NaN, which is not a number), expected one JSON object",
        ),
        (FILL | {"price": "NaN"}, 'line 1: price: found "NaN", expected a finite number'),
        (FILL | {"price": "1_000"}, 'line 1: price: found "1_000", expected a finite number'),
        (FILL | {"price": "1e999"}, 'line 1: price: found "1e999", expected a finite number'),
        (FILL | {"price": True}, "line 1: price: found true, expected a finite number"),
        (FILL | {"price": None}, "line 1: price: found null, expected a finite number"),
        (FILL | {"quantity": "0"}, 'line 1: quantity: found "0", expected a number above 0'),
        (FILL | {"quantity": -1}, "line 1: quantity: found -1, expected a number above 0"),
        (FILL | {"side": "buy"}, 'line 1: side: found "buy", expected BUY or SELL'),
        (FILL | {"side": {}}, "line 1: side: found an object, expected BUY or SELL"),
        (FILL | {"fill_id": " "}, 'line 1: fill_id: found " ", expected an id: text without blanks at either end'),
        (FILL | {"fill_id": "\ud800"}, "line 1: fill_id:"),
        (
            FILL | {"time": "2026-01-31T12:00:00"},
            'line 1: time: found "2026-01-31T12:00:00", expected an ISO 8601 time with its offset from UTC',
        ),
        (FILL | {"time": 1767225600}, "line 1: time: found 1767225600, expected an ISO 8601 time"),
        (FILL | {"time": "0001-01-01T00:00:00+14:00"}, "line 1: time: found"),
        (FILL | {"time": "4052-01-05T09:00:00Z"}, "line 1: time: found"),
        (
            ORDER | {"submitted_at": "1767-01-05T09:00:00Z"},
            'line 1: submitted_at: found "1767-01-05T09:00:00Z", expected an ISO 8601 time with its offset',
        ),
        (ORDER | {"status": "DONE"}, 'line 1: status: found "DONE", expected one of PENDING_SUBMIT, OPEN'),
        (ORDER | {"client_order_id": None}, "line 1: client_order_id: found neither"),
        (ORDER | {"filled_quantity": "1"}, "line 1: filled_quantity: found an unknown key, expected only broker_"),
        (
            ORDER | {"instrument": "USD_CAD"},
            'line 1: instrument: found "USD_CAD", expected one of the account\'s: GBP_',
        ),
        (ORDER | {"instrument": 7}, "line 1: instrument: found 7, expected text"),
        ('{"k\\ud800":1,"k\\ud800":2}', "line 1: k\ufffd: found the key twice, expected it once"),
        (FILL | {"k\ud800": 1}, "line 1: k\\ufffd: found an unknown key"),
        ('{"kind":"position","kind":"order"}', "line 1: kind: found the key twice, expected it once"),
        ("[" * 100_000, "line 1: found"),
        ('{"kind":"fill","price":' + "9" * 5000 + "}", "line 1: found invalid JSON"),
    ],
)
def test_a_bad_line_names_its_key_what_was_found_and_what_was_expected(line: object, beginning: str) -> None:
    assert _problems(line)[0].startswith(beginning)


def test_every_problem_of_every_line_is_named_at_once() -> None:
    missing = {key: value for key, value in FILL.items() if key not in {"price", "time"}}

    problems = _problems(ORDER, "", missing | {"side": "UP"}, POSITION | {"quantity": "many"})

    assert [problem.partition(" found")[0] for problem in problems] == [
        "line 3: side:",
        "line 3: price:",
        "line 3: time:",
        "line 4: quantity:",
    ]


@pytest.mark.parametrize(
    ("legs", "quantity", "leg"),
    [
        (LegScheme.NET, "-3", "net"),
        (LegScheme.NET, "0", "net"),
        (LegScheme.SIDED, "3", "long"),
        (LegScheme.SIDED, "-3", "short"),
        (LegScheme.SIDED, "0", None),
        (LegScheme.TICKET, "3", None),
    ],
)
def test_a_position_without_a_leg_joins_the_one_it_can_only_mean(
    legs: LegScheme, quantity: str, leg: str | None
) -> None:
    line = {"kind": "position", "instrument": "EUR_USD", "quantity": quantity, "average_price": "1"}

    if leg is None:
        assert _problems(line, legs=legs)[0].startswith("line 1: leg: found nothing")
    else:
        (report,) = _read(line, legs=legs).reports["EUR_USD"]
        assert report.leg == leg


@pytest.mark.parametrize(
    ("legs", "leg", "quantity", "expected"),
    [
        (LegScheme.SIDED, "foo", "1", "long or short"),
        (LegScheme.SIDED, "net", "1", "long or short"),
        (LegScheme.SIDED, "short", "3", "no positive quantity in short"),
        (LegScheme.SIDED, "long", "-3", "no negative quantity in long"),
        (LegScheme.TICKET, "seven", "1", "the position's ticket, a number, or net on a netting account"),
        (LegScheme.NET, "long", "1", "net, or a product where the broker has them"),
        (LegScheme.SIDED, "short", "0", None),
        (LegScheme.SIDED, "long", "0", None),
        (LegScheme.TICKET, "7001", "-1", None),
        (LegScheme.TICKET, "net", "-1", None),
        (LegScheme.NET, "MIS", "-1", None),
    ],
)
def test_a_leg_that_the_broker_cannot_have_is_refused(
    legs: LegScheme, leg: str, quantity: str, expected: str | None
) -> None:
    line = POSITION | {"leg": leg, "quantity": quantity}

    if expected is None:
        (report,) = _read(line, legs=legs).reports["EUR_USD"]
        assert report.leg == leg
    else:
        (problem,) = _problems(line, legs=legs)
        assert problem.startswith(f'line 1: leg: found "{leg}"')
        assert problem.endswith(f"expected {expected}")


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([_lines(ORDER).strip(), _lines(POSITION).strip()]), max_size=5)
)
def test_whatever_the_bytes_are_they_are_read_or_each_problem_names_a_line(lines: list[bytes]) -> None:
    content = b"\n".join(lines)
    numbers = range(1, content.count(b"\n") + 2)

    problems: tuple[LineProblem, ...] = ()
    try:
        found = read(content, SYMBOLS, LegScheme.SIDED)
    except BadLines as bad:
        problems = bad.problems
    else:
        assert found.lines == sum(map(len, found.reports.values()))

    assert all(problem.line in numbers for problem in problems)
