#!/usr/bin/env bash
# deltalake: compaction writes the rows of a table in the reverse order of their commits.
#
# One would guess: optimize.compact() makes one file of many and leaves the rows in the order in which they were appended.
# What happens: what was appended first stands last. Of equal times "the last row wins" becomes "the first row wins".
# Why it matters: a reader that breaks ties by the order of rows has another answer after a maintenance job that changes no data.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "deltalake pyarrow".split():
    print(package, version(package))

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

for number in (1, 2, 3):
    write_deltalake("table", pa.table({"n": [number]}), mode="append")
DeltaTable("table").optimize.compact()

rows = DeltaTable("table").to_pyarrow_table().column("n").to_pylist()
print("appended [1, 2, 3], compacted", rows)
assert rows == [3, 2, 1]
print("as stated")
PY
