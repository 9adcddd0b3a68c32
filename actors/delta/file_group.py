"""Some files of a table, read as one: first the columns that decide which rows count, then the others of those rows.

The law of this module: rows have one order, that of the files and within each its own, whichever columns are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

SMALL_FILE = 5_000
WORTH_IT = 0.5
"""The share of files with counting rows above which all files are read again in one go."""


class FileGroup:
    """Add files, then read them. ``near``: opening a file takes no time, as on a local disk."""

    def __init__(self, schema: pa.Schema, filesystem: pa_fs.FileSystem, *, near: bool) -> None:
        self._schema = schema
        self._filesystem = filesystem
        self._near = near
        self._form = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
        self._paths: list[str] = []
        self._partitions: list[Mapping[str, Any]] = []
        self._ends: list[int] = []

    @property
    def rows(self) -> int:
        """How many rows the files have."""
        return self._ends[-1] if self._ends else 0

    @property
    def files(self) -> int:
        """The number of files."""
        return len(self._paths)

    def add(self, path: str, partition: Mapping[str, Any], rows: int | None) -> None:
        """Add a file, whose rows follow those before, with the values that the log has for all of them; where the log
        has no number of rows, it is read from the file. Raises ``FileNotFoundError``."""
        known = pq.read_metadata(path, filesystem=self._filesystem).num_rows if rows is None else rows
        self._paths.append(path)
        self._partitions.append(partition)
        self._ends.append(self.rows + known)

    @property
    def is_of_small_files(self) -> bool:
        """Whether opening a file costs more than reading it: then all columns are read at once."""
        return self.rows < SMALL_FILE * len(self._paths)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns of every row. Raises ``pyarrow.ArrowInvalid`` where their number differs from the log's."""
        if self._near and self.is_of_small_files:
            rows = self._one_by_one(list(columns))
        else:
            fragments = [self._fragment(number) for number in range(len(self._paths))]
            made = ds.FileSystemDataset(fragments, self._schema, self._form, self._filesystem)
            files_at_once = 16 if self.is_of_small_files else 4
            rows = made.scanner(columns=list(columns), batch_readahead=4, fragment_readahead=files_at_once).to_table()
        if rows.num_rows != self.rows:
            raise pa.ArrowInvalid(f"its files have {rows.num_rows} rows, and its log says {self.rows}")
        return rows

    def _one_by_one(self, columns: list[str]) -> pa.Table:
        """Reads each small file separately: one scan of them all takes three times as long, for its overhead."""
        in_log = [name for name in columns if name in self._partitions[0]]
        inside = pa.schema([self._schema.field(name) for name in columns if name not in in_log])
        parts = [self._inside(path, inside) for path in self._paths]
        counts = np.diff(np.array([0, *self._ends]))
        if [part.num_rows for part in parts] != counts.tolist():
            raise pa.ArrowInvalid("its files have other numbers of rows than its log says")
        rows = pa.concat_tables(parts).combine_chunks()
        found: dict[str, Any] = {name: rows[name] for name in inside.names}
        numbers = pa.array(np.repeat(np.arange(len(counts)), counts))
        for name in in_log:
            values = pa.array([one[name] for one in self._partitions], self._schema.field(name).type)
            found[name] = values.take(numbers)
        return pa.table([found[name] for name in columns], pa.schema([self._schema.field(name) for name in columns]))

    def _inside(self, path: str, wanted: pa.Schema) -> pa.Table:
        """These columns of a file, in the table's schema: a column that was added later is null."""
        with self._filesystem.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
            rows = file.read(columns=wanted.names, use_threads=False)
        if rows.schema.equals(wanted):
            return rows
        made = []
        for field in wanted:
            known = field.name in rows.column_names
            made.append(rows[field.name].cast(field.type) if known else pa.nulls(rows.num_rows, field.type))
        return pa.Table.from_arrays(made, schema=wanted)

    def _fragment(self, number: int) -> Any:
        terms = []
        for name, value in self._partitions[number].items():
            column = ds.field(name)
            known = pa.scalar(value, self._schema.field(name).type)
            terms.append(column.is_null() if value is None else column == known)
        partition = reduce(lambda one, other: one & other, terms) if terms else None
        return self._form.make_fragment(self._paths[number], self._filesystem, partition)

    def at(self, places: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """These columns of the rows at these places, which must be sorted."""
        bounds = np.searchsorted(places, np.array([0, *self._ends]))
        concerned = [number for number in range(len(self._paths)) if bounds[number + 1] > bounds[number]]
        if len(concerned) > 1 and len(concerned) > WORTH_IT * len(self._paths):
            return self.read(columns).take(pa.array(places))
        names, parts = list(columns), []
        for number in concerned:
            start = self._ends[number - 1] if number else 0
            rows = self._fragment(number).to_table(schema=self._schema, columns=names)
            parts.append(rows.take(pa.array(places[bounds[number] : bounds[number + 1]] - start)))
        nothing = pa.schema([self._schema.field(name) for name in names]).empty_table()
        return pa.concat_tables([nothing, *parts])
