"""Changes what runs, from a strategy or a notebook: accounts, instruments, intervals, or a whole configuration.

The law of this module: a change is checked before it is requested, is made as a whole or not at all, and is durable on
return; before it returns, the call waits, within a bound, for the actors concerned, and reports the state of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from actors.runtime.ports import CallError
from brokers.versions import PROGRAM
from supervisor.changes import parsing
from supervisor.changes.asking import asked
from supervisor.changes.requests import Change, RemoveAccount, RemoveInstrument
from supervisor.changes.transaction import Changed
from supervisor.client.calls import Port, run_blocking
from supervisor.client.supervisor_client import SupervisorClient
from supervisor.config.models import Configuration
from supervisor.errors import NotAnswered
from supervisor.presentation.tables import Answer, Cell, Table, columns

if TYPE_CHECKING:
    from supervisor.supervision.rolling import RollBegun

WAIT_S = 60.0


class Changes(Answer):
    """The result of a change. One row for each account, instrument or section that differs; ``made`` is false where
    nothing differed or it was a dry run; ``waiting`` are the actors that do not run the new settings yet."""

    def __init__(self, result: Changed, states: Mapping[str, tuple[str, str]], *, forced: bool = False) -> None:
        self.result = result
        self._forced = forced
        self._states = dict(states)

    @property
    def made(self) -> bool:
        """Whether anything was changed."""
        return self.result.made

    @property
    def waiting(self) -> dict[str, str]:
        """The actors that did not run the new settings when the wait ended, and why."""
        return {name: words for name, (state, words) in self._states.items() if state != "SETTLED"}

    def to_dict(self) -> dict[str, Any]:
        """The change, the differing keys, the actors concerned, and those that are not ready."""
        return {**self.result.to_json(), "made": self.made, "waiting": self.waiting}

    def table(self) -> Table:
        """One row for each difference."""
        rows: list[dict[str, Cell]] = [
            {"what": row.kind, "name": row.name, "change": row.how.value, "keys": row.details}
            for row in self.result.rows
        ]
        return Table(self._title(), columns("what", "name", "change", "keys"), rows, tuple(self._notes()))

    def _title(self) -> str:
        if not self.result.rows:
            return f"{self.result.change}: nothing differs"
        return f"{self.result.change}: {'done' if self.made else 'what would change'}"

    def _notes(self) -> list[str]:
        effects = self.result.effects
        named = (("starts", effects.started), ("restarts", effects.restarted), ("stops", effects.stopped))
        notes = [f"{verb}: {', '.join(names)}" for verb, names in named if names]
        if self.result.rows and not notes:
            notes.append("no actor needs a restart")
        if self.result.held:
            notes.append(f"no longer managed, and not known to be flat: {'; '.join(self.result.held)}")
            notes += [] if self.made or self._forced else ["this needs --force (force=True)"]
        return notes + (self.outcome() if self.made else [])

    def outcome(self) -> list[str]:
        """The state of the actors concerned, as text."""
        if not self._states:
            return ["done: the change is journaled, and no actor is affected"]
        done = len(self._states) - len(self.waiting)
        lines = [
            f"done: the change is journaled, and {done} of {len(self._states)} affected actors run the new settings"
        ]
        return lines + [f"not yet: {name}: {words}" for name, words in self.waiting.items()]


class Upgrade(Answer):
    """The result of an upgrade actor by actor. ``begun`` is what it was to do, ``state`` how it ended as ``status``
    shows it, ``None`` where nothing had to be done or it was a dry run."""

    def __init__(self, begun: RollBegun, state: Mapping[str, Any] | None) -> None:
        self.begun = begun
        self.state = state

    @property
    def begun_at_all(self) -> bool:
        """Whether anything runs another version."""
        return bool(self.begun.actors or self.begun.supervisor)

    @property
    def done(self) -> bool:
        """Whether everybody runs the version."""
        return not self.begun_at_all or (self.state is not None and self.state["state"] == "DONE")

    @property
    def left(self) -> tuple[str, ...]:
        """The actors that run another version."""
        if self.state is None:
            return self.begun.actors
        return tuple(self.state["left"])

    def words(self) -> str:
        """What it does."""
        if not self.begun_at_all:
            return f"everybody runs {self.begun.to}"
        names = (*(("the supervisor",) if self.begun.supervisor else ()), *self.begun.actors)
        return f"{', '.join(self.begun.away_from)} → {self.begun.to}: {', '.join(names)}"

    def outcome(self) -> str:
        """How it ended."""
        if self.state is None or self.done:
            return self.words() if self.state is None else f"done: everybody runs {self.begun.to}"
        if self.state["state"] == "RUNNING":
            return f"it goes on; of another version: {', '.join(self.left) or 'nobody'}"
        at = f" at {self.state['failed']}" if self.state["failed"] else ""
        others = f"; of another version, as before: {', '.join(self.left)}" if self.left else ""
        return f"stopped{at}: {self.state['reason']}{others}. When that is mended, repeat it: it goes on with the rest"

    def to_dict(self) -> dict[str, Any]:
        """The versions, the actors, and how it ended."""
        begun = self.begun
        return {
            "to": begun.to,
            "from": list(begun.away_from),
            "actors": list(begun.actors),
            "supervisor": begun.supervisor,
            "done": self.done,
            "left": list(self.left),
            "failed": None if self.state is None else self.state["failed"],
            "reason": None if self.state is None else self.state["reason"],
        }

    def table(self) -> Table:
        """One row for each actor that ran another version."""
        rows: list[dict[str, Cell]] = [
            {"actor": name, "state": "as before" if name in self.left else f"runs {self.begun.to}"}
            for name in self.begun.actors
        ]
        return Table(self.words(), columns("actor", "state"), rows, () if self.state is None else (self.outcome(),))


class AsyncChanges:
    """The changes of :class:`~supervisor.client.aio.AsyncHandle`. Each raises ``ConfigurationError`` for invalid keys,
    :class:`~supervisor.changes.requests.ChangeRefused` for one that cannot be made now,
    :class:`~supervisor.changes.transaction.ChangeNotMade` while the journal is away (after these, nothing was changed),
    and :class:`NotAnswered`, after which the outcome is unknown. With ``dry_run`` nothing is changed; ``wait_s`` bounds
    the wait for the actors; ``force`` allows removing books that are not empty, or not verified."""

    _port: Callable[[], Port]

    def _strategy(self) -> str | None:
        """The strategy on whose behalf this handle acts."""
        return None

    async def add_account(
        self,
        account: Mapping[str, Any] | None = None,
        /,
        *,
        dry_run: bool = False,
        wait_s: float = WAIT_S,
        **keys: Any,
    ) -> Changes:
        """Add an account, by its keys in ``accounts.yaml``, as a mapping or as keywords. A secret is named as
        ``${NAME}``, a variable that is set where the actors run."""
        wanted = parsing.account_from({**(account or {}), **keys})
        return await self._change(wanted, force=False, dry_run=dry_run, wait_s=wait_s)

    async def remove_account(
        self, account: str, *, force: bool = False, dry_run: bool = False, wait_s: float = WAIT_S
    ) -> Changes:
        """Stop managing an account. Its records stay in the journal."""
        return await self._change(RemoveAccount(account), force=force, dry_run=dry_run, wait_s=wait_s)

    async def add_instrument(
        self, account: str, symbol: str, *, dry_run: bool = False, wait_s: float = WAIT_S, **overrides: Any
    ) -> Changes:
        """Add an instrument, with any of the settings that it may have in ``accounts.yaml``."""
        wanted = parsing.instrument_from(account, symbol, overrides)
        return await self._change(wanted, force=False, dry_run=dry_run, wait_s=wait_s)

    async def remove_instrument(
        self, account: str, symbol: str, *, force: bool = False, dry_run: bool = False, wait_s: float = WAIT_S
    ) -> Changes:
        """Stop managing an instrument. Its records stay in the journal."""
        return await self._change(RemoveInstrument(account, symbol), force=force, dry_run=dry_run, wait_s=wait_s)

    async def set_interval(
        self, account: str, symbol: str | None, interval_s: float, *, dry_run: bool = False, wait_s: float = WAIT_S
    ) -> Changes:
        """Check an instrument every ``interval_s`` seconds, or, for ``None``, those of the account that have no
        interval of their own. Each is restarted and keeps its book."""
        wanted = parsing.interval_from(account, symbol, interval_s)
        return await self._change(wanted, force=False, dry_run=dry_run, wait_s=wait_s)

    async def apply(
        self,
        configuration: str | os.PathLike[str] | Configuration,
        *,
        force: bool = False,
        dry_run: bool = False,
        wait_s: float = WAIT_S,
    ) -> Changes:
        """Run a configuration, or that of a file, from now on. Whatever does not differ is left alone."""
        wanted = parsing.configuration_from(configuration)
        return await self._change(wanted, force=force, dry_run=dry_run, wait_s=wait_s)

    async def roll(self, *, dry_run: bool = False, wait_s: float | None = None) -> Upgrade:
        """Replace the supervisor, and then every actor that runs another version than this program, one after another,
        each as well as it was before the next: the same as ``python -m supervisor apply --rolling``. The new version
        has to be installed wherever actors run, and to be that of the calling program. It stops at the first actor that
        does not come up, and goes on with the rest when it is called again. ``wait_s`` bounds the wait for its end.
        Raises :class:`ChangeRefused` where versions do not read each other's messages, and :class:`NotAnswered`."""
        supervisor = SupervisorClient(self._port, self._strategy())
        try:
            begun = await supervisor.roll(PROGRAM, dry_run=dry_run)
            result = Upgrade(begun, None)
            if dry_run or not result.begun_at_all:
                return result
            return Upgrade(begun, await supervisor.roll_ended(begun.to, wait_s=wait_s))
        except CallError as error:
            raise NotAnswered(f"how far the upgrade is, is not known: {error}. Check status(), or ask again") from None

    async def _change(self, wanted: Change, *, force: bool, dry_run: bool, wait_s: float) -> Changes:
        supervisor = SupervisorClient(self._port, self._strategy())
        try:
            result = await supervisor.change(wanted, asked(self._strategy()), force=force, dry_run=dry_run)
        except CallError as error:
            found = f"it is unknown whether this was done: {wanted}: {error}"
            raise NotAnswered(f"{found}. Check status(), or ask again") from None
        return Changes(result, await self._settled(supervisor, result, wait_s), forced=force)

    async def _settled(
        self, supervisor: SupervisorClient, result: Changed, wait_s: float
    ) -> Mapping[str, tuple[str, str]]:
        names = result.effects.names
        if not result.made or not names:
            return {}
        try:
            return await supervisor.settled(names, wait_s)
        except CallError as error:
            return {name: ("UNKNOWN", str(error)) for name in names}


