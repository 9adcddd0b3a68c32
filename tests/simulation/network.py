"""What becomes of a message between two actors: it is late, lost, doubled, or its receiver dies of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from actors.runtime.ports import ActorUnavailable
from tests.simulation.faults import Faults

ONCE = frozenset({"cancel_order", "host", "evict"})
"""The only call that changes anything at a broker is never repeated, and neither is what the cluster does."""


class Network:
    """Carries the messages of the house. ``strike`` is asked to kill an actor, so many steps of the loop from now;
    ``who`` is the one that bears a name now, as a message that comes again comes to whom it was sent and never to a
    later one of that name."""

    def __init__(self, faults: Faults, strike: Callable[[str, int], None], who: Callable[[str], object]) -> None:
        self._faults = faults
        self._strike = strike
        self._who = who
        self._again: set[asyncio.Task[None]] = set()
        self.carried: Counter[str] = Counter()

    async def __call__(self, actor: str, method: str, send: Callable[[], Awaitable[Any]]) -> Any:
        faults, random = self._faults, self._faults.random
        self.carried[method] += 1
        faults.note(f"-> {actor}.{method}")
        if faults.strikes("message late", 0.05):
            await asyncio.sleep(random.choice((0.01, 0.3, 3.0)) * random.random())
        if faults.strikes("message lost", 0.02):
            raise ActorUnavailable(actor, method, "the message was lost")
        if faults.strikes("receiver dies", 0.01):
            self._strike(actor, random.randrange(40))
        if method not in ONCE and faults.strikes("message twice", 0.02):
            await send()
        if method not in ONCE and faults.strikes("message again later", 0.01):
            task = asyncio.ensure_future(self._later(actor, send, random.uniform(0, 20)))
            self._again.add(task)
            task.add_done_callback(self._again.discard)
        answer = await send()
        if faults.strikes("answer late", 0.03):
            await asyncio.sleep(random.choice((0.3, 3.0, 30.0)) * random.random())
        if faults.strikes("answer lost", 0.02):
            raise ActorUnavailable(actor, method, "its answer was lost")
        faults.note(f"<- {actor}.{method}: {type(answer).__name__}")
        return answer

    async def _later(self, actor: str, send: Callable[[], Awaitable[Any]], seconds: float) -> None:
        receiver = self._who(actor)
        await asyncio.sleep(seconds)
        if self._faults.active and self._who(actor) is receiver:
            try:
                await send()
            except Exception as error:  # noqa: BLE001 - nobody waits for the answer of a message that came twice
                self._faults.note(f"the repeated message failed: {type(error).__name__}")
