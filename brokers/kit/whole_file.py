"""Writes files that are there whole or not at all, and durable once they are there.

* A file is written beside its place (``NAME.PID.tmp``), made durable, and moved into it: a crash at any moment leaves
  the old file or the new one. A draft is removed after any failure but a crash.
* Its mode is the requested one, whatever the process's mask.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def write_whole(file: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put ``content`` in the place of the file; it is on disk when this returns. Raises ``OSError``."""
    with new_file(file, mode=mode) as out:
        out.write(content)


@contextlib.contextmanager
def new_file(file: Path, *, mode: int = 0o600, replace: bool = True) -> Iterator[BinaryIO]:
    """A file to write to that takes its place at the end of the block; after a failure in the block everything is as
    before. Raises ``OSError``, also where something other than a regular file is there. Without ``replace`` that is
    ``FileExistsError`` where such a file has appeared meanwhile."""
    # Named before it is made, so that an interrupt at any moment knows what to remove.
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    if file.exists() and not file.is_file():  # a device would be gone, for everybody
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    try:
        draft.unlink(missing_ok=True)  # left by a killed process with the same number
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "wb", buffering=1 << 20) as out:
            os.fchmod(out.fileno(), mode)
            yield out
            out.flush()
            os.fsync(out.fileno())
        _name(draft, file, replace=replace)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    sync(file.parent)  # else a power cut may bring back what was replaced


def _name(draft: Path, file: Path, *, replace: bool) -> None:
    if replace:
        draft.replace(file)
        return
    try:
        # A link is refused where the name is taken meanwhile; a rename would replace what is there.
        os.link(draft, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        draft.rename(file)


def append_durably(file: Path, text: str, *, mode: int = 0o600) -> None:
    """Append to a file, which is made with ``mode`` where there is none; on disk when this returns. The text is
    appended in one piece, so that a copy made meanwhile has whole lines; a disk that takes a part of it gets none.
    Raises ``OSError``."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, mode)
    try:
        before, data = os.fstat(descriptor).st_size, text.encode()
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Make durable a file that another program wrote, or the names in a directory. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
