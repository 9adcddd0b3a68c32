"""Who is alerted to what, and when: a fold of the journal, and the messages due at a time. Pure.

The laws of this module:

* One alert for each subject and route; then regular reminders until a person takes it or it ends; then one "resolved".
  A subject that leaves the configuration unresolved is reported once as no longer watched, and never as resolved.
* Only the journal (ALERT_DELIVERED) makes a message known as delivered, so that a restart repeats none that was
  delivered, and loses none that was not.
* What a broker's known maintenance explains is reported once for the account, calmly; what outlives it is reported in
  full.
* Above a limit of messages a minute, the less grave ones are combined into one digest a minute. None is dropped. A
  CRITICAL one never waits for less grave ones: only other CRITICAL messages count towards its limit.
* In quiet hours, what is less grave than their threshold waits for their end.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterable, Mapping, Set
from dataclasses import field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from actors.alerts.subjects import DEGRADING, GRAVITY, Subject, of_record, subject_from, subject_to
from actors.alerts.windows import Window, maintenance
from actors.events import EventType, Json, Record, Severity, from_iso, to_iso
from brokers.frozen import dataclass

_MINUTE = timedelta(minutes=1)
_CALM_KEPT = timedelta(days=2)
_FINGERPRINT = re.compile(r" [0-9a-f]{16}$")
LINES_OF_A_DIGEST = 40
SUBJECTS_OF_A_DIGEST = 500
UNDER_WAY_AT_MOST = 20
"""The number of messages of a route that are being sent at once: later ones wait here, and are not lost."""


class MessageKind(StrEnum):
    """The purpose of a message."""

    ALERT = "alert"
    REMINDER = "reminder"
    RESOLVED = "resolved"
    CALM = "calm"  # explained by the broker's maintenance
    DIGEST = "digest"
    HEARTBEAT = "heartbeat"


@dataclass(frozen=True, slots=True)
class Route:
    """One receiver of alerts: of subjects that are at least this grave, of these kinds and accounts (empty: all), and
    this old. ``heartbeat``: it receives heartbeats too."""

    name: str
    severity: Severity = Severity.WARNING
    kinds: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()
    after: timedelta = timedelta()
    heartbeat: bool = True

    def wants(self, subject: Subject) -> bool:
        """Whether a subject concerns this route at all."""
        grave = GRAVITY[subject.severity] >= GRAVITY[self.severity]
        kind = not self.kinds or subject.kind in self.kinds
        return grave and kind and (not self.accounts or subject.account in self.accounts)


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """The common settings of the routes. ``remind_every`` and ``heartbeat_every`` of ``None`` mean never; ``quiet``
    holds back what is less grave than ``quiet_below``; ``brokers`` are the accounts' brokers, by account name."""

    routes: tuple[Route, ...]
    brokers: Mapping[str, str] = field(default_factory=dict)
    remind_every: timedelta | None = timedelta(minutes=30)
    digest_above: int = 10
    heartbeat_every: timedelta | None = None
    quiet: Window | None = None
    quiet_below: Severity = Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Heard:
    """A subject as reported in a message."""

    id: str
    severity: Severity
    over: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A message for a route. The same message has the same id whenever it is made again."""

    id: str
    route: str
    kind: MessageKind
    severity: Severity
    title: str
    body: str
    about: tuple[Heard, ...] = ()
    window: str = ""

    def delivered(self) -> dict[str, Json]:
        """The payload of its ALERT_DELIVERED: what its route is known to have received."""
        about: list[Json] = [[one.id, one.severity.value, one.over] for one in self.about]
        payload: dict[str, Json] = {"message": self.id, "route": self.route, "kind": self.kind.value}
        payload |= {"title": self.title, "about": about}
        return payload | ({"window": self.window} if self.window else {})


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a route has received about a subject: when last, at which severity, how often, whether calmly, and whether
    its end."""

    at: datetime
    severity: Severity
    times: int = 1
    calm: bool = False
    over: bool = False


