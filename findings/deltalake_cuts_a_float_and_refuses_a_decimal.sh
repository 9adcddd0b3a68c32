#!/usr/bin/env bash
# deltalake: 1.9 goes into a column of whole numbers as 1, and 1.2300 into one of two decimals not at all.
#
# One would guess: a write whose values do not fit the table's types is refused, above all where it would change them; a value
#   that fits exactly is taken.
# What happens: an append of floats is cast: 1.9 becomes 1, 1.005 becomes 1.00, True becomes 1; text is parsed. Decimals of
#   another scale are refused (SchemaMismatchError), even where all further digits are noughts.
# Why it matters: one producer that computes in floats writes positions that are cut off, without a word; the one that is exact
#   gets the error.
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

from decimal import Decimal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake


def append(first, then):
    """The values of the table after both, or the name of the error."""
    name = f"table-{append.count}"
    append.count += 1
    write_deltalake(name, pa.table({"q": first}))
    try:
        write_deltalake(name, pa.table({"q": then}), mode="append")
    except Exception as error:
        return type(error).__name__
    return sorted(DeltaTable(name).to_pyarrow_table()["q"].to_pylist())


append.count = 0
whole, cents = pa.array([5], pa.int64()), pa.array([Decimal("5.00")], pa.decimal128(10, 2))
seen = {
    "whole <- 1.9": append(whole, pa.array([1.9])),
    "whole <- True": append(whole, pa.array([True])),
    "cents <- 1.005": append(cents, pa.array([1.005])),
    "cents <- '1.5'": append(cents, pa.array(["1.5"])),
    "cents <- Decimal 1.2300": append(cents, pa.array([Decimal("1.2300")], pa.decimal128(10, 4))),
    "cents <- Decimal 1.23": append(cents, pa.array([Decimal("1.23")], pa.decimal128(10, 2))),
}
for what, got in seen.items():
    print(what, "->", got)
assert seen["whole <- 1.9"] == seen["whole <- True"] == [1, 5]
assert [str(value) for value in seen["cents <- 1.005"]] == ["1.00", "5.00"]
assert seen["cents <- Decimal 1.2300"] == "SchemaMismatchError" and len(seen["cents <- Decimal 1.23"]) == 2
print("as stated")
PY
