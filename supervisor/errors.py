"""What can go wrong with the handle, by remedy. Each error says what was attempted and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.book.trading_permission import Halted


class NotRunning(Exception):
    """No supervisor was found. ``looked_for`` is where, ``remedy`` how to start one."""

    def __init__(self, looked_for: str, remedy: str) -> None:
        super().__init__(looked_for, remedy)
        self.looked_for = looked_for
        self.remedy = remedy

    def __str__(self) -> str:
        return f"no supervisor is running: {self.looked_for}. {self.remedy}"


class HandleError(Exception):
    """The base of all of them."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class NotConnected(HandleError):
    """The handle was closed: connect again."""


class NotStarted(HandleError):
    """A supervisor did not start; nothing of it runs."""


class RayConflict(HandleError):
    """Ray in this process does not fit: it is connected to another cluster than the supervisor's, or was imported with
    other settings than that one needs."""


class UnknownName(HandleError, LookupError):
    """There is no such account or instrument; the message names those there are."""


class InvalidReport(HandleError, ValueError):
    """The report cannot be taken as it is; nothing of it was recorded."""


class NotRecorded(HandleError):
    """It is not known whether the report is durable. Report the same again: what is in counts once."""


class HaltNotDurable(NotRecorded):
    """Trading is halted now, and the journal does not have it yet: a crash of the supervisor could lose it. Halt
    again. ``result`` is what came of it."""

    def __init__(self, message: str, result: Halted) -> None:
        super().__init__(message)
        self.result = result


class NotAnswered(HandleError):
    """An actor, or the journal, did not answer in time. Nothing is known; ask again."""


def no_account(name: str, known: Iterable[str]) -> UnknownName:
    """There is no account of that name."""
    return UnknownName(f"there is no account {name!r} here. There are: {', '.join(known) or 'none'}")


def no_instrument(account: str, name: str, known: Iterable[str]) -> UnknownName:
    """An account has no instrument of that name."""
    return UnknownName(f"account {account} has no instrument {name!r}. It has: {', '.join(known) or 'none'}")
