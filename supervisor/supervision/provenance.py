"""What runs, as the journal keeps it at each start: the program's version, its user and process, and every package, so
that a decision can be made again later by the same code. No secret and no path is among it."""

from __future__ import annotations

import getpass
import os
import platform
from importlib.metadata import PackageNotFoundError, distributions, version

from actors.events import Json


def program_version() -> str:
    """The version of this program; ``unknown`` where it runs without being installed."""
    try:
        return version("reconciliation-supervisor")
    except PackageNotFoundError:
        return "unknown"


def provenance() -> dict[str, Json]:
    """The program, the user and the process that run it, Python, and the version of every package."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    found = {str(one.metadata["Name"]): one.version for one in distributions() if one.metadata["Name"]}
    packages: dict[str, Json] = {name: found[name] for name in sorted(found, key=str.lower)}
    return {
        "program": program_version(),
        "user": user,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "packages": packages,
    }
