"""Small files are read one by one where that is quicker, and say what a scan of them all says."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pa_fs
import pytest
from deltalake import DeltaTable, write_deltalake

from actors.delta.file_group import FileGroup

COLUMNS = ("n", "symbol", "later", "word", "day")


def written(uri: Path) -> DeltaTable:
    """Files of three partitions, one of no symbol; the first is from before a column came, and has text by codes."""
    first = pa.table({"n": [1, 2], "word": pa.array(["x", None]).dictionary_encode(), "symbol": ["A/B %", "A/B %"]})
    write_deltalake(str(uri), first.append_column("day", pa.array([3, 3], pa.int32())), partition_by=["symbol", "day"])
    for number, symbol in ((3, ""), (4, "C")):
        rows = pa.table({"n": [number], "word": ["y"], "symbol": [symbol], "later": pa.array([1.5], pa.float32())})
        more = rows.append_column("day", pa.array([None], pa.int32()))
        write_deltalake(str(uri), more, mode="append", schema_mode="merge")
    return DeltaTable(str(uri))


def group(table: DeltaTable, uri: Path, *, near: bool, lose: int = 0) -> FileGroup:
    made = FileGroup(
        pa.schema(table.schema().to_arrow()), pa_fs.SubTreeFileSystem(str(uri), pa_fs.LocalFileSystem()), near=near
    )
    actions: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    for one in sorted(actions, key=lambda action: str(action["path"])):
        partition = {name: one[f"partition.{name}"] for name in ("symbol", "day")}
        made.add(unquote(one["path"]), partition, one["num_records"] + lose)
    return made


@pytest.mark.parametrize("columns", [COLUMNS, COLUMNS[::-1], ("later",), ("symbol",), ("day", "n")])
def test_each_row_is_what_a_scan_says_whichever_columns_are_read(tmp_path: Path, columns: tuple[str, ...]) -> None:
    table = written(tmp_path)
    one_by_one, scanned = (group(table, tmp_path, near=near).read(columns) for near in (True, False))
    assert one_by_one.schema.names == list(columns)
    assert one_by_one.schema.types == scanned.schema.types
    assert one_by_one.to_pylist() == scanned.to_pylist()


@pytest.mark.parametrize("near", [True, False])
def test_files_with_other_numbers_of_rows_than_the_log_says_are_an_error(tmp_path: Path, near: bool) -> None:
    with pytest.raises(pa.ArrowInvalid, match="its log says"):
        group(written(tmp_path), tmp_path, near=near, lose=1).read(COLUMNS)
