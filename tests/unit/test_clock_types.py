"""Kind: a wall clock taken for the order of events. That two clocks cannot be compared by mistake is in the types: mypy
refuses each wrong line of this table, and none of the right ones. One run of mypy reads them all, with what the
project's own run left in its cache."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEGINS = """\
from datetime import datetime, timedelta

from actors.book.book import Book
from actors.runtime.ports import Runtime
from brokers.clocks import BrokerTime, ahead_of_ours, broker_time, shown
from brokers.ib.reading import Lists
from brokers.ib.wire import Execution
from brokers.kit.sdk_call import Answer
from brokers.kite.sessions import last_moment
from brokers.model import ContractFacts, Fill, Order, Slice, Snapshot
from brokers.oanda.account import Reading


def compare(
    book: Book, fill: Fill, order: Order, one: Slice, all_: Snapshot, facts: ContractFacts, now: datetime, run: Runtime,
    heard: Execution, lists: Lists, answer: Answer, oanda: Reading,
) -> None:
"""
REFUSED = """\
fill.time < now
now >= fill.time
fill.time <= one.requested_at
one.as_of > all_.requested_at
now - fill.time
fill.time - now
one.as_of - one.requested_at
order.submitted_at is not None and now - order.submitted_at > timedelta(minutes=1)
order.expires_at is not None and order.expires_at <= run.now()
book.covered("net", now)
book.watermarks["net"] = now
book.known_at["net"] = one.as_of
book.baseline is not None and now > book.baseline
facts.has_expired(now)
any(now <= at for at in book.watermarks.values())
sorted([(fill.time, 1)])[0] < (now, 1)
fill.time < max(one.as_of, now) - timedelta(seconds=1)
now < run.monotonic_s()
now - run.monotonic_s()
fill.time > run.monotonic_s()
one.as_of - run.monotonic_s()
heard.time > now
lists.began_at - lists.requested_at
answer.date is not None and answer.date - now
answer.looked_at is not None and answer.looked_at < now
oanda.newest is not None and oanda.newest > now
now > last_moment("NFO:X", now.date())
shown(now)
broker_time(fill.time)
ahead_of_ours(now, now)
""".splitlines()
LET_PASS = """\
fill.time <= one.as_of
fill.time - one.as_of > timedelta(seconds=1)
book.covered("net", fill.time)
facts.has_expired(one.as_of)
sorted([(fill.time, 1)])[0] < (one.as_of, 1)
now - one.requested_at
run.monotonic_s() - run.monotonic_s()
ahead_of_ours(one.as_of, one.requested_at)
broker_time(now) < fill.time
shown(fill.time) < now
heard.time > lists.began_at
oanda.newest == answer.looked_at
fill.time.isoformat()
""".splitlines()


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is part of the development environment")
def test_mypy_refuses_to_compare_two_clocks(tmp_path: Path) -> None:
    lines = (*REFUSED, *LET_PASS)
    written = tmp_path / "compares_clocks.py"
    written.write_text(BEGINS + "".join(f"    {line}\n" for line in lines))
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", str(written)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
    )
    first = BEGINS.count("\n") + 1
    refused = {lines[int(number) - first] for number in re.findall(r"compares_clocks\.py:(\d+): error", ran.stdout)}
    assert (set(REFUSED) - refused, refused - set(REFUSED)) == (set(), set()), ran.stdout + ran.stderr
