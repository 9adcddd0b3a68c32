"""What a person learns of halts by `status` and `halt`, and of a burst of records by `start`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from loguru import logger

from actors.book.trading_permission import Halt, Halted
from actors.events import Event, EventType, Severity
from actors.runtime.ports import ActorUnavailable
from supervisor.cli import operate
from supervisor.cli.console import Failure
from supervisor.cli.operate import halt, halt_lines
from supervisor.cli.screen import View
from supervisor.cli.start import _AsLines
from supervisor.client.processes import Running
from supervisor.config.models import Configuration
from supervisor.presentation.event_text import Happening, describe
from tests.unit.builders import at

ACCOUNT = Halt("fx", "news", at(10)).to_json()
ONE = Halt("fx/EUR_USD", None, at(20)).to_json()


def status_of(**halted: Any) -> dict[str, Any]:
    rows = [{"instrument": symbol, "health": {"halted": halts}} for symbol, halts in halted.items()]
    return {"accounts": [{"account": "fx", "instruments": rows}]}


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        (status_of(EUR_USD=[], GBP_JPY=[]), []),
        (
            status_of(EUR_USD=[ACCOUNT, ONE], GBP_JPY=[ACCOUNT]),
            [
                "trading halted: account fx, since 2024-01-02T09:00:10Z: news",
                "trading halted: fx/EUR_USD, since 2024-01-02T09:00:20Z",
            ],
        ),
        (
            status_of(EUR_USD=None, GBP_JPY=None),
            ["whether trading is halted is not known yet: fx/EUR_USD, fx/GBP_JPY"],
        ),
    ],
    ids=["none", "a line a halt", "not known is not none"],
)
def test_status_shows_every_halt_once_with_its_reason(status: dict[str, Any], lines: list[str]) -> None:
    assert halt_lines(status) == lines


class Away:
    """A supervisor whose journal is away."""

    def halt(self, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        in_force = Halt("fx", reason, at(10))
        return Halted(("fx",), ("fx/EUR_USD",), (), (in_force,), "the journal is not available: it is away")


def test_a_halt_that_is_not_durable_ends_with_status_3_and_says_to_halt_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(operate, "_supervisor_of", lambda *_: Away())
    configuration: Configuration = None  # type: ignore[assignment] # nobody looks at it
    with pytest.raises(Failure, match=r"^halted now, but not durable: .* is away\. .*: halt again$") as raised:
        halt(configuration, "fx", None, "news")
    assert raised.value.status == 3
    assert capsys.readouterr().out == "trading halted: account fx\n"


class Restarting:
    """A cluster whose supervisor is away for a moment."""

    def __init__(self) -> None:
        self.asked = 0

    def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Halted:
        self.asked += 1
        if self.asked == 1:
            raise ActorUnavailable(actor, method, "it died")
        return Halted(("fx",), (), (), ())


def test_a_halt_is_asked_for_again_of_a_supervisor_that_is_being_restarted() -> None:
    client = Restarting()
    assert Running(client).halt("fx", None, None).scopes == ("fx",)  # type: ignore[arg-type] # it only calls
    assert client.asked == 2


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    logger.remove()
    handle = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    yield lines
    logger.remove(handle)


def happenings(*numbers: int) -> tuple[Happening, ...]:
    return tuple(Happening("09:00:00", "fx", f"h{number}", Severity.INFO) for number in numbers)


def test_lines_of_the_start_leave_out_no_happening_without_a_word(logged: list[str]) -> None:
    lines = _AsLines()
    view = View("")
    lines.update(replace(view, happenings=happenings(1, 1), happened=2))
    lines.update(replace(view, happenings=happenings(1, 1), happened=2))
    lines.update(replace(view, happenings=happenings(8, 9), happened=9))
    assert logged == [
        "fx h1",
        "fx h1",
        "… 5 more before these; see: python -m supervisor audit query",
        "fx h8",
        "fx h9",
    ]


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        (
            EventType.ORDER_REJECTED,
            {"order": {"broker_order_id": "P6", "reason": "no margin"}},
            "order P6 rejected: no margin",
        ),
        (EventType.ORDER_CANCELLED, {"order": {"broker_order_id": "P6", "reason": None}}, "order P6 cancelled"),
        (
            EventType.COMMISSION_REPORTED,
            {"fill_id": "e1.01", "commission": "1.05", "commission_currency": "USD"},
            "commission 1.05 USD of fill e1.01",
        ),
        (EventType.TRADING_HALTED, {"reason": "news", "by": "me@here"}, "trading halted by me@here: news"),
        (EventType.TRADING_RESUMED, {}, "trading resumed"),
        (EventType.OPERATOR_ACTION, {"action": "pause", "by": "me@here"}, "me@here paused"),
        (EventType.OPERATOR_ACTION, {"action": "pause", "by": None}, "an operator paused"),
        (EventType.OPERATOR_ACTION, {"action": "pause", "instruments": ["a/X", "a/Y"]}, "an operator paused a/X, a/Y"),
        (EventType.OPERATOR_ACTION, {"action": "restart", "actor": "a/X", "by": "me"}, "me restarted a/X"),
    ],
)
def test_a_record_says_why_and_who(kind: EventType, payload: dict[str, Any], words: str) -> None:
    assert describe(Event("1", kind, Severity.INFO, at(0), payload)) == words
