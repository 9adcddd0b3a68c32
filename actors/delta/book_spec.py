"""Which table holds an account's book, and the meaning of its columns: plain values, without the library that reads
tables, which is imported where the table is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from brokers.errors import Refused
from brokers.frozen import dataclass
from brokers.model import LegScheme
from brokers.spec import SecretRef

if TYPE_CHECKING:
    from actors.delta.book_table import DeltaBookTable

EXTRA = "delta"


@dataclass(frozen=True, slots=True)
class BookTableSpec:
    """One table. ``key`` is the column that names the contract: by the instrument's name, or with ``by_identity`` by
    the broker's permanent id of it (a conId). ``leg`` is ``None`` where a contract has one leg, or one for each side:
    ``legs`` decides which. Only rows count that have one of the texts of ``where`` in its column. ``max_age_s`` is how
    old the newest row, and the newest version, may be. Only a ``writable`` table is ever written to, and it needs
    ``source`` and ``discrepancy``. ``options`` are those of its store; a :class:`SecretRef` is resolved on opening."""

    account: str
    uri: str
    key: str
    quantity: str
    time: str
    by_identity: bool = False
    leg: str | None = None
    average_price: str | None = None
    order: str | None = None
    source: str = "source"
    discrepancy: str = "discrepancy_id"
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    legs: LegScheme = LegScheme.NET
    max_age_s: float | None = None
    writable: bool = False
    options: Mapping[str, str | SecretRef] = field(default_factory=dict)


def open_book_table(spec: BookTableSpec) -> DeltaBookTable:
    """The table, opened at its first reading. Raises ``Refused`` where the extra is missing."""
    try:
        from actors.delta.book_table import DeltaBookTable
    except ImportError as error:
        found = f"it needs the extra {EXTRA!r}, and {error.name} is not installed here"
        remedy = f"pip install -e '.[{EXTRA}]'"
        raise Refused(f"read the book in {spec.uri}", spec.account, found, remedy) from None
    return DeltaBookTable(spec)