class BlockingChanges:
    """The same, blocking, for :class:`~supervisor.client.blocking.Handle`."""

    _work: AsyncChanges

    def add_account(
        self,
        account: Mapping[str, Any] | None = None,
        /,
        *,
        dry_run: bool = False,
        wait_s: float = WAIT_S,
        **keys: Any,
    ) -> Changes:
        """See :meth:`AsyncChanges.add_account`."""
        return run_blocking(self._work.add_account(account, dry_run=dry_run, wait_s=wait_s, **keys))

    def remove_account(
        self, account: str, *, force: bool = False, dry_run: bool = False, wait_s: float = WAIT_S
    ) -> Changes:
        """See :meth:`AsyncChanges.remove_account`."""
        return run_blocking(self._work.remove_account(account, force=force, dry_run=dry_run, wait_s=wait_s))

    def add_instrument(
        self, account: str, symbol: str, *, dry_run: bool = False, wait_s: float = WAIT_S, **overrides: Any
    ) -> Changes:
        """See :meth:`AsyncChanges.add_instrument`."""
        return run_blocking(self._work.add_instrument(account, symbol, dry_run=dry_run, wait_s=wait_s, **overrides))

    def remove_instrument(
        self, account: str, symbol: str, *, force: bool = False, dry_run: bool = False, wait_s: float = WAIT_S
    ) -> Changes:
        """See :meth:`AsyncChanges.remove_instrument`."""
        return run_blocking(self._work.remove_instrument(account, symbol, force=force, dry_run=dry_run, wait_s=wait_s))

    def set_interval(
        self, account: str, symbol: str | None, interval_s: float, *, dry_run: bool = False, wait_s: float = WAIT_S
    ) -> Changes:
        """See :meth:`AsyncChanges.set_interval`."""
        return run_blocking(self._work.set_interval(account, symbol, interval_s, dry_run=dry_run, wait_s=wait_s))

    def apply(
        self,
        configuration: str | os.PathLike[str] | Configuration,
        *,
        force: bool = False,
        dry_run: bool = False,
        wait_s: float = WAIT_S,
    ) -> Changes:
        """See :meth:`AsyncChanges.apply`."""
        return run_blocking(self._work.apply(configuration, force=force, dry_run=dry_run, wait_s=wait_s))

    def roll(self, *, dry_run: bool = False, wait_s: float | None = None) -> Upgrade:
        """See :meth:`AsyncChanges.roll`."""
        return run_blocking(self._work.roll(dry_run=dry_run, wait_s=wait_s))
