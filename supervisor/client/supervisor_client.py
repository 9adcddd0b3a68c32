"""The calls to the supervisor actor, typed, with one retry policy: used by the command line and the handle.

The law of this module: while the supervisor restarts, a call waits and is made again, within its time-out; what must
not be done twice (a change, a stop) is called once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from actors.book.break_work import BreakAction, BreakRequest, Sides
from actors.book.trading_permission import Halted
from actors.messages import AccountHealth, CycleReport
from actors.names import SUPERVISOR
from actors.reconciliation.own_reports import Report
from actors.runtime.ports import CallError
from brokers.versions import Program
from supervisor.changes.asking import Asked, Who, asked
from supervisor.changes.requests import Change, ChangeRefused
from supervisor.client.calls import Port, call_with_retry

if TYPE_CHECKING:
    from supervisor.changes.transaction import Changed
    from supervisor.supervision.draining import Drained
    from supervisor.supervision.rolling import RollBegun

ANSWER_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 90.0
VERDICT_TIMEOUT_S = 600.0
CHANGE_TIMEOUT_S = 120.0
HALT_TIMEOUT_S = 40.0
"""A halt is answered when it is durable, or after ``halting.KEEP_WITHIN_S``."""
ROLL_LOOK_S = 1.0
ROLL_SILENT_S = 60.0
"""How long nobody may answer while code is upgraded: one supervisor ends, and the next one finds the actors."""


class SupervisorClient:
    """A supervisor behind a :class:`Port`. Every method raises :class:`~actors.runtime.ports.CallError` when the
    supervisor does not answer in time. ``strategy`` is recorded in the journal as the requester's; ``on_behalf_of`` is
    another person than the user of this process."""

    def __init__(
        self, port: Callable[[], Port], strategy: str | None = None, on_behalf_of: Asked | None = None
    ) -> None:
        self._port = port
        self._strategy = strategy
        self._on_behalf_of = on_behalf_of

    def _who(self) -> Asked:
        return self._on_behalf_of or asked(self._strategy)

    async def status(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """The document of ``status --json``."""
        found: dict[str, Any] = await self._ask("status", timeout_s=timeout_s)
        return found

    async def directory(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, dict[str, Any]]:
        """The accounts that run; see :meth:`supervisor.supervision.actor.Supervisor.directory`."""
        found: dict[str, dict[str, Any]] = await self._ask("directory", timeout_s=timeout_s)
        return found

    async def look_after(self, account: str, symbol: str) -> bool:
        """Start an instrument of an account that manages all; returns False where the account does not."""
        return bool(await self._ask("look_after", account, symbol, self._who()))

    async def actor_state(self, name: str, *, timeout_s: float) -> tuple[str, str]:
        """The state of an actor: one word, and a sentence with the reason."""
        word, words = await self._once("actor_state", name, timeout_s=timeout_s)
        return str(word), str(words)

    async def verdict(
        self, account: str | None, instrument: str | None, *, dry_run: bool
    ) -> list[tuple[AccountHealth, list[CycleReport]]]:
        """A verdict on every selected instrument, now."""
        found: list[tuple[AccountHealth, list[CycleReport]]] = await self._ask(
            "verdict", account, instrument, dry_run, self._who(), timeout_s=VERDICT_TIMEOUT_S
        )
        return found

    async def record(self, account: str, reports: dict[str, Sequence[Report]]) -> int:
        """Record our side's reports in the books of one account; returns the number of newly recorded ones."""
        return int(await self._ask("record", account, reports, self._who(), timeout_s=VERDICT_TIMEOUT_S))

    async def of_no_order(self, account: str, reports: dict[str, Sequence[Report]]) -> tuple[str, ...]:
        """The recorded fills that name an order their book does not have, one sentence each."""
        return tuple(await self._ask("of_no_order", account, reports, timeout_s=VERDICT_TIMEOUT_S))

    async def pause(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Stop the scheduled cycles of the selected instruments; returns those that answered."""
        return tuple(await self._ask("pause", account, instrument, self._who(), timeout_s=VERDICT_TIMEOUT_S))

    async def resume(self, account: str | None, instrument: str | None) -> tuple[str, ...]:
        """Start their scheduled cycles again; returns the instruments that answered."""
        return tuple(await self._ask("resume", account, instrument, self._who(), timeout_s=VERDICT_TIMEOUT_S))

    async def halt(self, account: str | None, instrument: str | None, reason: str | None) -> Halted:
        """Stop trading in an instrument, an account or everything, until it is resumed."""
        found: Halted = await self._ask("halt", account, instrument, reason, self._who(), timeout_s=HALT_TIMEOUT_S)
        return found

    async def resume_trading(self, account: str | None, instrument: str | None) -> Halted:
        """End the halts of an instrument, of an account and its instruments, or all."""
        found: Halted = await self._ask("resume_trading", account, instrument, self._who(), timeout_s=HALT_TIMEOUT_S)
        return found

    async def change(self, wanted: Change, asked_by: Who, *, force: bool = False, dry_run: bool = False) -> Changed:
        """Change what runs. Durable on return; refused as a whole with :class:`ChangeRefused` or
        :class:`ChangeNotMade`. ``force`` allows removing books that are not empty; ``dry_run`` only returns what the
        change would do."""
        found: Changed = await self._once("change", wanted, asked_by, force, dry_run, timeout_s=CHANGE_TIMEOUT_S)
        return found

    async def settled(self, names: Sequence[str], timeout_s: float) -> dict[str, tuple[str, str]]:
        """Wait, for at most ``timeout_s``, until these actors are as desired; returns the state of each."""
        found: dict[str, tuple[str, str]] = await self._once(
            "settled", names, timeout_s, timeout_s=timeout_s + ANSWER_TIMEOUT_S
        )
        return found

    async def restart(self, name: str) -> bool:
        """Restart one actor by its name; returns False when no actor has it."""
        return bool(await self._ask("restart", name, self._who()))

    async def drain(self, node: str, *, force: bool = False) -> Drained:
        """Move what is on a node to others, before it is taken away. Raises :class:`ChangeRefused`."""
        found: Drained = await self._once("drain", node, self._who(), force, timeout_s=HALT_TIMEOUT_S)
        return found

    async def roll(self, program: Program, *, dry_run: bool = False) -> RollBegun:
        """Begin to replace the supervisor and every actor that runs another version; with ``dry_run``, only return what
        that would be. Raises :class:`ChangeRefused`."""
        try:
            found: RollBegun = await self._once("roll", program, self._who(), dry_run, timeout_s=HALT_TIMEOUT_S)
        except (AttributeError, ValueError):
            attempted, found_instead = f"run {program} everywhere, actor by actor", "the supervisor's version cannot"
            raise ChangeRefused(attempted, found_instead, "Stop, and start with the new version.") from None
        return found

    async def roll_ended(
        self, to: str, see: Callable[[dict[str, Any]], None] = lambda _: None, wait_s: float | None = None
    ) -> dict[str, Any] | None:
        """Wait until the roll to that version has ended, for at most ``wait_s``; returns its state as ``status`` shows
        it. ``see`` receives each state on the way. While one supervisor makes room for the next, nobody answers; a
        longer silence raises ``CallError``."""
        port = self._port()
        began_s = heard_s = port.monotonic_s()
        state: dict[str, Any] | None = None
        while wait_s is None or port.monotonic_s() < began_s + wait_s:
            try:
                state = await self._once("rolled", ROLL_LOOK_S, timeout_s=ANSWER_TIMEOUT_S)
            except CallError:
                if port.monotonic_s() - heard_s > ROLL_SILENT_S:
                    raise
                await port.sleep(ROLL_LOOK_S)
                continue
            heard_s = port.monotonic_s()
            if state is not None and state["to"] == to:
                see(state)
                if state["state"] != "RUNNING":
                    break
        return state

    async def breaks(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> list[dict[str, Any]]:
        """Every open break with the work on it, the most urgent first."""
        found: list[dict[str, Any]] = await self._ask("breaks", timeout_s=timeout_s)
        return found

    async def work_on_break(
        self,
        action: BreakAction,
        break_id: str,
        *,
        reason: str | None = None,
        note: str | None = None,
        until: datetime | None = None,
        owner: str | None = None,
        sides: Sides | None = None,
    ) -> dict[str, Any]:
        """Apply an operator's request to an open break; returns its new row. Also raises :class:`BreakRefused` and
        :class:`JournalAway`."""
        who = self._who()
        request = BreakRequest(
            action, who.by, reason, note, until, owner, sides, who.via, who.program, who.process or None, who.strategy
        )
        found: dict[str, Any] = await self._once("work_on_break", break_id, request, timeout_s=HALT_TIMEOUT_S)
        return found

    async def story(self, name: str) -> list[tuple[float, str]] | None:
        """The history of an actor: how many seconds ago, and what happened; ``None`` where no actor has that name."""
        found: list[tuple[float, str]] | None = await self._ask("story", name)
        return found

    async def stop(self) -> None:
        """End every actor in order; the process that started the supervisor ends the supervisor itself."""
        await self._once("stop", self._who(), timeout_s=STOP_TIMEOUT_S)

    async def pid(self) -> int:
        """The supervisor's process; this does not wait for a supervisor that is not there now."""
        return int(await self._once("pid", timeout_s=ANSWER_TIMEOUT_S))

    async def _ask(self, method: str, *args: object, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        return await call_with_retry(self._port(), SUPERVISOR, method, *args, timeout_s=timeout_s)

    async def _once(self, method: str, *args: object, timeout_s: float) -> Any:
        return await self._port().call(SUPERVISOR, method, *args, timeout_s=timeout_s)
