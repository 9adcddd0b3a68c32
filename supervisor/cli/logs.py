"""Logging of the command line: to standard error, so that standard output holds results and nothing else.

No traceback shows the values of variables (they may be secrets), and what libraries say of their own retries and
connections is shown with ``--verbose`` only: the result of a command says it better.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

_TERMINAL = "<dim>{time:HH:mm:ss!UTC}</dim> <level>{level: <8}</level> {message}"
_FILE = "{time:YYYY-MM-DDTHH:mm:ss.SSS!UTC}Z {level: <8} {message}"
_CHATTY = {
    "stamina": logging.ERROR,  # each retry; the last failure is in the result
    "oandapyV20": logging.CRITICAL,  # each request, and each refused one a second time
    "urllib3": logging.ERROR,
    "asyncio": logging.ERROR,
    # What its messages are about is settled in actors.ray_edge, and by our own handling of signals.
    "ray._private.authentication.authentication_token_setup": logging.ERROR,
    "ray._private.worker": logging.ERROR,
}


class _ToLoguru(logging.Handler):
    """Hands what libraries log on to our own log."""

    def emit(self, record: logging.LogRecord) -> None:
        """One message."""
        level = record.levelname if record.levelname in logging.getLevelNamesMapping() else "WARNING"
        message = f"{record.name}: {record.getMessage()}"
        logger.opt(exception=record.exc_info, depth=6).log(level, "{}", message)


def _to_standard_error(text: str) -> None:
    sys.stderr.write(text)


def set_up(level: str, *, verbose: bool = False, bare: bool = False) -> None:
    """Log from ``level`` on to standard error; ``verbose`` from DEBUG on, libraries included. ``bare`` lines have
    neither time nor level, for somebody who adds them."""
    terminal = sys.stderr.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    logger.remove()
    logger.add(
        # A function, so that a standard error replaced later (by a test, by a redirection) is the one written to.
        _to_standard_error,
        level="DEBUG" if verbose else level,
        format="{message}" if bare else _TERMINAL if terminal else _FILE,
        colorize=colour,
        diagnose=False,
        backtrace=False,
    )
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.INFO if verbose else logging.WARNING, force=True)
    for name, least in _CHATTY.items():
        logging.getLogger(name).setLevel(logging.NOTSET if verbose else least)


def to_lines(take: Callable[[str, str], None], level: str) -> int:
    """Log to ``take(level, message)`` instead of to the screen, which something else is drawn on; gives a handle for
    :func:`loguru.logger.remove`."""

    def sink(message: Any) -> None:
        record: Record = message.record
        take(record["level"].name, record["message"])

    logger.remove()
    return logger.add(sink, level=level, format="{message}", diagnose=False, backtrace=False)
