"""What runs, as the journal keeps it at each start: the program's version, its user and process, every package, and the
configuration in force, so that a decision can be made again later by the same code. No secret is among it."""

from __future__ import annotations

import os
import platform
from functools import cache
from importlib.metadata import distributions

from actors.events import Json
from supervisor.changes.asking import program_version, user_name
from supervisor.changes.shown_configuration import shown
from supervisor.config.models import Configuration


def provenance(configuration: Configuration) -> dict[str, Json]:
    """The program, the user and the process that run it, Python, the version of every package, and what was said in the
    configuration."""
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
    """Those that were there when this process first asked: what it runs."""
    found = {str(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}
    return tuple((name, found[name]) for name in sorted(found, key=str.lower))
