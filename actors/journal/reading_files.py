"""How a SQLite file is opened by who only reads it: beside its writer, on a copy, where this user may write nothing.

SQLite reads a file in WAL mode by way of an index beside its log, which it makes where there is none. Where this user
may not make it, and there is no log that holds anything, the file is read as one that nobody changes: a writer has a
log for as long as it lives.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def reading_uri(file: Path) -> str:
    """The URI by which SQLite opens the file for reading alone."""
    still = "&immutable=1" if _at_rest(file) and not _may_write(file.parent) else ""
    return f"file:{quote(str(file))}?mode=ro{still}"


def _at_rest(file: Path) -> bool:
    log, index = (file.with_name(file.name + ending) for ending in ("-wal", "-shm"))
    try:
        return not log.stat().st_size and not index.exists()
    except OSError:
        return not index.exists()


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
