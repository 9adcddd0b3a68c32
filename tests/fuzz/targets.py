"""Every target by its name. What makes it is imported when it is made: only what is imported then is watched."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from tests.fuzz.target import Target

TARGETS: Mapping[str, str] = {
    "oanda": "at_brokers:at_oanda",
    "kite": "at_brokers:at_kite",
    "mt5": "at_brokers:at_mt5",
    "ib": "at_brokers:at_ib",
    "gateway": "at_house:at_gateway",
    "configuration": "at_house:at_configuration",
    "record": "at_house:at_record",
    "journal": "at_house:at_journal",
    "evidence": "at_house:at_evidence",
    "files": "at_house:at_files",
    "page": "at_house:at_page",
}


def made(name: str) -> Target:
    """The target of that name."""
    module, _, maker = TARGETS[name].partition(":")
    target: Target = getattr(import_module(f"tests.fuzz.{module}"), maker)()
    return target
