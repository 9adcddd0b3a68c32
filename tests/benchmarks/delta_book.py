"""What it costs an account to read its book in a Delta table: the newest row of each contract, beside duckdb.

    python -m tests.benchmarks.delta_book [ROWS [CONTRACTS [partitioned]]]

A table of 1,000,000 rows and 5,000 contracts in 50 commits (unless named otherwise), or ``partitioned`` by contract, in
a file for each. Four figures:

* cold: a new process opens the table, reads it and has a claim for each contract, imports apart;
* the same in turns with duckdb, which answers the same question over the same table in the same process: by its own
  ``delta_scan``, through deltalake's dataset, and from the files that the log names; and with a floor: every file
  opened and its columns read by pyarrow, one after another, in this one thread. "The table" is our reading, as duckdb's
  is; "with claims" makes each contract's claim of it too. The least of eleven turns of each, as others use this machine
  too, and the least that the processors worked;
* unchanged: the same table looked at again; and one commit later;
* the peak memory of the process that read it, in which deltalake and pyarrow are too.

duckdb need not be installed: then its figures are left out (``pip install duckdb==1.5.5 duckdb-extension-delta==1.5.5
pytz``; other versions have no such package of ``delta_scan``). Ratios hold over machines; milliseconds do not.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

import actors.delta.book_table  # noqa: F401 - imports are apart
from actors.delta.book_spec import BookTableSpec, open_book_table
from tests.benchmarks.form import Figure, show

ROWS = 1_000_000
CONTRACTS = 5_000
COMMITS = 50
TURNS = 11
EXACT = pa.decimal128(38, 18)
START_US = 1_700_000_000_000_000
NEWEST = 'select contract, arg_max(qty, "at"), arg_max(price, "at"), max(epoch_us("at")) from {} group by contract'


def spec(uri: str) -> BookTableSpec:
    return BookTableSpec("ib", uri, key="contract", quantity="qty", time="at", average_price="price")


def rows(first: int, how_many: int, contracts: int, chance: np.random.Generator) -> pa.Table:
    names = [f"C{number:05}" for number in chance.integers(0, contracts, how_many)]
    at = START_US + np.arange(first, first + how_many) * 1_000 + chance.integers(0, 10_000_000, how_many)
    return pa.table(
        {
            "contract": pa.array(names),
            "qty": pa.array([Decimal(int(one)) for one in chance.integers(-1_000, 1_000, how_many)], EXACT),
            "price": pa.array([Decimal(int(one)) / 100 for one in chance.integers(1, 100_000, how_many)], EXACT),
            "at": pa.array(at, pa.timestamp("us", "UTC")),
        }
    )


def made(uri: str, length: int, contracts: int, *, partitioned: bool) -> None:
    chance = np.random.default_rng(1)
    if partitioned:
        write_deltalake(uri, rows(0, length, contracts, chance), partition_by=["contract"])
        return
    for number in range(COMMITS):
        part = length // COMMITS
        write_deltalake(uri, rows(number * part, part, contracts, chance), mode="append")


def the_table(uri: str) -> None:
    open_book_table(spec(uri)).read(datetime.now(UTC))


def ours(uri: str, contracts: int) -> int:
    book = open_book_table(spec(uri)).read(datetime.now(UTC))
    return sum(bool(book.claims(f"C{number:05}", None).rows) for number in range(contracts))


def took(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def least_in_turns(works: dict[str, Callable[[], Any]], turns: int) -> dict[str, tuple[float, float]]:
    """The seconds that each took, and those of processors."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            began_s = time.process_time()
            seconds = took(work)
            found[name].append((seconds, time.process_time() - began_s))
    return {name: (min(one for one, _ in times), min(two for _, two in times)) for name, times in found.items()}


