"""Who runs the actors: configuration, the supervisor, the command line (``python -m supervisor --help``), and the
handle: :func:`supervisor.connect` reaches a running supervisor from a strategy or a notebook.

Importing this package imports nothing else: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.changes.requests import ChangeRefused
    from supervisor.changes.transaction import ChangeNotMade
    from supervisor.client.aio import AsyncHandle
    from supervisor.client.blocking import Handle, Instrument, Venue
    from supervisor.client.breaks import BreakNotChanged
    from supervisor.client.connecting import connect
    from supervisor.client.features import PositionFeatures
    from supervisor.client.instrument import AsyncInstrument, AsyncVenue
    from supervisor.client.reports import FillReport, OrderReport, PositionReport
    from supervisor.client.starting import start
    from supervisor.config.errors import ConfigurationError
    from supervisor.errors import (
        HaltNotDurable,
        HandleError,
        InvalidReport,
        NotAnswered,
        NotConnected,
        NotRecorded,
        NotRunning,
        NotStarted,
        RayConflict,
        UnknownName,
    )

__all__ = [
    "AsyncHandle",
    "AsyncInstrument",
    "AsyncVenue",
    "BreakNotChanged",
    "ChangeNotMade",
    "ChangeRefused",
    "ConfigurationError",
    "FillReport",
    "HaltNotDurable",
    "Handle",
    "HandleError",
    "Instrument",
    "InvalidReport",
    "NotAnswered",
    "NotConnected",
    "NotRecorded",
    "NotRunning",
    "NotStarted",
    "OrderReport",
    "PositionFeatures",
    "PositionReport",
    "RayConflict",
    "UnknownName",
    "Venue",
    "connect",
    "start",
]

_ERRORS = (
    "HaltNotDurable", "HandleError", "InvalidReport", "NotAnswered", "NotConnected", "NotRecorded", "NotStarted",
    "RayConflict", "UnknownName",
)  # fmt: skip
_HOMES = {
    "AsyncHandle": "client.aio",
    "AsyncInstrument": "client.instrument",
    "AsyncVenue": "client.instrument",
    "BreakNotChanged": "client.breaks",
    "ChangeNotMade": "changes.transaction",
    "ChangeRefused": "changes.requests",
    "ConfigurationError": "config.errors",
    "FillReport": "client.reports",
    "Handle": "client.blocking",
    "Instrument": "client.blocking",
    "NotRunning": "errors",
    "OrderReport": "client.reports",
    "PositionFeatures": "client.features",
    "PositionReport": "client.reports",
    "Venue": "client.blocking",
    "connect": "client.connecting",
    "start": "client.starting",
    **dict.fromkeys(_ERRORS, "errors"),
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
