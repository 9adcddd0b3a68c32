"""A book whose rows are deleted by deletion vectors, as Spark and others write them: no deleted row is ever held.

The vectors are made here by the text of the format's specification (delta-io/delta, PROTOCOL.md, "Deletion Vectors"): a
roaring bitmap of the numbers of the deleted rows, in a file of its own or within the log.
"""

from __future__ import annotations

import json
import shutil
import struct
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from zmq.utils import z85

from brokers.errors import BrokerError, Malformed
from tests.unit.test_delta_book import Desk


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


_MAGIC = 1681511377
_NO_RUNS = 12346
PROTOCOL = {
    "minReaderVersion": 3,
    "minWriterVersion": 7,
    "readerFeatures": ["deletionVectors"],
    "writerFeatures": ["deletionVectors"],
}


def bitmap(numbers: list[int]) -> bytes:
    """One roaring bitmap of 32 bits in one container, as the only one of an array of them."""
    low = struct.pack(f"<{len(numbers)}H", *numbers)
    container = struct.pack("<IIHHI", _NO_RUNS, 1, 0, len(numbers) - 1, 16)
    return struct.pack("<IQI", _MAGIC, 1, 0) + container + low


def in_a_file(table: Path, numbers: list[int]) -> dict[str, Any]:
    data, name = bitmap(numbers), uuid.uuid4()
    framed = struct.pack(">I", len(data)) + data + struct.pack(">I", zlib.crc32(data))
    (table / f"deletion_vector_{name}.bin").write_bytes(b"\x01" + framed)
    return {
        "storageType": "u",
        "pathOrInlineDv": z85.encode(name.bytes).decode(),
        "offset": 1,
        "sizeInBytes": len(data),
    }


def in_the_log(table: Path, numbers: list[int]) -> dict[str, Any]:
    data = bitmap(numbers)
    return {
        "storageType": "i",
        "pathOrInlineDv": z85.encode(data + b"\0" * (-len(data) % 4)).decode(),
        "sizeInBytes": len(data),
    }


Store = Callable[[Path, list[int]], dict[str, Any]]
STORES: list[Store] = [in_a_file, in_the_log]


def delete(desk: Desk, numbers: list[int], store: Store = in_a_file) -> None:
    """Delete these rows of the newest file, by a vector."""
    table = Path(desk.uri)
    desk.act(protocol=PROTOCOL, configuration={"delta.enableDeletionVectors": "true"})
    names = sorted((table / "_delta_log").glob("*.json"))
    lines = [json.loads(line) for name in names for line in name.read_text().splitlines()]
    add = [line["add"] for line in lines if "add" in line][-1]
    vector = store(table, numbers) | {"cardinality": len(numbers)}
    remove = {
        "path": add["path"], "deletionTimestamp": 1, "dataChange": True, "extendedFileMetadata": True,
        "partitionValues": {}, "size": add["size"],
    }  # fmt: skip
    actions = [{"commitInfo": {"timestamp": 1, "operation": "DELETE"}}, {"remove": remove}]
    actions.append({"add": add | {"deletionVector": vector}})
    (table / "_delta_log" / f"{len(names):020d}.json").write_text("\n".join(map(json.dumps, actions)) + "\n")


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("warm", [False, True])
def test_a_row_that_a_vector_deletes_is_never_held_and_the_remedy_is_named(
    desk: Desk, store: Store, warm: bool
) -> None:
    desk.write(("A", 5, -10), ("A", 6, -9), ("B", 1, -9))
    if warm:
        assert desk.held() == [("net", "6")]
    delete(desk, [1], store)
    [kept] = pa.table(DeltaTable(desk.uri).deletion_vectors())["selection_vector"].to_pylist()
    assert kept[:2] == [True, False], "the library reads the vector as it was meant"
    with pytest.raises(Malformed, match="deletion vectors") as caught:
        desk.book()
    assert "PURGE" in caught.value.remedy


@pytest.mark.parametrize("harm", ["it is gone", "it is another"])
def test_a_vector_that_cannot_be_read_is_an_error_and_no_row_is_held(desk: Desk, harm: str) -> None:
    desk.write(("A", 5, -10), ("A", 6, -9))
    delete(desk, [1])
    [file] = Path(desk.uri).glob("deletion_vector_*.bin")
    if harm == "it is gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(BrokerError):
        desk.book()


def test_a_table_that_may_have_vectors_and_has_none_is_read(desk: Desk) -> None:
    desk.write(("A", 5, -10), ("A", 6, -9))
    desk.act(protocol=PROTOCOL, configuration={"delta.enableDeletionVectors": "true"})
    assert desk.held() == [("net", "6")]


def test_a_table_that_is_written_anew_without_vectors_is_read_again(desk: Desk) -> None:
    desk.write(("A", 5, -10), ("A", 6, -9))
    delete(desk, [1])
    with pytest.raises(Malformed):
        desk.book()
    shutil.rmtree(desk.uri)
    desk.write(("A", 5, -10))
    assert desk.held() == [("net", "5")]
