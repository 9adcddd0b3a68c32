"""The section ``alerts`` of a configuration: who receives which alerts, where and when."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool

from brokers.spec import SecretRef
from supervisor.config.errors import expected
from supervisor.config.values import ActorName, Model, Seconds, TimeZone, text, whole

Kind = Literal[
    "MISSING_LOCALLY", "NAKED_POSITION", "POSITION_MISMATCH", "PRICE_MISMATCH", "STALE_DATA", "ORDER_STATUS_MISMATCH",
    "MISSED_FILL", "ORDER_MISSING", "FILLED_MISMATCH", "EXTERNAL_ORDER", "STALE_ORDER", "ORDER_REJECTED",
    "UNMANAGED_INSTRUMENT", "MALFORMED_DATA", "BOOK_MISMATCH", "DUPLICATE_ORDER", "OVERFILL", "OPPOSITE_LEGS",
    "UNPROTECTED", "OVERSIZED_ORDER", "CONNECTION_LOST", "ACTOR_QUARANTINED", "ACTOR_PENDING", "TRADING_HALTED",
    "CLOCK_STEPPED", "UPGRADE_STOPPED",
]  # fmt: skip
SeverityName = Literal["INFO", "WARNING", "CRITICAL"]
LOOPBACK_URL = re.compile(r"[a-z0-9]+://(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?(/[^\s@]*)?(\?[^\s]*)?")
"""URLs that may be written in the file: they open nothing beyond this machine."""


class _Model(Model):
    # Built at first use: every command reads a configuration, and few need this model.
    model_config = ConfigDict(defer_build=True)


def _url(value: Any) -> SecretRef | str:
    if isinstance(value, SecretRef) or (isinstance(value, str) and LOOPBACK_URL.fullmatch(value)):
        return value
    raise expected("an apprise URL as ${NAME} from the environment (one on loopback may stand here)")


def _time_of_day(value: Any) -> time:
    if isinstance(value, time):
        return value
    written = getattr(value, "text", value)
    if not isinstance(written, str) or not re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", written):
        raise expected("a time of day as HH:MM, in quotes")
    hour, minute = written.split(":")
    return time(int(hour), int(minute))


RouteName = Annotated[str, text("a name of letters, digits, _ and -", r"[A-Za-z0-9_-]{1,40}")]


class AlertRoute(_Model):
    """One receiver of alerts. Empty ``types`` and ``accounts`` mean all; ``after_s`` is how old a matter must be to be
    sent."""

    name: RouteName = Field(description="a name for the route")
    url: Annotated[SecretRef | str, BeforeValidator(_url)] = Field(description="an apprise URL as ${NAME}")
    severity: SeverityName = "WARNING"
    types: tuple[Kind, ...] = ()
    accounts: tuple[ActorName, ...] = ()
    after_s: Seconds | None = None
    heartbeat: StrictBool = True


class QuietHours(_Model):
    """The time of day in which anything less severe than ``below`` waits."""

    begin: Annotated[time, BeforeValidator(_time_of_day)] = Field(description="a time of day as HH:MM")
    end: Annotated[time, BeforeValidator(_time_of_day)] = Field(description="a time of day as HH:MM")
    timezone: TimeZone = "UTC"
    below: SeverityName = "CRITICAL"


class AlertsSettings(_Model):
    """All routes, and their common settings. Without a route there are no alerts."""

    routes: tuple[AlertRoute, ...] = ()
    remind_every_s: Seconds | None = 1800.0
    digest_above: Annotated[int, whole("a whole number from 1 to 1000", 1, 1000)] = 10
    heartbeat_s: Seconds | None = None
    quiet: QuietHours | None = None
