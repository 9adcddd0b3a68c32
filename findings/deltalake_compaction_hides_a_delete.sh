#!/usr/bin/env bash
# deltalake: a writer behind another's delete is refused, and goes through where the table was compacted before the delete.
#
# One would guess: whether an append behind a delete is refused depends on what was deleted.
# What happens: behind "delete" it is refused (CommitFailedError), behind "compact, delete" the same append of the same row is
#   taken: the file that lost rows is not among those that the writer knew.
# Why it matters: "no error, so nothing I read was deleted" does not hold on a table that anybody compacts.
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

import shutil

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError


def taken(compacted):
    shutil.rmtree("table", ignore_errors=True)
    for number in (1, 2):
        write_deltalake("table", pa.table({"n": [number]}), mode="append")
    behind = DeltaTable("table")
    if compacted:
        DeltaTable("table").optimize.compact()
    DeltaTable("table").delete("n = 1")
    try:
        write_deltalake(behind, pa.table({"n": [3]}), mode="append")
    except CommitFailedError:
        return False
    return True


plain, compacted = taken(compacted=False), taken(compacted=True)
print("behind a delete taken:", plain, "| behind compaction and delete:", compacted)
assert (plain, compacted) == (False, True)
print("as stated")
PY