def own_peak_mb() -> float:
    """The most memory that this process held. ``ru_maxrss`` is not that: a child begins with its parent's peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def cold(uri: str, contracts: int) -> None:
    """In a process of its own."""
    began_s = time.process_time()
    seconds = took(lambda: ours(uri, contracts))
    worked_s = time.process_time() - began_s
    peak_mb = own_peak_mb()
    print(seconds * 1_000, worked_s * 1_000, peak_mb)


def by_duckdb(uri: str) -> dict[str, Callable[[], Any]]:
    try:
        import duckdb  # type: ignore[import-not-found, unused-ignore]  # no dependency of ours
    except ImportError:
        return {}

    def through_the_dataset() -> None:
        dataset = DeltaTable(uri).to_pyarrow_dataset()
        with duckdb.connect() as connection:
            connection.register("positions", dataset)
            connection.execute(NEWEST.format("positions")).fetchall()

    def from_its_files() -> None:
        files = DeltaTable(uri).file_uris()
        with duckdb.connect() as connection:
            connection.execute(NEWEST.format("read_parquet(?)"), [files]).fetchall()

    ways = {"duckdb, dataset": through_the_dataset, "duckdb, files": from_its_files}
    package = importlib.util.find_spec("duckdb_extension_delta")
    library = None
    if package is not None and package.origin is not None:
        library = next(Path(package.origin).parent.glob(f"extensions/v{duckdb.__version__}/delta.*"), None)
    if library is None:
        return ways

    def by_its_own_scan() -> None:
        with duckdb.connect(config={"allow_unsigned_extensions": True}) as connection:
            connection.execute(f"load '{library}'")
            connection.execute(NEWEST.format("delta_scan(?)"), [uri]).fetchall()

    return {"duckdb, delta_scan": by_its_own_scan, **ways}


def files_alone(uri: str) -> None:
    for file in DeltaTable(uri).file_uris():
        pq.ParquetFile(unquote(file)).read(columns=["contract", "qty", "price", "at"], use_threads=False)


def figures(
    *, quick: bool = False, length: int = ROWS, contracts: int = CONTRACTS, partitioned: bool = False
) -> Iterator[Figure]:
    """Of a table of so many rows and contracts."""
    if quick:
        length, contracts = 50_000, 500
    with tempfile.TemporaryDirectory() as name:
        uri = str(Path(name) / "t")
        made(uri, length, contracts, partitioned=partitioned)
        of = f"{length:,} rows, {contracts:,} contracts, {len(DeltaTable(uri).file_uris()):,} files"
        module = [sys.executable, "-m", "tests.benchmarks.delta_book", "--cold", uri, str(contracts)]
        for _ in range(1 if quick else 3):
            output = subprocess.run(module, capture_output=True, text=True, check=True).stdout
        cold_ms, worked_ms, peak_mb = map(float, output.split())
        yield Figure(f"a book of {of}, cold", cold_ms, "ms")
        yield Figure("the same, of processors", worked_ms, "ms")
        yield Figure("the same, memory of the process at its peak", peak_mb, "MB")
        works: dict[str, Callable[[], Any]] = {
            "the table": lambda: the_table(uri),
            "with claims": lambda: ours(uri, contracts),
            **by_duckdb(uri),
            "files alone": lambda: files_alone(uri),
        }
        least = least_in_turns(works, 3 if quick else TURNS)
        for floor in [what for what in works if what not in ("the table", "with claims")]:
            for what in ("the table", "with claims") if floor == "files alone" else ("the table",):
                yield Figure(f"{what}, beside {floor}", least[what][0] * 1e3, "ms", least[floor][0] * 1e3, floor)
        table = open_book_table(spec(uri))
        table.read(datetime.now(UTC))
        unchanged = min(took(lambda: table.read(datetime.now(UTC))) for _ in range(TURNS))
        yield Figure("an unchanged table, looked at again", unchanged * 1e3, "ms")
        write_deltalake(uri, rows(length, 100, contracts, np.random.default_rng(2)), mode="append")
        yield Figure("the same, one commit later", took(lambda: table.read(datetime.now(UTC))) * 1e3, "ms")


def main(length: int, contracts: int, *, partitioned: bool) -> None:
    """Measure and print."""
    show(figures(length=length, contracts=contracts, partitioned=partitioned))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cold"]:
        cold(sys.argv[2], int(sys.argv[3]))
    else:
        given = [int(word) for word in sys.argv[1:3]]
        main(*(given + [ROWS, CONTRACTS][len(given) :]), partitioned=sys.argv[3:] == ["partitioned"])
