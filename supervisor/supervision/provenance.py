"""What runs, as journaled at each start: the program's version, its user and process, every package, and the
configuration in force, so that the same code can make a decision again later. It contains no secret."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import Distribution, distributions

from actors.events import Json
from brokers.versions import program_version
from supervisor.changes.asking import user_name
from supervisor.changes.shown_configuration import shown
from supervisor.config.models import Configuration


def provenance(configuration: Configuration) -> dict[str, Json]:
    """The program, the user and the process that run it, Python, the version of every package, and the configuration as
    it may be shown."""
    packages: dict[str, Json] = dict(installed_packages())
    return {
        "program": program_version(),
        "user": user_name(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "packages": packages,
        "configuration": shown(configuration),
    }


@cache
def installed_packages() -> tuple[tuple[str, str], ...]:
    """The packages that were installed at this process's first call: the ones it runs."""
    found = dict(filter(None, map(_name_and_version, distributions())))
    return tuple((name, found[name]) for name in sorted(found, key=str.lower))


def _name_and_version(package: Distribution) -> tuple[str, str] | None:
    """By the head of its metadata alone. :mod:`importlib.metadata` parses the description that follows it, too, once
    for each question, which for all packages took a third of a second before the first actor was started."""
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or package.read_text("") or ""
    fields = dict(line.partition(": ")[::2] for line in reversed(text.partition("\n\n")[0].splitlines()))
    return (fields["Name"].strip(), fields.get("Version", "").strip()) if fields.get("Name") else None
