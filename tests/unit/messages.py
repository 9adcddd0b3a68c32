"""What actors say to each other, found from the annotations of their public methods: every dataclass, enumeration and
model that is reached, with its fields or words, and the methods with their parameters.

    python -m tests.unit.messages > tests/unit/golden_messages/NUMBER.json
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel

from brokers.versions import MESSAGES

ACTORS = (
    "actors.account.actor:Account",
    "actors.alerts.actor:Alerts",
    "actors.delta.sink_actor:SinkActor",
    "actors.instrument.actor:Instrument",
    "actors.journal.actor:Audit",
    "actors.runtime.cell:Cell",
    "supervisor.supervision.actor:Supervisor",
)
BESIDE = ("supervisor.changes.applied_configuration:Run", "supervisor.supervision.local_door:Door")
"""What Ray keeps of a supervisor, to make it again in another process."""
NAMED_WHERE_USED = (
    "actors.delta.sink_actor",
    "supervisor.changes.transaction",
    "supervisor.supervision.draining",
    "supervisor.supervision.rolling",
)
_OURS = ("brokers", "actors", "supervisor")


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _hints(of: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(of)
    except NameError:  # it names what only a type checker imports
        found: dict[str, Any] = {}
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in _OURS:
                found = vars(module) | found
        return typing.get_type_hints(of, localns=found)


def _methods(actor: type) -> Iterator[tuple[str, Any]]:
    return ((name, one) for name, one in inspect.getmembers(actor, inspect.isfunction) if not name.startswith("_"))


def types_said() -> list[type]:
    """Every type of ours that crosses from one process to another, by its full name."""
    for module in NAMED_WHERE_USED:
        importlib.import_module(module)
    found: set[type] = set()

    def walk(said: Any) -> None:
        origin = typing.get_origin(said)
        for part in (*typing.get_args(said), *([origin] if origin is not None else [])):
            for one in part if isinstance(part, list | tuple) else (part,):
                walk(one)
        if isinstance(said, typing.NewType):
            walk(said.__supertype__)
        if isinstance(said, types.GenericAlias) or not isinstance(said, type) or said in found:
            return
        if said.__module__.partition(".")[0] not in _OURS:
            return
        found.add(said)
        if not issubclass(said, Enum):
            for one in _hints(said).values():
                walk(one)

    for place in ACTORS:
        for _, method in _methods(_named(place)):
            for said in _hints(method).values():
                walk(said)
    for place in BESIDE:
        walk(_named(place))
    kept = (one for one in found if is_dataclass(one) or issubclass(one, Enum | BaseModel))
    return sorted(kept, key=name_of)


def name_of(said: type) -> str:
    """As pickle finds it."""
    return f"{said.__module__}.{said.__qualname__}"


def _described(said: Any) -> list[str]:
    """Its fields in order, those with a default with a ``=``; the words of an enumeration."""
    if issubclass(said, Enum):
        return [f"{one.name} {one.value}" for one in said]
    if issubclass(said, BaseModel):
        return sorted(f"{name}{'' if one.is_required() else '='}" for name, one in said.model_fields.items())
    optional = [one for one in fields(said) if one.default is not MISSING or one.default_factory is not MISSING]
    return [f"{one.name}{'=' if one in optional else ''}" for one in fields(said)]


def _parameters(method: Any) -> list[str]:
    found = list(inspect.signature(method).parameters.values())[1:]
    return [f"{one.name}{'' if one.default is inspect.Parameter.empty else '='}" for one in found]


def vocabulary() -> dict[str, Any]:
    """All of it, as the golden files keep it."""
    methods = {
        f"{place.partition(':')[2]}.{name}": _parameters(method)
        for place in ACTORS
        for name, method in _methods(_named(place))
    }
    return {
        "messages": MESSAGES,
        "types": {name_of(one): _described(one) for one in types_said()},
        "methods": dict(sorted(methods.items())),
    }


if __name__ == "__main__":
    print(json.dumps(vocabulary(), indent=1))
