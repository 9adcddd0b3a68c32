"""Executions that a stream reports itself, beside :class:`brokers.port.Stream`, so that nobody needs to request them.

The laws of this module: a reported execution happened, in the account that the adapter identified as the configured
one. Nothing is concluded from a report about what it does not contain. An execution that cannot be read whole, or may
be of another account, is not reported, and its event wakes the instrument all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from brokers.model import StreamedFill

OnFill = Callable[[StreamedFill], None]
"""Takes an execution. Called from any thread; must not wait."""


@runtime_checkable
class ReportsFills(Protocol):
    """A stream that reports executions."""

    def report_fills_to(self, on_fill: OnFill | None) -> None:
        """Report each execution to ``on_fill`` from the next start on, before the event that it also is."""