class Router:
    """The state of all routes. :meth:`feed` it every record in order, call :meth:`due`, and :meth:`gave_up` for a
    message that could not be delivered now."""

    def __init__(self, settings: RouterSettings) -> None:
        self.settings = settings
        self.subjects: dict[str, Subject] = {}
        self._last_delivered: dict[tuple[str, str], Delivered] = {}
        self._under_way: dict[str, Message] = {}
        self._sent: dict[str, deque[tuple[datetime, bool]]] = {}  # when, and whether it was critical
        self._digest_at: dict[str, datetime] = {}
        self._calm: dict[tuple[str, str], datetime] = {}
        self._beat_at: dict[str, datetime] = {}
        self._desired: set[str] = set()

    # Records

    def feed(self, record: Record) -> None:
        """Add one record."""
        if record.event.type is EventType.ALERT_DELIVERED:
            self._delivered(record.event.payload, record.event.time)
            return
        if record.event.type is EventType.CONFIGURATION_CHANGED:
            self._configured(record.event.payload)
            return
        if record.event.type is EventType.ACTOR_STARTED:
            self._looked_at_again({str(record.event.payload.get("actor"))})
        found = of_record(record, self.subjects)
        if found is None:
            return
        before = self.subjects.get(found.id)
        if before is not None and before.ended is not None and found.ended is None:
            self._forget(found.id)  # it happens again: that is reported like any other
        self.subjects[found.id] = found

    def _configured(self, payload: Mapping[str, Any]) -> None:
        """Note what left the configuration, and what came (back) into it. Discovered instruments are in no
        configuration: they leave with their account, and are back when they are started."""
        named = payload.get("desired")
        if not isinstance(named, list):
            return
        desired = {_FINGERPRINT.sub("", str(words)) for words in named}
        left, self._desired = self._desired - desired, desired
        self._looked_at_again(desired)
        by = f" by {payload['by']}" if payload.get("by") else ""
        for own_id, subject in self.subjects.items():
            if not subject.over and not left.isdisjoint({subject.where, subject.account}):
                words = f"no longer checked: taken out of the configuration{by}, and not resolved"
                self.subjects[own_id] = replace(subject, dropped=words)

    def _looked_at_again(self, names: Set[str]) -> None:
        for own_id, subject in self.subjects.items():
            if subject.dropped is not None and subject.where in names:
                self.subjects[own_id] = replace(subject, dropped=None)

    def _delivered(self, payload: Mapping[str, Any], at: datetime) -> None:
        route, kind = str(payload["route"]), MessageKind(payload["kind"])
        self._under_way.pop(str(payload["message"]), None)
        critical = any(severity == Severity.CRITICAL for _, severity, _ in payload["about"])
        self._sent.setdefault(route, deque()).append((at, critical))
        if kind is MessageKind.DIGEST:
            self._digest_at[route] = at
        if kind is MessageKind.CALM:
            self._calm[route, str(payload["window"])] = at
        for own_id, severity, over in payload["about"]:
            if own_id in self.subjects:
                before = self._last_delivered.get((route, own_id))
                times = 1 if before is None else before.times + 1
                calm = kind is MessageKind.CALM
                self._last_delivered[route, str(own_id)] = Delivered(at, Severity(severity), times, calm, bool(over))

    def _forget(self, own_id: str) -> None:
        self.subjects.pop(own_id, None)
        for route in self.settings.routes:
            self._last_delivered.pop((route.name, own_id), None)

    def sent(self, message: Message) -> None:
        """The message was delivered. Its record in the journal says so to the route; a heartbeat has no record."""
        if message.kind is MessageKind.HEARTBEAT:
            self._under_way.pop(message.id, None)

    def gave_up(self, message: Message) -> None:
        """The message is no longer being sent: its subjects are due again."""
        self._under_way.pop(message.id, None)

    # Messages

    def due(self, now: datetime) -> list[Message]:
        """The messages to send now, the gravest first; from then on they count as being sent."""
        self._forget_what_is_over(now)
        messages: list[Message] = []
        for route in self.settings.routes:
            messages += self._of_route(route, now)
        for message in messages:
            self._under_way[message.id] = message
        return sorted(messages, key=lambda message: -GRAVITY[message.severity])

    def _of_route(self, route: Route, now: datetime) -> list[Message]:
        messages = self._heartbeat(route, now)
        under_way = [one for one in self._under_way.values() if one.route == route.name]
        busy = {one.id for message in under_way for one in message.about}
        room = UNDER_WAY_AT_MOST - len(under_way)
        wanted: list[tuple[MessageKind, Subject]] = []
        calm: dict[str, list[Subject]] = {}
        for subject in list(self.subjects.values()):
            if subject.id in busy:
                continue
            kind = self._what(route, subject, now)
            if kind is MessageKind.CALM:
                window = maintenance(self.settings.brokers.get(subject.account), now)
                assert window is not None  # noqa: S101 - a calm message needs a window
                calm.setdefault(f"{subject.account}: {window[0]}, {to_iso(window[1])[:16]}Z", []).append(subject)
            elif kind is not None and not self._held_back(subject, now):
                wanted.append((kind, subject))
        if room <= 0:
            return messages
        known = [window for own_route, window in self._calm if own_route == route.name]
        messages += [_calm(route, window, subjects) for window, subjects in calm.items() if window not in known]
        wanted.sort(key=lambda one: (-GRAVITY[one[1].severity], one[1].seq))
        alone = wanted[: max(0, min(room, self._budget(route, now, wanted)))]
        messages += [_message(route, kind, subject, self._times(route, subject)) for kind, subject in alone]
        rest = wanted[len(alone) :][:SUBJECTS_OF_A_DIGEST]
        last = self._digest_at.get(route.name)
        if rest and (last is None or now - last >= _MINUTE) and len(alone) < room:
            messages.append(_digest(route, rest, now))
        return messages

    def _what(self, route: Route, subject: Subject, now: datetime) -> MessageKind | None:
        """The kind of message that a route should receive about a subject now, if any."""
        last = self._last_delivered.get((route.name, subject.id))
        if last is None:
            if subject.dropped is not None or not route.wants(subject):
                return None
            if subject.ended is not None:
                # One that ended before it was reported is still reported, if it was due at once and not taken.
                late = route.after or subject.kind in DEGRADING or subject.owner is not None
                return None if late else MessageKind.ALERT
            if now - subject.since < route.after or _muted(subject, now):
                return None
            return MessageKind.CALM if self._explained(subject, now) else MessageKind.ALERT
        if last.over:  # it may have happened again while that message was being sent
            return None if subject.over else MessageKind.ALERT
        if subject.over:
            return MessageKind.RESOLVED
        if last.calm:
            return None if self._explained(subject, now) else MessageKind.ALERT
        if GRAVITY[subject.severity] > GRAVITY[last.severity]:
            return MessageKind.ALERT
        every = self.settings.remind_every
        if every is None or now - last.at < every or _muted(subject, now) or self._explained(subject, now):
            return None
        return MessageKind.REMINDER

    def _explained(self, subject: Subject, now: datetime) -> bool:
        """Whether the broker's maintenance explains it: it began in a window that is not over yet."""
        if subject.kind not in DEGRADING or subject.ended is not None:
            return False
        window = maintenance(self.settings.brokers.get(subject.account), now)
        return window is not None and subject.since >= window[1]

    def _held_back(self, subject: Subject, now: datetime) -> bool:
        quiet = self.settings.quiet
        less = GRAVITY[subject.severity] < GRAVITY[self.settings.quiet_below]
        return quiet is not None and less and quiet.around(now) is not None

    def _budget(self, route: Route, now: datetime, wanted: list[tuple[MessageKind, Subject]]) -> int:
        """How many of these, the gravest first, get a message each. CRITICAL ones have a limit of their own."""
        sent = self._sent.setdefault(route.name, deque())
        while sent and now - sent[0][0] >= _MINUTE:
            sent.popleft()
        recent = [critical for _, critical in sent]
        recent += [one.severity is Severity.CRITICAL for one in self._under_way.values() if one.route == route.name]
        grave = sum(subject.severity is Severity.CRITICAL for _, subject in wanted)
        return max(self.settings.digest_above - len(recent), min(grave, self.settings.digest_above - sum(recent)))

    def _times(self, route: Route, subject: Subject) -> int:
        last = self._last_delivered.get((route.name, subject.id))
        return 0 if last is None else last.times

    def _heartbeat(self, route: Route, now: datetime) -> list[Message]:
        every, last = self.settings.heartbeat_every, self._beat_at.get(route.name)
        if every is None or not route.heartbeat or (last is not None and now - last < every):
            return []
        self._beat_at[route.name] = now
        lasting = [subject for subject in self.subjects.values() if not subject.over]
        critical = sum(subject.severity is Severity.CRITICAL for subject in lasting)
        text = f"The supervisor is watching. {len(lasting)} open, {critical} of them critical. The next such message "
        text += f"comes in {every.total_seconds():g} s; if it does not, check the supervisor."
        own_id = _id(route.name, "heartbeat", to_iso(now))
        return [Message(own_id, route.name, MessageKind.HEARTBEAT, Severity.INFO, "heartbeat", text)]

    def _forget_what_is_over(self, now: datetime) -> None:
        """Drop subjects that have ended and that no route should receive any more, and old windows of maintenance."""
        for subject in [one for one in self.subjects.values() if one.ended is not None]:
            if all(self._what(route, subject, now) is None for route in self.settings.routes):
                self._forget(subject.id)
        for place in [place for place, at in self._calm.items() if now - at > _CALM_KEPT]:
            del self._calm[place]

    # The state as JSON, for a checkpoint

    def to_json(self) -> dict[str, Json]:
        """The whole state, except for messages being sent: their subjects are due again."""
        desired: list[Json] = [*sorted(self._desired)]
        return {
            "subjects": [subject_to(subject) for subject in self.subjects.values()],
            "told": [
                [route, own_id, to_iso(last.at), last.severity.value, last.times, last.calm, last.over]
                for (route, own_id), last in self._last_delivered.items()
            ],
            "calm": [[route, window, to_iso(at)] for (route, window), at in self._calm.items()],
            "desired": desired,
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Restore what :meth:`to_json` wrote."""
        self.subjects = {one["id"]: subject_from(one) for one in data["subjects"]}
        self._last_delivered = {
            (route, own_id): Delivered(from_iso(at), Severity(severity), times, calm, over)
            for route, own_id, at, severity, times, calm, over in data["told"]
        }
        self._calm = {(route, window): from_iso(at) for route, window, at in data["calm"]}
        self._desired = set(data.get("desired", ()))


_LABELS = {MessageKind.REMINDER: "still open: ", MessageKind.RESOLVED: "resolved: "}


def _muted(subject: Subject, now: datetime) -> bool:
    return subject.muted_until is not None and now < subject.muted_until


def _id(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def _message(route: Route, kind: MessageKind, subject: Subject, times: int) -> Message:
    own_id = _id(route.name, kind, subject.id, to_iso(subject.since), str(times), str(subject.over))
    label = _LABELS.get(kind, "") if subject.dropped is None else "no longer watched: "
    severity = Severity.INFO if subject.ended is not None and kind is MessageKind.RESOLVED else subject.severity
    title = f"{label}{subject.head}"
    return Message(own_id, route.name, kind, severity, title, _body(subject), (_heard(subject),))


def _heard(subject: Subject) -> Heard:
    return Heard(subject.id, subject.severity, subject.over)


def _body(subject: Subject) -> str:
    lines = [subject.text, f"since {to_iso(subject.since)[:19]}Z"]
    if subject.ended is not None:
        lines.append(subject.ended)
    elif subject.dropped is not None:
        lines.append(subject.dropped)
    elif subject.proposed_by is not None:
        lines.append(f"{subject.proposed_by} proposed its correction: another person has to approve it")
    elif subject.owner is not None:
        lines.append(f"{subject.owner} has it")
    if ":" not in subject.id:
        lines.append(f"python -m supervisor breaks show {subject.id[:12]}")
    return "\n".join(lines)


def _calm(route: Route, window: str, subjects: Iterable[Subject]) -> Message:
    listed = list(subjects)
    lines = [f"{one.where} {one.kind}: {one.text}" for one in listed[:LINES_OF_A_DIGEST]]
    body = "This is expected, and is reported again only if it outlives the window.\n" + "\n".join(lines)
    about = tuple(map(_heard, listed))
    own_id = _id(route.name, "calm", window)
    return Message(own_id, route.name, MessageKind.CALM, Severity.INFO, f"maintenance: {window}", body, about, window)


def _digest(route: Route, rest: list[tuple[MessageKind, Subject]], now: datetime) -> Message:
    lines = [
        f"{'' if kind is MessageKind.ALERT else f'{kind}: '}{one.head}: {one.text}"
        for kind, one in rest[:LINES_OF_A_DIGEST]
    ]
    if len(rest) > LINES_OF_A_DIGEST:
        lines.append(f"and {len(rest) - LINES_OF_A_DIGEST} more: python -m supervisor breaks list")
    gravest = rest[0][1].severity
    about = tuple(_heard(one) for _, one in rest)
    title = f"{len(rest)} more, the gravest {gravest}"
    own_id = _id(route.name, "digest", to_iso(now))
    return Message(own_id, route.name, MessageKind.DIGEST, gravest, title, "\n".join(lines), about)
