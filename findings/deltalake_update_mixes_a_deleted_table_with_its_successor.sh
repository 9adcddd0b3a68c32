#!/usr/bin/env bash
# deltalake: update_incremental() of a handle goes on with a table that was deleted and made anew, and mixes the two.
#
# One would guess: after the table was deleted and made anew the handle sees the new one, or raises.
# What happens: with fewer versions than before it goes on showing the old version and its rows; with more it adds the newer commits of
#   the new table to the files of the old one, which are gone.
# Why it matters: a long-lived reader tells positions of a table that no longer exists, without an error.
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

import os
import shutil

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake


def made(*numbers):
    shutil.rmtree("table", ignore_errors=True)
    for number in numbers:
        write_deltalake("table", pa.table({"n": [number]}), mode="append")


made(1, 2)
shorter, longer = DeltaTable("table"), DeltaTable("table")
made(7)
shorter.update_incremental()
print("shorter: version", shorter.version(), "rows", shorter.count(), "| truth: version", DeltaTable("table").version())
assert (shorter.version(), shorter.count()) == (1, 2)

made(7, 8, 9)
longer.update_incremental()
gone = [uri for uri in longer.file_uris() if not os.path.exists(uri)]
print("longer: version", longer.version(), "files", len(longer.file_uris()), "of which gone", len(gone))
assert (longer.version(), len(longer.file_uris()), len(gone)) == (2, 3, 2)
print("as stated")
PY
