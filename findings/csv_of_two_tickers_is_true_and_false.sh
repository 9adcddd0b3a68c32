#!/usr/bin/env bash
# duckdb, pyarrow: a file of positions in AT&T (T) and Ford (F) has the symbols true and false; NAN and INF are numbers.
#
# One would guess: a column of letters is text; the four readers that one meets agree on a file of two rows.
# What happens: duckdb makes a column of T and F boolean. duckdb and pyarrow make one of NAN and INF (both are or were listed) a
#   float, polars and pandas text. One of TRUE alone (TrueCar) is boolean in all four. With any other symbol in the file all is
#   text.
# Why it matters: a small account's statement loses its symbols on the day on which only these are held; the join with anything
#   else finds no row.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==26.0.1 polars==2.1.0 pandas==3.1.1
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "duckdb pyarrow polars pandas".split():
    print(package, version(package))

from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow.csv


def symbols(*tickers):
    Path("positions.csv").write_text("symbol,quantity\n" + "".join(f"{ticker},100\n" for ticker in tickers))
    return {
        "duckdb": [row[0] for row in duckdb.sql("select symbol from 'positions.csv'").fetchall()],
        "pyarrow": pyarrow.csv.read_csv("positions.csv")["symbol"].to_pylist(),
        "polars": polars.read_csv("positions.csv")["symbol"].to_list(),
        "pandas": pandas.read_csv("positions.csv")["symbol"].tolist(),
    }


for tickers in (("T", "F"), ("T", "F", "AAPL"), ("NAN", "INF"), ("TRUE",)):
    print(*tickers, "->", symbols(*tickers))
assert symbols("T", "F") == {"duckdb": [True, False], "pyarrow": ["T", "F"], "polars": ["T", "F"], "pandas": ["T", "F"]}
assert all(read == ["T", "F", "AAPL"] for read in symbols("T", "F", "AAPL").values())
numbers = symbols("NAN", "INF")
assert str(numbers["duckdb"]) == str(numbers["pyarrow"]) == "[nan, inf]" and numbers["polars"] == numbers["pandas"] == ["NAN", "INF"]
assert all(read == [True] for read in symbols("TRUE").values())
print("as stated")
PY
