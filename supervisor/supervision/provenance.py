"""What runs, as journaled at each start: the program's version, its user and process, every package, and the
configuration in force, so that the same code can make a decision again later. It contains no secret."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import distributions

from actors.events import Json
from brokers.versions import program_version
from supervisor.changes.asking import user_name
from supervisor.changes.shown_configuration import shown
from supervisor.config.models import Configuration


def provenance(configuration: Configuration) -> dict[str, Json]:
    """The program, the user and the process that run it, Python, the version of every package, and the configuration as
    it may be shown."""
    packages: dict[str, Json] = dict(_packages())
    return {
        "program": program_version(),
        "user": user_name(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "packages": packages,
        "configuration": shown(configuration),
    }


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    """The packages that were installed at this process's first call: the ones it runs."""
    found = {str(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}
    return tuple((name, found[name]) for name in sorted(found, key=str.lower))
