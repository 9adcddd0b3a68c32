"""Who is alerted of what, when: one alert a subject, reminders until somebody has it, one "resolved", nothing lost."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.alerts.router import UNDER_WAY_AT_MOST, Message, MessageKind, Route, Router, RouterSettings
from actors.alerts.windows import MAINTENANCE, Window, maintenance
from actors.events import Event, EventType, Record, Severity, to_iso
from tests.unit.builders import at

DESK = Route("desk")
ONLY = RouterSettings((DESK,), {"fx": "oanda", "opt": "ib"})
FX = "fx/EUR_USD"
START, LATER = at(0), at(10)


class Wire:
    """A router with its journal and its receiver. What the receiver gets is in ``got``."""

    def __init__(self, settings: RouterSettings = ONLY) -> None:
        self.router = Router(settings)
        self.records: list[Record] = []
        self.got: list[Message] = []
        self.takes = True

    def say(self, kind: EventType, payload: dict[str, Any], now: datetime, severity: Severity, stream: str) -> None:
        number = len(self.records) + 1
        record = Record(number, stream, number, Event(str(number), kind, severity, now, payload), "", "")
        self.records.append(record)
        self.router.feed(record)

    def opens(self, own_id: str = "b1", now: datetime = START, stream: str = FX, **terms: Any) -> None:
        severity = terms.pop("severity", Severity.WARNING)
        payload = {
            "id": own_id, "type": "POSITION_MISMATCH", "key": "net", "book_value": "5", "broker_value": "500",
            "cause": "UNEXPLAINED", "opened_at": to_iso(terms.pop("since", now)), "resolved": False, "correction": None,
            **terms,
        }  # fmt: skip
        self.say(EventType.RECONCILIATION_DISCREPANCY, payload, now, severity, stream)

    def ends(self, own_id: str = "b1", now: datetime = LATER, stream: str = FX, **terms: Any) -> None:
        payload = {
            "id": own_id, "type": "POSITION_MISMATCH", "key": "net", "book_value": "5", "broker_value": "500",
            "cause": None, "opened_at": to_iso(at(0)), "resolved": True, "correction": None, **terms,
        }  # fmt: skip
        self.say(EventType.DISCREPANCY_RESOLVED, payload, now, Severity.INFO, stream)

    def acknowledged(self, own_id: str, until: datetime, now: datetime) -> None:
        payload = {"id": own_id, "by": "ann@desk", "until": to_iso(until)}
        self.say(EventType.BREAK_ACKNOWLEDGED, payload, now, Severity.INFO, FX)

    def look(self, now: datetime) -> list[str]:
        """What the receiver gets now, by kind."""
        got = []
        for message in self.router.due(now):
            if not self.takes:
                self.router.gave_up(message)
                continue
            got.append(message)
            self.router.sent(message)
            if message.kind is not MessageKind.HEARTBEAT:
                self.say(EventType.ALERT_DELIVERED, message.delivered(), now, Severity.INFO, "alerts")
        self.got += got
        return [message.kind.value for message in got]

    def restart(self, *, from_a_checkpoint: bool = False) -> None:
        """Another process, with the journal alone."""
        before, self.router = self.router, Router(self.router.settings)
        if from_a_checkpoint:
            self.router.restore(json.loads(json.dumps(before.to_json())))
            return
        for record in self.records:
            self.router.feed(record)


def test_one_alert_a_break_then_reminders_until_it_is_acknowledged_then_resolved() -> None:
    wire = Wire()
    wire.opens()
    assert wire.look(at(0)) == ["alert"]
    assert wire.got[0].title == "WARNING fx/EUR_USD POSITION_MISMATCH"
    assert "book 5, broker 500" in wire.got[0].body
    wire.opens(now=at(5), since=at(0), broker_value="501")
    assert wire.look(at(6)) == []
    assert wire.look(at(1799)) == []
    assert wire.look(at(1800)) == ["reminder"]
    wire.acknowledged("b1", at(9000), at(1900))
    assert wire.look(at(8999)) == []
    assert wire.look(at(9000)) == ["reminder"]
    wire.ends(now=at(9100), correction="force_update_position", approved_by="ben@desk")
    assert wire.look(at(9100)) == ["resolved"]
    assert "corrected by force_update_position, approved by ben@desk" in wire.got[-1].body
    assert wire.look(at(99999)) == []
    assert wire.router.subjects == {}


def test_what_becomes_graver_is_sent_again_at_once_and_to_whoever_had_it() -> None:
    wire = Wire()
    wire.opens()
    wire.look(at(0))
    wire.acknowledged("b1", at(9000), at(1))
    wire.opens(now=at(2), since=at(0), severity=Severity.CRITICAL, broker_value="-5")
    assert wire.look(at(2)) == ["alert"]
    assert wire.got[-1].severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("route", "heard"),
    [
        (Route("r"), True),
        (Route("r", severity=Severity.CRITICAL), False),
        (Route("r", kinds=frozenset({"NAKED_POSITION"})), False),
        (Route("r", kinds=frozenset({"POSITION_MISMATCH"})), True),
        (Route("r", accounts=frozenset({"opt"})), False),
        (Route("r", accounts=frozenset({"fx"})), True),
        (Route("r", after=timedelta(seconds=60)), False),
    ],
)
def test_a_route_hears_what_is_its_own(route: Route, heard: bool) -> None:
    wire = Wire(replace(ONLY, routes=(route,)))
    wire.opens()
    assert bool(wire.look(at(1))) is heard


def test_a_route_that_waits_hears_what_lasted_and_nothing_of_what_did_not() -> None:
    wire = Wire(replace(ONLY, routes=(Route("boss", after=timedelta(seconds=60)),)))
    wire.opens("short")
    wire.opens("long")
    wire.ends("short", at(30))
    assert wire.look(at(59)) == []
    assert wire.look(at(60)) == ["alert"]
    assert wire.got[0].about[0].id == "long"


def test_what_is_corrected_at_once_is_sent_once_and_only_once() -> None:
    wire = Wire()
    wire.opens(severity=Severity.CRITICAL, resolved=True, correction="force_close_position")
    assert wire.look(at(0)) == ["alert"]
    assert "corrected by force_close_position" in wire.got[0].body
    assert wire.look(at(1)) == wire.look(at(99999)) == []


def test_above_so_many_a_minute_the_rest_comes_as_one_digest_the_gravest_alone_and_first() -> None:
    wire = Wire(replace(ONLY, digest_above=3))
    for number in range(30):
        wire.opens(f"b{number}", severity=Severity.CRITICAL if number == 29 else Severity.WARNING)
    assert wire.look(at(0)) == ["alert", "alert", "alert", "digest"]
    assert wire.got[0].severity is Severity.CRITICAL
    assert len(wire.got[-1].about) == 27
    wire.opens("later", now=at(5))
    assert wire.look(at(5)) == []
    assert wire.look(at(60)) == ["alert"]
    assert {one.id for message in wire.got for one in message.about} == {f"b{n}" for n in range(30)} | {"later"}


def test_what_is_critical_waits_for_nothing_that_is_less_and_is_bounded_by_its_own_number() -> None:
    wire = Wire(replace(ONLY, digest_above=3))
    for number in range(10):
        wire.opens(f"slight{number}")
    assert wire.look(at(0)) == ["alert", "alert", "alert", "digest"]

    wire.opens("grave", now=at(5), severity=Severity.CRITICAL)
    assert wire.look(at(5)) == ["alert"]
    assert wire.got[-1].severity is Severity.CRITICAL
    for number in range(10):
        wire.opens(f"grave{number}", now=at(6), severity=Severity.CRITICAL)
    assert wire.look(at(6)) == ["alert", "alert"]
    assert wire.look(at(60))[-1] == "digest"


def test_in_quiet_hours_what_is_less_grave_waits_for_their_end() -> None:
    night = Window("quiet hours", time(22), time(7), "Europe/London")
    wire = Wire(replace(ONLY, quiet=night))
    late = datetime(2024, 1, 2, 23, 0, tzinfo=UTC)
    wire.opens("slight", now=late)
    wire.opens("grave", now=late, severity=Severity.CRITICAL)
    assert wire.look(late) == ["alert"]
    assert wire.got[0].about[0].id == "grave"
    assert wire.look(late + timedelta(hours=7, minutes=59))[:1] == ["reminder"]
    assert "alert" in wire.look(late + timedelta(hours=8))


RESET = datetime(2024, 1, 3, 4, 50, tzinfo=UTC)  # 23:50 in New York, of a Tuesday


def test_what_the_brokers_maintenance_explains_is_sent_once_and_calmly() -> None:
    wire = Wire()
    lost = {"account": "opt", "connection": "UNREACHABLE", "reason": "code 1100"}
    wire.say(EventType.CONNECTION_LOST, lost, RESET, Severity.WARNING, "opt")
    assert wire.look(RESET) == ["calm"]
    assert wire.got[0].severity is Severity.INFO
    assert "IB's nightly reset" in wire.got[0].title
    for number in range(5):
        wire.opens(f"s{number}", RESET + timedelta(minutes=5), f"opt/{number}", type="STALE_DATA")
    assert wire.look(RESET + timedelta(minutes=6)) == []
    wire.say(EventType.CONNECTION_RESTORED, {"account": "opt"}, RESET + timedelta(minutes=30), Severity.INFO, "opt")
    for number in range(5):
        wire.ends(f"s{number}", RESET + timedelta(minutes=31), f"opt/{number}", type="STALE_DATA")
    assert wire.look(RESET + timedelta(minutes=31)) == ["resolved"]
    assert wire.look(RESET + timedelta(hours=9)) == []


def test_what_outlives_the_maintenance_is_sent_in_full() -> None:
    wire = Wire()
    lost = {"account": "opt", "connection": "UNREACHABLE", "reason": "code 1100"}
    wire.say(EventType.CONNECTION_LOST, lost, RESET, Severity.WARNING, "opt")
    assert wire.look(RESET) == ["calm"]
    assert wire.look(RESET + timedelta(hours=1)) == ["alert"]
    assert wire.got[-1].severity is Severity.WARNING


def test_a_naked_position_in_the_maintenance_is_as_grave_as_ever() -> None:
    wire = Wire()
    wire.opens("n", RESET, "opt/AAPL", type="NAKED_POSITION", severity=Severity.CRITICAL)
    assert wire.look(RESET) == ["alert"]


@pytest.mark.parametrize(
    ("broker", "moment", "name"),
    [
        ("ib", datetime(2024, 7, 3, 3, 50, tzinfo=UTC), "IB's nightly reset"),  # summer time
        ("ib", datetime(2024, 1, 3, 5, 49, tzinfo=UTC), "IB's nightly reset"),  # after midnight there
        ("ib", datetime(2024, 1, 3, 5, 50, tzinfo=UTC), None),
        ("ib", datetime(2024, 1, 6, 6, 0, tzinfo=UTC), "IB's reset of Friday night"),
        ("ib", datetime(2024, 1, 7, 7, 0, tzinfo=UTC), "IB's weekly re-login"),
        ("kite", datetime(2024, 1, 3, 0, 30, tzinfo=UTC), "Kite's token of the day"),
        ("kite", datetime(2024, 1, 3, 0, 29, tzinfo=UTC), None),
        ("oanda", datetime(2024, 1, 3, 22, 1, tzinfo=UTC), "OANDA's close of the day"),
        ("oanda", datetime(2024, 7, 3, 21, 1, tzinfo=UTC), "OANDA's close of the day"),
        ("oanda", datetime(2024, 7, 3, 22, 1, tzinfo=UTC), None),
        ("mt5", datetime(2024, 1, 3, 22, 1, tzinfo=UTC), None),
    ],
)
def test_the_known_windows_are_by_the_brokers_own_clock(broker: str, moment: datetime, name: str | None) -> None:
    found = maintenance(broker, moment)
    assert (found[0] if found else None) == name
    assert set(MAINTENANCE) == {"ib", "kite", "oanda"}


def test_a_heartbeat_comes_so_often_whatever_happens_and_is_in_no_journal() -> None:
    quiet = Route("quiet", heartbeat=False)
    wire = Wire(replace(ONLY, routes=(DESK, quiet), heartbeat_every=timedelta(seconds=60)))
    assert [len(wire.look(at(second))) for second in (0, 59, 60, 119, 120)] == [1, 0, 1, 0, 1]
    assert {message.route for message in wire.got} == {"desk"}
    assert wire.records == []


def test_other_things_that_are_amiss_are_sent_and_end_too() -> None:
    wire = Wire()
    wire.say(EventType.ACTOR_QUARANTINED, {"actor": FX, "reason": "died"}, at(0), Severity.CRITICAL, "supervisor")
    wire.say(EventType.TRADING_HALTED, {"scope": "fx", "reason": "news", "by": "ann"}, at(0), Severity.WARNING, "fx")
    wire.say(EventType.CLOCK_STEPPED, {"by_s": "-3600"}, at(0), Severity.WARNING, "fx")
    assert wire.look(at(1)) == ["alert", "alert", "alert"]
    assert wire.got[0].title == "CRITICAL fx/EUR_USD ACTOR_QUARANTINED"
    wire.say(EventType.ACTOR_STARTED, {"actor": FX}, at(2), Severity.INFO, "supervisor")
    wire.say(EventType.TRADING_RESUMED, {"scope": "fx", "by": "ann"}, at(2), Severity.INFO, "fx")
    assert wire.look(at(3)) == ["resolved", "resolved"]
    assert wire.look(at(4)) == []
    assert wire.router.subjects == {}


ROLL = {"action": "roll", "to": "0.2.0", "by": "ann@desk"}
AGAIN = [{"state": "began"}, {"state": "done"}]


@pytest.mark.parametrize("end", AGAIN, ids=["began again", "done"])
def test_an_upgrade_that_stops_is_an_alert_until_it_goes_on(end: dict[str, Any]) -> None:
    wire = Wire()
    action = EventType.OPERATOR_ACTION
    wire.say(action, ROLL | {"state": "began"}, at(0), Severity.INFO, "supervisor")
    wire.say(action, {"action": "pause", "instruments": [FX]}, at(0), Severity.INFO, "supervisor")
    assert wire.look(at(1)) == []
    stopped = {"state": "stopped", "actor": FX, "reason": "it runs 0.1.0", "left": [FX, "fx"]}
    wire.say(action, ROLL | stopped, at(2), Severity.WARNING, "supervisor")
    desired(wire, at(3), "fx", FX)
    assert wire.look(at(3)) == ["alert"]
    assert wire.got[0].title == "WARNING supervisor UPGRADE_STOPPED"
    assert f"the upgrade to 0.2.0 stopped at {FX}: it runs 0.1.0; of another version: {FX}, fx" in wire.got[0].body
    wire.restart()
    assert wire.look(at(4)) == []
    wire.say(action, ROLL | end, at(5), Severity.INFO, "supervisor")
    assert wire.look(at(6)) == ["resolved"]
    assert wire.look(at(7)) == []
    assert wire.router.subjects == {}


def test_a_connection_that_is_lost_again_is_sent_again() -> None:
    wire = Wire()
    for minute in (10, 20):
        lost = {"account": "fx", "connection": "UNREACHABLE", "reason": "refused"}
        wire.say(EventType.CONNECTION_LOST, lost, at(60 * minute), Severity.WARNING, "fx")
        assert wire.look(at(60 * minute)) == ["alert"]
        wire.say(EventType.CONNECTION_RESTORED, {"account": "fx"}, at(60 * minute + 30), Severity.INFO, "fx")
        if minute == 20:
            assert wire.look(at(60 * minute + 30)) == ["resolved"]
    assert len({message.id for message in wire.got}) == len(wire.got)


CHANGED = EventType.CONFIGURATION_CHANGED


def desired(wire: Wire, now: datetime, *names: str, **terms: Any) -> None:
    words = [f"{name} {'0' * 16}" if name != "audit" else name for name in ("audit", *names)]
    wire.say(CHANGED, {"desired": words, **terms}, now, Severity.INFO, "supervisor")


@pytest.mark.parametrize("left", [(), ("fx", "fx/GBP JPY")])
def test_what_left_the_configuration_as_it_was_is_sent_once_and_as_no_longer_watched(left: tuple[str, ...]) -> None:
    wire = Wire()
    desired(wire, at(0), "fx", FX, "fx/GBP JPY")
    wire.opens(severity=Severity.CRITICAL)
    assert wire.look(at(1)) == ["alert"]
    desired(wire, at(2), *left, by="ann@desk")
    wire.restart(from_a_checkpoint=True)
    assert wire.look(at(3)) == ["resolved"]
    message = wire.got[-1]
    assert message.title == "no longer watched: CRITICAL fx/EUR_USD POSITION_MISMATCH"
    assert message.severity is Severity.CRITICAL
    assert "taken out of the configuration by ann@desk, and not resolved" in message.body
    assert wire.look(at(99_999)) == []

    desired(wire, at(100_000), "fx", FX)
    assert wire.look(at(100_001)) == ["alert"]
    wire.ends(now=at(100_002))
    assert wire.look(at(100_003)) == ["resolved"]
    assert wire.got[-1].title.startswith("resolved: ")
    assert wire.look(at(100_004)) == []
    assert wire.router.subjects == {}
    assert len({message.id for message in wire.got}) == len(wire.got)


def test_an_instrument_that_its_account_found_itself_is_watched_whatever_the_configuration_names() -> None:
    wire = Wire()
    desired(wire, at(0), "fx")
    wire.opens()
    wire.look(at(1))
    desired(wire, at(2), "fx", "opt")
    assert wire.look(at(3)) == []
    desired(wire, at(4), "opt")
    assert wire.look(at(5)) == ["resolved"]
    wire.say(EventType.ACTOR_STARTED, {"actor": FX}, at(6), Severity.INFO, "supervisor")
    assert wire.look(at(7)) == ["alert"]


def test_what_happens_again_while_its_end_is_on_its_way_is_sent_again() -> None:
    wire = Wire()
    lost = {"account": "fx", "connection": "UNREACHABLE", "reason": "refused"}
    wire.say(EventType.CONNECTION_LOST, lost, at(36_000), Severity.WARNING, "fx")
    wire.look(at(36_000))
    wire.say(EventType.CONNECTION_RESTORED, {"account": "fx"}, at(36_030), Severity.INFO, "fx")
    (ended,) = wire.router.due(at(36_031))
    wire.say(EventType.CONNECTION_LOST, lost, at(36_032), Severity.WARNING, "fx")
    wire.say(EventType.ALERT_DELIVERED, ended.delivered(), at(36_033), Severity.INFO, "alerts")
    assert wire.look(at(36_034)) == ["alert"]


def worked(wire: Wire, kind: EventType, now: datetime, **terms: Any) -> None:
    wire.say(kind, {"id": "b1", "by": "ann@desk", **terms}, now, Severity.INFO, FX)


def test_a_proposal_waits_for_another_person_so_reminders_go_on_and_say_so() -> None:
    wire = Wire()
    wire.opens()
    wire.look(at(0))
    wire.acknowledged("b1", at(90_000), at(1))
    worked(wire, EventType.BREAK_PROPOSED, at(2))
    assert wire.look(at(1800)) == ["reminder"]
    assert "ann@desk proposed its correction: another person has to approve it" in wire.got[-1].body
    wire.opens(now=at(1900), since=at(0), broker_value="50")
    assert wire.look(at(3600)) == ["reminder"]
    assert "proposed" not in wire.got[-1].body


def test_an_acknowledgement_outlives_that_the_break_becomes_less_grave() -> None:
    wire = Wire()
    wire.opens(severity=Severity.CRITICAL)
    wire.look(at(0))
    wire.acknowledged("b1", at(9000), at(1))
    wire.opens(now=at(2), since=at(0), severity=Severity.WARNING)
    assert wire.look(at(8999)) == []
    assert wire.look(at(9000)) == ["reminder"]


def test_who_has_it_is_said_until_nobody_has() -> None:
    wire = Wire()
    wire.opens()
    wire.look(at(0))
    worked(wire, EventType.BREAK_ASSIGNED, at(1), owner="ben")
    wire.look(at(1800))
    assert "ben has it" in wire.got[-1].body
    worked(wire, EventType.BREAK_ASSIGNED, at(1801), unassigned=True)
    wire.look(at(3600))
    assert "has it" not in wire.got[-1].body


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["opens", "ends", "look", "restart", "checkpoint", "fails", "works", "graver"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@given(_STEPS, st.integers(1, 4))
def test_whatever_fails_and_restarts_each_break_is_sent_once_and_its_end_once(
    steps: list[tuple[str, int]], digest_above: int
) -> None:
    wire = Wire(replace(ONLY, digest_above=digest_above, remind_every=None))
    lives: dict[str, bool] = {}
    count = 0
    for second, (step, number) in enumerate(steps):
        now = at(second)
        living = [own_id for own_id, lasts in lives.items() if lasts]
        match step:
            case "opens":
                count += 1
                lives[f"b{count}"] = True
                wire.opens(f"b{count}", now)
            case "ends" if living:
                own_id = living[number % len(living)]
                lives[own_id] = False
                wire.ends(own_id, now)
            case "look":
                wire.look(now)
            case "restart" | "checkpoint":
                wire.restart(from_a_checkpoint=step == "checkpoint")
            case "fails" | "works":
                wire.takes = step == "works"
    wire.takes = True
    for minute in range(1, 40):
        wire.look(at(1000 + 60 * minute))
    for own_id, lasts in lives.items():
        phases = [one.over for message in wire.got for one in message.about if one.id == own_id]
        # Open and then over; or, where it was over before it could be sent, that alone.
        assert phases in ([[False]] if lasts else [[False, True], [True]])
    assert set(wire.router.subjects) == {own_id for own_id, lasts in lives.items() if lasts}


def test_a_route_that_takes_nothing_has_no_more_than_so_many_under_way_and_hears_all_in_the_end() -> None:
    wire = Wire(replace(ONLY, digest_above=1000))
    for number in range(300):
        wire.opens(f"b{number}")
    under_way = wire.router.due(at(0))
    assert len(under_way) <= UNDER_WAY_AT_MOST + 1
    assert wire.router.due(at(1)) == []
    for message in under_way:
        wire.router.gave_up(message)
    for second in range(2, 200):
        wire.look(at(60 * second))
    assert {one.id for message in wire.got for one in message.about} == {f"b{n}" for n in range(300)}
