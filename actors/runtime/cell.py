"""A cell: one actor that carries many, each still with its own name, mailbox, state and restarts.

An instrument's own work is small and a process is not, so a few cells carry a large account. A caller calls an actor by
its own name and need not know that it is carried: :class:`~actors.runtime.ports.LocalRuntime` and
:mod:`actors.runtime.ray_backend` find its cell.

The laws of this module:

* Whatever a carried actor does, or is done to it, changes no other: each is created, begun and ended separately, and
  its running work ends with it. The end of the process ends all of them.
* Calls between two actors of one cell stay inside it. Calls that many of them make at once of the same method of one
  actor are sent together (:mod:`actors.runtime.together`), and each has its own answer.
* Nobody new comes into a cell that runs another version than whoever makes them.
* Only a cell knows which actors it carries, and what others remember holds only until it is wrong: an actor that has
  left answers like one that does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from actors.names import cell_name
from actors.runtime.nodes import EVERYWHERE, Place
from actors.runtime.ports import Answer, CallTimeout, LocalRuntime, Runtime, answer_of
from actors.runtime.together import TOGETHER, Together
from brokers.versions import PROGRAM, Program

SIZE = 500
"""How many instruments ``auto`` puts into one cell."""


class Carrier(Runtime, Protocol):
    """The runtime of the cell itself."""

    async def call_many(
        self, actor: str, method: str, calls: Sequence[tuple[object, ...]], timeout_s: float
    ) -> list[Answer]:
        """One call for each tuple of arguments, sent as one message. Raises as ``call`` does if none was answered."""


class Seats:
    """Which cell carries which actor: the lowest-numbered cell of its group and place with room."""

    def __init__(self) -> None:
        self._cell_of: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._members: dict[str, set[str]] = {}

    @property
    def cells(self) -> Mapping[str, set[str]]:
        """Every cell with the actors it carries."""
        return self._members

    def cell_of(self, name: str) -> str | None:
        """The cell that carries an actor."""
        return self._cell_of.get(name)

    def take(self, name: str, group: str, size: int, place: Place = EVERYWHERE, shunned: Collection[str] = ()) -> str:
        """A seat for an actor: its present one while its cell is not overfull and of its place, or a new one; never one
        in a cell that is ``shunned``."""
        cell = self._cell_of.get(name)
        stays = cell is not None and cell not in shunned
        if cell is not None and stays and len(self._members[cell]) <= size and self._places[cell] == place:
            return cell
        self.leave(name)
        number = 1
        while (found := cell_name(group, number)) in shunned or not self._has_room(found, size, place):
            number += 1
        self.found(cell_name(group, number), [name], place)
        return cell_name(group, number)

    def _has_room(self, cell: str, size: int, place: Place) -> bool:
        return cell not in self._members or (len(self._members[cell]) < size and self._places[cell] == place)

    def found(self, cell: str, names: Iterable[str], place: Place = EVERYWHERE) -> None:
        """A cell of this place reports that it carries these actors."""
        members = self._members.setdefault(cell, set())
        self._places[cell] = place
        for name in names:
            members.add(name)
            self._cell_of[name] = cell

    def leave(self, name: str) -> None:
        """The actor is no longer carried."""
        cell = self._cell_of.pop(name, None)
        if cell is not None:
            self._members[cell].discard(name)
            if not self._members[cell]:
                del self._members[cell]
                del self._places[cell]

    def forget(self, cell: str) -> None:
        """The cell has ended, with everything it carried."""
        self._places.pop(cell, None)
        for name in self._members.pop(cell, ()):
            del self._cell_of[name]


class CellRuntime(LocalRuntime):
    """The runtime of the actors in one cell: for each other, and through the cell's own runtime for all others."""

    def __init__(self, outer: Carrier) -> None:
        super().__init__(outer.now, outer.monotonic_s, outer.uniform)
        self._outer = outer
        self._together = Together(self._send)

    async def call(self, actor: str, method: str, *args: object, timeout_s: float) -> Any:
        """Call an actor of this cell, or any other."""
        if actor in self._actors:
            return await super().call(actor, method, *args, timeout_s=timeout_s)
        if method not in TOGETHER:
            return await self._outer.call(actor, method, *args, timeout_s=timeout_s)
        try:
            async with asyncio.timeout(timeout_s) as limit:
                return await self._together.call((actor, method), args, timeout_s)
        except TimeoutError:
            if not limit.expired():
                raise  # the method's own
            raise CallTimeout(actor, method, f"no answer within {timeout_s:g} s") from None

    async def answer(self, actor: str, method: str, args: tuple[object, ...]) -> Answer:
        """The answer of an actor of this cell to a call from outside."""
        return await answer_of(self._run(actor, method, args))

    async def _send(self, key: tuple[str, str], calls: Sequence[tuple[object, ...]], timeout_s: float) -> list[Answer]:
        actor, method = key
        return await self._outer.call_many(actor, method, calls, timeout_s)


class Cell:
    """Carries actors. ``runtime`` is its own; each carried actor gets another in its place. ``place`` holds for all of
    them."""

    def __init__(self, name: str, runtime: Carrier, place: Place = EVERYWHERE) -> None:
        self._name = name
        self._place = place
        self._outer = runtime
        self._inner = CellRuntime(runtime)

    def __repr__(self) -> str:
        return self._name

    async def host(
        self,
        name: str,
        make: Callable[..., Any],
        args: tuple[object, ...],
        begin: str | None,
        begin_with: tuple[object, ...],
        timeout_s: float,
    ) -> None:
        """Create an actor, replacing one of that name, and begin its work. An argument that is a runtime like the
        cell's own is replaced by that of the carried actors. Raises what the constructor or the first method raised;
        then nothing of the actor is left."""
        await self._inner.kill(name)
        given = [self._inner if isinstance(one, type(self._outer)) else one for one in args]
        self._inner.register(name, make(*given))
        if begin is None:
            return
        try:
            await self._inner.call(name, begin, *begin_with, timeout_s=timeout_s)
        except BaseException:
            await self._inner.kill(name)
            raise

    async def evict(self, name: str) -> None:
        """End an actor at once."""
        await self._inner.kill(name)

    async def hosted(self) -> tuple[str, ...]:
        """The names of the carried actors."""
        return self.carried()

    def carried(self) -> tuple[str, ...]:
        """The same, for code in its process."""
        return self._inner.names()

    async def program(self) -> Program:
        """What its process runs."""
        return PROGRAM

    async def place(self) -> Place:
        """The place it was made for."""
        return self._place

    def actor(self, name: str) -> object:
        """The carried actor of this name. Raises ``KeyError``."""
        return self._inner.actor(name)

    def carries(self, name: str) -> bool:
        """Whether it carries an actor of this name."""
        return name in self._inner.names()

    async def deliver(self, calls: Sequence[tuple[str, str, tuple[object, ...]]]) -> list[Answer]:
        """Make calls of carried actors (name, method, arguments), each with its answer. An actor that is not here
        answers with :class:`~actors.runtime.ports.ActorUnavailable`."""
        return await asyncio.gather(*[self._inner.answer(name, method, args) for name, method, args in calls])

    async def end(self) -> None:
        """End all carried actors."""
        for name in self._inner.names():
            await self._inner.kill(name)
