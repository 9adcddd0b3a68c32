#!/usr/bin/env bash
# Timestamps: duckdb's TIMESTAMP drops the offset of "09:15:00+05:30", polars converts it.
#
# One would guess: a cast that cannot keep an offset converts to UTC, as polars does and as TIMESTAMPTZ does,
#   or refuses.
# What happens: duckdb's '…09:15:00+05:30'::TIMESTAMP is 09:15 and so is that of 09:15:00Z; polars'
#   to_datetime gives 03:45 UTC.
# Why it matters: a join of fills from the two on time misses all rows of one broker, or matches the wrong
#   ones.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 polars==2.1.0
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "duckdb polars".split():
    print(package, version(package))

from datetime import datetime, timezone

import duckdb
import polars as pl

text = "2024-01-02 09:15:00+05:30"
naive, with_zone = duckdb.sql(f"select '{text}'::timestamp, epoch('{text}'::timestamptz)").fetchall()[0]
by_polars = pl.Series([text.replace(" ", "T")]).str.to_datetime()[0]
print("duckdb TIMESTAMP", naive, "| TIMESTAMPTZ", datetime.fromtimestamp(with_zone, timezone.utc), "| polars", by_polars)
assert naive == datetime(2024, 1, 2, 9, 15)
assert datetime.fromtimestamp(with_zone, timezone.utc).hour == 3
assert (by_polars.hour, by_polars.minute) == (3, 45)
print("as stated")
PY
