"""Calls of one moment to one place, sent as one message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.runtime.ports import Answer

TOGETHER = frozenset({"slice", "in_step", "append", "load", "health", "wake", "set_halts", "hosted"})
"""The methods whose calls may be combined: many actors call each at once, and it costs the same for all of them."""

_GATHER_S = 0.002


class Together:
    """Sends calls of one moment as one message. ``send`` sends the calls of one key, each a tuple, and returns an
    answer for each."""

    def __init__(
        self,
        send: Callable[[Any, Sequence[tuple[object, ...]], float], Awaitable[list[Answer]]],
        gather_s: float = _GATHER_S,
    ) -> None:
        self._send = send
        self._gather_s = gather_s
        self._waiting: dict[Any, list[tuple[tuple[object, ...], float, asyncio.Future[Any]]]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def call(self, key: Any, call: tuple[object, ...], timeout_s: float) -> Any:
        """The answer of one call. Raises what ``send`` raised, or what the call raised."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append((call, timeout_s, answer))
        if len(waiting) == 1:
            loop.call_later(self._gather_s, self._go, key)
        return await answer

    def _go(self, key: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(key, self._waiting.pop(key)))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _carry(self, key: Any, waiting: list[tuple[tuple[object, ...], float, asyncio.Future[Any]]]) -> None:
        sent = [(call, answer) for call, _, answer in waiting if not answer.done()]
        if not sent:
            return
        answers: list[Answer]
        try:
            answers = await self._send(key, [call for call, _ in sent], max(timeout_s for _, timeout_s, _ in waiting))
        except Exception as error:  # noqa: BLE001 - each waiting caller gets it
            answers = [(False, error)] * len(sent)
        if len(answers) != len(sent):  # whose they are is not known
            found = f"{len(answers)} answers came back for {len(sent)} calls of {key}"
            answers = [(False, RuntimeError(found))] * len(sent)
        # By its place in what was sent, whoever has given up meanwhile: the next one's answer is not theirs.
        for (_, answer), (well, value) in zip(sent, answers, strict=True):
            if not answer.done():
                answer.set_result(value) if well else answer.set_exception(value)
