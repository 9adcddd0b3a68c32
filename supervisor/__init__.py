"""Who runs the actors: configuration, the supervisor, the command line (``python -m supervisor --help``), and the
handle: :func:`supervisor.connect` reaches a running supervisor from a strategy or a notebook.

Importing this package imports nothing else: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor.change_requests import ChangeRefused
    from supervisor.changing import ChangeNotMade
    from supervisor.config_errors import ConfigurationError
    from supervisor.features import PositionFeatures
    from supervisor.handle import Handle, Instrument, Venue, connect
    from supervisor.handle_async import AsyncHandle
    from supervisor.handle_errors import (
        HaltNotDurable,
        HandleError,
        InvalidReport,
        NotAnswered,
        NotConnected,
        NotRecorded,
        RayConflict,
        UnknownName,
    )
    from supervisor.handle_instrument import AsyncInstrument, AsyncVenue
    from supervisor.report_models import FillReport, OrderReport, PositionReport
    from supervisor.running import NotRunning

__all__ = [
    "AsyncHandle",
    "AsyncInstrument",
    "AsyncVenue",
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
    "OrderReport",
    "PositionFeatures",
    "PositionReport",
    "RayConflict",
    "UnknownName",
    "Venue",
    "connect",
]

_ERRORS = (
    "HaltNotDurable", "HandleError", "InvalidReport", "NotAnswered", "NotConnected", "NotRecorded", "RayConflict",
    "UnknownName",
)  # fmt: skip
_HOMES = {
    "AsyncHandle": "handle_async",
    "AsyncInstrument": "handle_instrument",
    "AsyncVenue": "handle_instrument",
    "ChangeNotMade": "changing",
    "ChangeRefused": "change_requests",
    "ConfigurationError": "config_errors",
    "FillReport": "report_models",
    "Handle": "handle",
    "Instrument": "handle",
    "NotRunning": "running",
    "OrderReport": "report_models",
    "PositionFeatures": "features",
    "PositionReport": "report_models",
    "Venue": "handle",
    "connect": "handle",
    **dict.fromkeys(_ERRORS, "handle_errors"),
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
