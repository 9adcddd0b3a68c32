#!/usr/bin/env bash
# Decimals: 1.10 / 3 is 0.37 in polars, 0.3666 in pyarrow, a DOUBLE in duckdb; the mean of decimals is a float in both.
#
# One would guess: a quotient of decimals is a decimal with more places than the dividend.
# What happens: polars keeps the dividend's two places and rounds; pyarrow cuts after four; duckdb leaves
#   decimals (also for avg). polars // of 1.10 and 3 is 0.00, and mean() is a float.
# Why it matters: an average price is cost over quantity: three tools give three, and the one that looks exact
#   is off by a third of a cent a share.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "polars duckdb pyarrow".split():
    print(package, version(package))

from decimal import Decimal

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

by_polars = pl.select(q=pl.lit(Decimal("1.10")) / pl.lit(Decimal("3")))["q"].item()
by_arrow = pc.divide(pa.array([Decimal("1.10")]), pa.array([Decimal("3.00")]))[0].as_py()
by_duckdb = duckdb.sql("select 1.10::decimal(18,2) / 3::decimal(18,0), avg(x) from (values (1.10::decimal(18,2)), (1.11)) v(x)").fetchall()[0]
mean = pl.Series([Decimal("1.10"), Decimal("1.11")]).mean()
print("polars", repr(by_polars), "| pyarrow", repr(by_arrow), "| duckdb", by_duckdb, "| polars mean", repr(mean))
assert by_polars == Decimal("0.37")
assert by_arrow == Decimal("0.3666")
assert isinstance(by_duckdb[0], float) and isinstance(by_duckdb[1], float)
assert isinstance(mean, float)
print("as stated")
PY
