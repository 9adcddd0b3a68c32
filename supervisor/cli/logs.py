"""Logging of the command line: to standard error, so that standard output holds only results, and to a file if the
configuration names one.

A traceback shows no values of variables, which may be secrets. Libraries' messages about their own retries and
connections appear only with ``--verbose``: a command's result describes those better. A log file is bounded by its
size, its age, and the number of old files kept.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record

    from supervisor.config.models import LogSettings

_TERMINAL = "<dim>{time:HH:mm:ss!UTC}</dim> <level>{level: <8}</level> {message}"
_FILE = "{time:YYYY-MM-DDTHH:mm:ss.SSS!UTC}Z {level: <8} {message}"
_CHATTY = {
    "stamina": logging.ERROR,  # each retry; the last failure is in the result
    "oandapyV20": logging.CRITICAL,  # each request, and each refused one a second time
    "urllib3": logging.ERROR,
    "asyncio": logging.ERROR,
    # The subjects of its messages are handled in actors.runtime.ray_session, and by our own handling of signals.
    "ray._private.authentication.authentication_token_setup": logging.ERROR,
    "ray._private.worker": logging.ERROR,
}


class _ToLoguru(logging.Handler):
    """Passes the log messages of libraries to our own log."""

    def emit(self, record: logging.LogRecord) -> None:
        """One message."""
        level = record.levelname if record.levelname in logging.getLevelNamesMapping() else "WARNING"
        message = f"{record.name}: {record.getMessage()}"
        logger.opt(exception=record.exc_info, depth=6).log(level, "{}", message)


def _to_standard_error(text: str) -> None:
    sys.stderr.write(text)


def _as_json(record: Record) -> str:
    """One JSON document a line: ``time``, ``level``, ``message``, and ``exception`` where there is one."""
    said = {
        "time": record["time"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "level": record["level"].name,
        "message": record["message"],
    }
    if record["exception"] is not None:
        said["exception"] = "".join(traceback.format_exception(record["exception"].value))
    record["extra"]["json"] = json.dumps(said, ensure_ascii=False)
    return "{extra[json]}\n"


def set_up(level: str, *, verbose: bool = False, bare: bool = False, settings: LogSettings | None = None) -> None:
    """Log from ``level`` on to standard error; with ``verbose`` from DEBUG on, libraries included. ``bare`` lines have
    neither time nor level, for a reader that adds them. ``settings`` decide whether the log is JSON (never on a
    terminal), and which file receives it too."""
    terminal = sys.stderr.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    as_json = settings is not None and settings.format == "json" and not terminal and not bare
    least = "DEBUG" if verbose else level
    logger.remove()
    logger.add(
        # A function, so that a standard error replaced later (by a test, by a redirection) is the one written to.
        _to_standard_error,
        level=least,
        format=_as_json if as_json else "{message}" if bare else _TERMINAL if terminal else _FILE,
        colorize=colour,
        diagnose=False,
        backtrace=False,
    )
    if settings is not None and settings.file is not None:
        to_file(Path(settings.file), settings, least)
    libraries(verbose=verbose)


def libraries(*, verbose: bool) -> None:
    """Route the log messages of libraries into our own log."""
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.INFO if verbose else logging.WARNING, force=True)
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(logging.NOTSET if verbose else least)


class _Rotation:
    """When a log file is rotated: before a line that would make it longer than ``bytes_``, or that is in another period
    of ``period_s`` than the line before, also across restarts."""

    def __init__(self, path: Path, bytes_: int, period_s: float) -> None:
        self._bytes = bytes_
        self._period_s = period_s
        self._last_s = path.stat().st_mtime if path.exists() and path.stat().st_size else None

    def __call__(self, message: Message, file: TextIO) -> bool:
        now_s = message.record["time"].timestamp()
        last_s, self._last_s = self._last_s, now_s
        file.seek(0, os.SEEK_END)  # tell() is unreliable before the first write
        held = file.tell()
        if held and last_s is not None and int(now_s // self._period_s) != int(last_s // self._period_s):
            return True
        return held > 0 and held + len(message.encode()) > self._bytes


def to_file(path: Path, settings: LogSettings, level: str, *, with_standard_error: bool = False) -> int:
    """Also log to a file, readable by its owner alone; returns a handle for :func:`loguru.logger.remove`. With
    ``with_standard_error``, everything else that writes to standard error (the interpreter, a library in C) goes into
    the same file, also after a rotation, and our own lines go there once. Raises ``OSError`` where it cannot be
    written."""

    def opener(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | os.O_APPEND, 0o600)
        if with_standard_error:
            os.dup2(descriptor, 2)
        return descriptor

    if with_standard_error:
        logger.remove()
    path.parent.mkdir(parents=True, exist_ok=True)
    return logger.add(
        path,
        level=level,
        format=_as_json if settings.format == "json" else _FILE,
        rotation=_Rotation(path, int(settings.rotate_mb * 1_000_000), settings.rotate_h * 3600),
        retention=settings.keep,
        opener=opener,
        diagnose=False,
        backtrace=False,
        encoding="utf-8",
    )


def to_lines(take: Callable[[str, str], None], level: str) -> int:
    """Log to ``take(level, message)`` instead of the screen, which shows something else; returns a handle for
    :func:`loguru.logger.remove`."""

    def sink(message: Any) -> None:
        record: Record = message.record
        take(record["level"].name, record["message"])

    logger.remove()
    return logger.add(sink, level=level, format="{message}", diagnose=False, backtrace=False)
