"""The names of actors, which are also the names of their streams in the journal: ``audit``, ``supervisor``, ``alerts``,
an account (``fx``), an instrument of it (``fx/GBP_JPY``). A symbol may itself contain a slash; the name of an account
may contain neither a slash nor a tilde. Two have no stream: ``sink:1``, and a cell (``fx~1``), which carries
instruments of an account."""

from __future__ import annotations

from typing import Final

AUDIT: Final = "audit"
SUPERVISOR: Final = "supervisor"
ALERTS: Final = "alerts"
_SINK: Final = "sink:"


def sink_name(number: int) -> str:
    """The name of a sink, by its number in the configuration. No account can be called so."""
    return f"{_SINK}{number}"


def is_sink(name: str) -> bool:
    """Whether a name is that of a sink."""
    return name.startswith(_SINK)


def instrument_name(account: str, symbol: str) -> str:
    """The name of an instrument of an account."""
    return f"{account}/{symbol}"


def split_name(name: str) -> tuple[str, str]:
    """The account of a name and its symbol; the symbol of what is no instrument is empty."""
    account, _, symbol = name.partition("/")
    return account, symbol


def account_of(name: str) -> str:
    """The account of an instrument; what is no instrument answers with itself."""
    return split_name(name)[0]


def symbol_of(name: str) -> str:
    """The symbol of an instrument; empty for what is no instrument."""
    return split_name(name)[1]


def cell_name(account: str, number: int) -> str:
    """The name of a cell of an account, counted from 1."""
    return f"{account}~{number}"


def cell_account(name: str) -> str | None:
    """The account whose instruments a cell carries; ``None`` for what is no cell."""
    account, tilde, _ = name.partition("~")
    return account if tilde and "/" not in account else None
