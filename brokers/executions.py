"""What a stream may tell beside :class:`brokers.port.Stream`: executions themselves, so that nobody need be asked.

The laws of this module: an execution that is told happened, in the account that the adapter proved to be the configured
one, and that nothing else did is never read from it; one that cannot be read whole, or may be of another account, is
not told, and its event wakes all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from brokers.model import StreamedFill

OnFill = Callable[[StreamedFill], None]
"""This was executed. Called from any thread; must not wait."""


@runtime_checkable
class TellsFills(Protocol):
    """A stream that tells executions."""

    def tell_fills_to(self, on_fill: OnFill | None) -> None:
        """Who is told of each execution from the next start on, before the event that it is too."""
