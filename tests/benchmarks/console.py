"""What the page takes: a fleet of 200 instruments rendered, and what an open page is sent while they are looked at
every two seconds and some of them break. Beside a floor of the same run.

``python -m tests.benchmarks.console``
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from supervisor.console.stream import as_json
from supervisor.console.users import Role
from tests.benchmarks.form import Figure, show
from tests.console.house import House, a_break, document, instrument

INSTRUMENTS, PAGES, SECONDS, INTERVAL_S, BREAKS = 200, 10, 60, 2, 5


def held(number: int, of: int, **changed: Any) -> dict[str, Any]:
    """An instrument with two legs and an order; with another ``of`` nothing of its row is what it was."""
    legs = [{"leg": leg, "quantity": str(100 + of), "average_price": "1.23456"} for leg in ("long", "short")]
    order = {
        "broker_order_id": str(number), "client_order_id": f"c{number}", "side": "BUY", "quantity": "5",
        "filled_quantity": "0", "status": "WORKING",
    }  # fmt: skip
    return instrument(f"SYM{number:03}", book={"legs": legs, "open_orders": [order]}, **changed)


def best_ms(work: Callable[[int], object], times: int) -> float:
    """The shortest of some runs, in milliseconds; each gets its number."""
    took = []
    for number in range(times):
        began_s = time.perf_counter()
        work(number)
        took.append(time.perf_counter() - began_s)
    return min(took) * 1000


def floor(status: dict[str, Any]) -> str:
    """The least that a table of as many cells takes: each escaped and put between its tags."""
    rows = []
    for row in status["accounts"][0]["instruments"]:
        cells = (
            row["instrument"],
            row["status"],
            "why",
            str(row["book"]["legs"][0]["quantity"]),
            "the same",
            "UP",
            "2s",
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return "".join(rows)


def rendered(house: House, times: int) -> Iterator[Figure]:
    """The page, from the request to the answer."""
    with house.browser("vic") as browser:

        def ask(number: int, of: int) -> float:
            house.desk.status = document(*(held(one, of) for one in range(INSTRUMENTS)))
            house.later(2)
            began_s = time.perf_counter()
            browser.get("/")
            return (time.perf_counter() - began_s) * 1000

        for words, fresh in (("every row new", True), ("no row new", False)):
            took_ms = min(ask(number, number if fresh else 0) for number in range(times))
            floor_ms = best_ms(lambda _: floor(house.desk.status), times)
            yield Figure(f"the page of {INSTRUMENTS} instruments, {words}", took_ms, "ms", floor_ms, "its cells alone")
        yield Figure("an empty answer", best_ms(lambda _: browser.get("/healthz"), times), "ms")


async def updated(house: House, seconds: int) -> list[Figure]:
    """What one of ten open pages is sent, and what all of them cost."""
    chance = random.Random(1)  # noqa: S311 - a figure, and no secret
    streams, feed = house.console.streams, house.console.feed
    house.desk.status = document(*(held(one, 0) for one in range(INSTRUMENTS)))
    seen = await feed.refresh()
    found = await streams.now("/", Role.VIEWER, seen)
    assert found is not None
    has = [streams.has("/", Role.VIEWER, found[1]) for _ in range(PAGES)]
    sent, worked_s = [], 0.0
    rows = house.desk.status["accounts"][0]["instruments"]
    for second in range(seconds):
        house.now_s += 1
        for row in rows:
            row["health"]["verified_age_s"] += 1.0
        for row in rows[second % INTERVAL_S :: INTERVAL_S]:
            row["health"]["verified_age_s"] = chance.random()
        broken = chance.sample(range(INSTRUMENTS), BREAKS)
        house.desk.breaks = [a_break(f"SYM{one:03}", id=f"{one:032x}") for one in broken]
        began_s = time.process_time()
        seen = await feed.refresh()
        messages = [await streams.message("/", Role.VIEWER, seen, one) for one in has]
        texts = [as_json(one).encode() for one in messages if one is not None]
        worked_s += time.process_time() - began_s
        sent.append(len(texts[0]))
    whole = len(as_json(dict(found[0].parts)).encode())
    mean, worked = sum(sent) / len(sent), worked_s / seconds * 100
    return [
        Figure("sent to an open page each second", mean / 1000, "kB", whole / 1000, "the page itself"),
        Figure(f"{PAGES} open pages, of a core", worked, "%"),
    ]


def figures(*, quick: bool = False) -> Iterator[Figure]:
    """What the page takes, and what open ones are sent."""
    with tempfile.TemporaryDirectory() as directory:
        house = House(Path(directory))
        house.open()
        yield from rendered(house, 5 if quick else 20)
        house.close()
    with tempfile.TemporaryDirectory() as directory:
        yield from asyncio.run(updated(House(Path(directory)), 10 if quick else SECONDS))


def main() -> None:
    """Measure and print."""
    show(figures())


if __name__ == "__main__":
    main()
