#!/usr/bin/env bash
# msgspec, arrow: 2026-01-05T23:59:59.9999999Z is midnight of the 6th; to the standard library, pydantic, polars and duckdb the 5th.
#
# One would guess: readers of RFC 3339 that keep microseconds do the same with further digits, and none changes the day.
# What happens: msgspec and arrow round, the others cut. Seven nines, as a broker with nanoseconds sends them, are the next day.
# Why it matters: a fill of the day's last moment is booked on the next trading day, by one of two programs that read the same
#   message; and its time is not the one under which the other program knows it.
#
# Exit 0 while it behaves so, non-zero once it has changed.
set -euo pipefail

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check msgspec==0.22.0 arrow==1.4.0 pydantic==2.14.3 pandas==3.1.1 polars==2.1.0 duckdb==2.0.1
cd "$work"

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

for package in "msgspec arrow pydantic pandas polars duckdb".split():
    print(package, version(package))

from datetime import datetime

import arrow
import duckdb
import msgspec
import pandas
import polars
import pydantic

TEXT = "2026-01-05T23:59:59.9999999Z"
read = {
    "datetime": datetime.fromisoformat(TEXT),
    "pydantic": pydantic.TypeAdapter(datetime).validate_python(TEXT),
    "pandas": pandas.Timestamp(TEXT).floor("us").to_pydatetime(),
    "polars": polars.Series([TEXT]).str.to_datetime(time_zone="UTC")[0],
    "duckdb": duckdb.sql(f"select '{TEXT}'::timestamp").fetchall()[0][0],
    "msgspec": msgspec.json.decode(f'"{TEXT}"', type=datetime),
    "arrow": arrow.get(TEXT).datetime,
}
for name, when in read.items():
    print(name, "->", when)
assert {name for name, when in read.items() if when.day == 6} == {"msgspec", "arrow"}
assert read["msgspec"].microsecond == read["arrow"].microsecond == 0
assert all(when.microsecond == 999999 for name, when in read.items() if when.day == 5)
print("as stated")
PY
