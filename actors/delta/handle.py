"""A handle of a Delta table that follows the table, and never one that took its place.

deltalake's ``update_incremental`` looks only for versions after its own. Where a table was deleted and created again it
keeps showing the old one, and mixes both once the new one has as many versions. Therefore the commit of the handle's
version is checked each time: where it is another, or gone, the table is opened again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltalake import DeltaTable


class TableHandle:
    """The newest version of the table at ``uri``. Raises what deltalake raises."""

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None) -> None:
        self.uri = uri
        self.options = dict(storage_options) if storage_options else None
        self._table: DeltaTable | None = None
        self._stands_on: Mapping[str, Any] | None = None
        self._looked_at = 0
        self.opened = 0
        """How often it was opened: a table that takes another's place is opened again."""

    def newest(self) -> DeltaTable:
        """The table's present version."""
        table = self._table
        if table is not None and self._stands_on is not None:
            table.update_incremental()
            # Counted from our last look: our own writes since then have moved the table on.
            commits = table.history(table.version() - self._looked_at + 1)
            if commits and commits[-1] == self._stands_on:
                self._stands_on, self._looked_at = commits[0], table.version()
                return table
        self.forget()
        table = DeltaTable(self.uri, storage_options=self.options)
        commits = table.history(1)
        self._table, self._looked_at = table, table.version()
        self._stands_on = commits[0] if commits else None
        self.opened += 1
        return table

    @property
    def commit(self) -> Mapping[str, Any]:
        """The log's entry of the newest version."""
        return self._stands_on or {}

    def forget(self) -> None:
        """Open the table again next time."""
        self._table = self._stands_on = None
