"""The audit actor as a Ray process, beside an actor of the same making that does nothing with what it is given.

    python -m tests.benchmarks.journal_actor [WRITERS]

Each of a hundred writers, unless said otherwise, offers ten events, waits for its answer and offers the next ten; both
actors get the very same calls, in turns, in one run, over their sockets, as all actors of one machine do. Prints the
calls a second of both and their ratio (target: a fifth), that every acknowledged event is on disk, and how long one
append takes at 500 events a second (target: 99 of 100 within 50 ms).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from actors.runtime.ray_environment import prepare

prepare(None)

from actors.events import Event  # noqa: E402 - as above
from actors.journal.actor import Audit  # noqa: E402 - as above
from actors.journal.store import Journal  # noqa: E402 - as above
from actors.journal.types import Appended, JournalInUse  # noqa: E402 - as above
from actors.runtime import ray_backend, ray_cluster, ray_session  # noqa: E402 - what prepare sets must be set before Ray is imported
from actors.runtime.deployment import Deployment  # noqa: E402 - as above
from tests.benchmarks.form import Figure, show  # noqa: E402 - as above
from tests.benchmarks.journal import (  # noqa: E402 - as above
    EVENTS_PER_APPEND,
    MEASURED_S,
    an_event,
    latencies_ms,
    percentile,
)

NAMESPACE = "benchmark"
NOTHING, AUDIT = "nothing", "audit"
ROUNDS = 5
APPENDS_EACH = 40
TIMEOUT_S = 60.0


class Nothing:
    """Answers as the audit actor does, and does nothing."""

    async def append(self, stream: str, expected_version: int, events: Sequence[Event]) -> Appended:
        """The answer to an append that nobody wrote."""
        assert stream
        return Appended(expected_version + len(events), 0)


class Writers:
    """Writers that each go on with a stream of their own."""

    def __init__(self, actor: str, count: int) -> None:
        self._actor = actor
        self._runtime = ray_backend.RayRuntime(NAMESPACE)
        self.versions = {f"fx/I{number:03d}": 0 for number in range(count)}

    async def append(self, stream: str) -> None:
        """Offer ten events and wait until they are taken."""
        version = self.versions[stream]
        events = [an_event(stream, version + place) for place in range(1, EVENTS_PER_APPEND + 1)]
        answer = await self._runtime.call(self._actor, "append", stream, version, events, timeout_s=TIMEOUT_S)
        assert isinstance(answer, Appended)
        self.versions[stream] = answer.version

    async def calls_a_second(self, each: int) -> float:
        """All of them at once, each so many appends, one after the other."""

        async def write(stream: str) -> None:
            for _ in range(each):
                await self.append(stream)

        began_s = time.perf_counter()
        await asyncio.gather(*map(write, self.versions))
        return each * len(self.versions) / (time.perf_counter() - began_s)


async def _measure(count: int, each: int, for_s: float) -> tuple[list[float], list[float], list[float], int]:
    nothing, audit = Writers(NOTHING, count), Writers(AUDIT, count)
    await nothing.calls_a_second(each)
    await audit.calls_a_second(each)
    idle, ours = [], []
    for _ in range(ROUNDS):
        idle.append(await nothing.calls_a_second(each))
        ours.append(await audit.calls_a_second(each))
    streams = list(audit.versions)
    took_ms = await latencies_ms(lambda turn: audit.append(streams[turn % count]), for_s)
    return idle, ours, took_ms, sum(audit.versions.values())


def _opened(url: str) -> Journal:
    """As soon as the process of the actor has ended: its name is free before that."""
    while True:
        try:
            return Journal.open(url, exclusive=True)
        except JournalInUse:
            time.sleep(0.1)


def figures(*, quick: bool = False, writers: int = 100) -> Iterator[Figure]:
    """The audit actor and one that does nothing, in turns; raises where what was acknowledged is not on disk."""
    ray_session.start_or_join("local", NAMESPACE, dashboard=False)
    try:
        with tempfile.TemporaryDirectory() as directory:
            url = f"sqlite:///{Path(directory)}/journal.db"
            for name, actor, given in ((NOTHING, Nothing, ()), (AUDIT, Audit, (url,))):
                ray_cluster.create(Deployment(name, actor, given, begin=None), NAMESPACE)
            each, for_s = (2, 3.0) if quick else (APPENDS_EACH, MEASURED_S)
            idle, ours, took_ms, acknowledged = asyncio.run(_measure(writers, each, for_s))
            ray_cluster.kill(AUDIT, NAMESPACE)
            ray_cluster.kill(NOTHING, NAMESPACE)
            written = _opened(url)
            found = written.verify()
            written.close()
    finally:
        ray_session.leave()
    if not found.ok or found.records < acknowledged:
        raise AssertionError(f"{acknowledged} acknowledged, {found.records} on disk after a kill, intact: {found.ok}")
    name = f"an append of ten events through the audit actor, {writers} writers"
    best_us, floor_us = 1e6 / max(ours), 1e6 / max(idle)
    yield Figure(name, best_us, "µs", floor_us, "a call of an actor that does nothing", "5 x")
    yield Figure("one append at 500 events/s through the audit actor, p50", percentile(took_ms, 50), "ms")
    yield Figure(
        "one append at 500 events/s through the audit actor, p99", percentile(took_ms, 99), "ms", target="50 ms"
    )


def main(count: int) -> None:
    """Measure and print."""
    show(figures(writers=count))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
