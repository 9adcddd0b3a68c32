#!/usr/bin/env bash
# deltalake: a table restored to an older version still says that the newer transactions are in it.
#
# One would guess: after restore(1) the table is as it was in version 1, the version of an application's transaction too,
#   so that a writer that goes by it writes what was lost again.
# What happens: the rows of versions 2 and 3 are gone, and transaction_version() still answers 3.
# Why it matters: "exactly once by transaction identifier" then skips those rows for ever, without an error.
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
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

for number in (1, 2, 3):
    marked = CommitProperties(app_transactions=[Transaction("sink", number)])
    write_deltalake("table", pa.table({"n": [number]}), mode="append", commit_properties=marked)
DeltaTable("table").restore(1)

table = DeltaTable("table")
rows = sorted(table.to_pyarrow_table().column("n").to_pylist())
print("rows", rows, "| transaction", table.transaction_version("sink"))
assert rows == [1, 2]
assert table.transaction_version("sink") == 3
print("as stated")
PY
