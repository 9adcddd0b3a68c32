"""Some files of a table, read as one: first the columns that tell which rows count, then the others of those alone.

The law of this module: rows have one order, that of the files and within each its own, whichever columns are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs

SMALL_FILE = 5_000
WORTH_IT = 0.5
"""The share of files in which rows count, above which all of them are read once more in one go."""


class FileGroup:
    """Files are added, and then read."""

    def __init__(self, schema: pa.Schema, form: ds.ParquetFileFormat, filesystem: pa_fs.FileSystem) -> None:
        self._schema = schema
        self._form = form
        self._filesystem = filesystem
        self._fragments: list[Any] = []
        self._ends: list[int] = []

    @property
    def rows(self) -> int:
        """How many rows the files have."""
        return self._ends[-1] if self._ends else 0

    def add(self, fragment: Any, rows: int | None) -> None:
        """One more file, whose rows follow those before; where the log does not tell how many it has, it is asked.
        Raises ``FileNotFoundError``."""
        self._fragments.append(fragment)
        self._ends.append(self.rows + (fragment.metadata.num_rows if rows is None else rows))

    @property
    def is_of_small_files(self) -> bool:
        """Whether to open a file costs more than to read it: then all columns are read at once."""
        return self.rows < SMALL_FILE * len(self._fragments)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns of every row. Raises ``pyarrow.ArrowInvalid`` where there are not as many as the log tells."""
        made = ds.FileSystemDataset(self._fragments, self._schema, self._form, self._filesystem)
        files_at_once = 16 if self.is_of_small_files else 4
        rows = made.scanner(columns=list(columns), batch_readahead=4, fragment_readahead=files_at_once).to_table()
        if rows.num_rows != self.rows:
            raise pa.ArrowInvalid(f"its files have {rows.num_rows} rows, and its log tells {self.rows}")
        return rows

    def at(self, places: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """These columns of the rows at these places, which are in their order."""
        bounds = np.searchsorted(places, np.array([0, *self._ends]))
        concerned = [number for number in range(len(self._fragments)) if bounds[number + 1] > bounds[number]]
        if len(concerned) > 1 and len(concerned) > WORTH_IT * len(self._fragments):
            return self.read(columns).take(pa.array(places))
        names, parts = list(columns), []
        for number in concerned:
            start = self._ends[number - 1] if number else 0
            rows = self._fragments[number].to_table(schema=self._schema, columns=names)
            parts.append(rows.take(pa.array(places[bounds[number] : bounds[number + 1]] - start)))
        nothing = pa.schema([self._schema.field(name) for name in names]).empty_table()
        return pa.concat_tables([nothing, *parts])
