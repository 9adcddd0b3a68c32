"""The handle for asyncio strategies. :mod:`supervisor.client.blocking` runs the same code, blocking.

The law of this module: an error about an account or instrument that does not run names it and lists those that do; a
call that changes something returns the result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from actors.events import EventType, Severity
from actors.journal.record_filter import RecordQuery
from actors.journal.types import JournalError
from actors.names import AUDIT, SUPERVISOR, instrument_name, split_name
from actors.runtime.ports import ActorUnavailable, CallError
from brokers.model import LegScheme
from supervisor.client.answers import Halts, Status, Verdict
from supervisor.client.arguments import aware, count, identity
from supervisor.client.breaks import AsyncBreaks
from supervisor.client.calls import Port, call_with_retry
from supervisor.client.changes import AsyncChanges
from supervisor.client.connection import Connection
from supervisor.client.events import AsyncEventStream
from supervisor.client.instrument import TIMEOUT_S, AsyncInstrument, AsyncVenue, Named
from supervisor.client.records import Records, event_types, live_filter, severity_of
from supervisor.client.supervisor_client import SupervisorClient
from supervisor.errors import HaltNotDurable, NotAnswered, UnknownName, no_account, no_instrument
from supervisor.supervision.halts import not_durable

if TYPE_CHECKING:
    from supervisor.supervision.draining import Drained

T = TypeVar("T")


class AsyncHandle(AsyncChanges):
    """A running supervisor, for asyncio: ``sup.aio`` of :func:`supervisor.connect`'s handle."""

    def __init__(self, connection: Connection, port: Callable[[], Port]) -> None:
        self._connection = connection
        self._port = port
        self._supervisor = SupervisorClient(port, connection.place.strategy)
        self.breaks = AsyncBreaks(port, connection.place.strategy)

    def _strategy(self) -> str | None:
        return self._connection.place.strategy

    def __reduce__(self) -> NoReturn:
        raise TypeError("send the handle of supervisor.connect() to another process, and use its .aio there")

    async def instrument(self, account: str, symbol: str) -> AsyncInstrument:
        """One instrument. If its account manages all instruments, an unknown one is started. Raises
        :class:`UnknownName` with the known ones, and :class:`NotAnswered`."""
        return AsyncInstrument(await self.named(account, symbol), self._connection, self._port)

    async def named(self, account: str, symbol: str) -> Named:
        """Look an instrument up; raises as :meth:`instrument`."""
        known = await self._directory()
        if account not in known:
            raise no_account(account, known)
        found = known[account]
        if symbol not in found["instruments"]:
            taken = found["all"] and await self._answered("look_after", self._supervisor.look_after(account, symbol))
            if not taken:
                raise no_instrument(account, symbol, found["instruments"])
        return Named(account, symbol, instrument_name(account, symbol), LegScheme(found["legs"]))

    async def venue(self, account: str) -> AsyncVenue:
        """The venue of a paper account. Raises :class:`UnknownName`."""
        await self._check(account, None)
        return AsyncVenue(account, self._port)

    # Asking

    async def status(self) -> Status:
        """The supervisor's last report on everything, in one call. Raises :class:`NotAnswered`."""
        return Status(await self._answered("status", self._supervisor.status(timeout_s=TIMEOUT_S)))

    async def status_now(self, *, timeout_s: float) -> dict[str, Any]:
        """The document of :meth:`status`, only from a supervisor that answers at once. Raises ``CallError``."""
        return await self._supervisor.status(timeout_s=timeout_s)

    async def reconcile(self, account: str | None = None, instrument: str | None = None) -> Verdict:
        """Check everything, an account or an instrument now, and return the verdict. Raises :class:`UnknownName` and
        :class:`NotAnswered`."""
        return await self._verdict(account, instrument, dry_run=False)

    async def detect_drift(self, account: str | None = None, instrument: str | None = None) -> Verdict:
        """Find every difference and change nothing. Raises as :meth:`reconcile`."""
        return await self._verdict(account, instrument, dry_run=True)

    async def audit(
        self,
        account: str | None = None,
        instrument: str | None = None,
        *,
        types: Collection[EventType | str] | None = None,
        severity: Severity | str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order_id: str | int | None = None,
        fill_id: str | int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> Records:
        """The records of the journal that match every filter, at most ``limit``. ``since`` is inclusive and ``until``
        exclusive, both aware. Raises ``TypeError`` and ``ValueError`` for an invalid filter, :class:`UnknownName` for
        an account or instrument that neither runs nor is in the journal, and :class:`NotAnswered`."""
        asked: RecordQuery = {
            "account": account,
            "instrument": instrument,
            "types": event_types(types),
            "severity": severity_of(severity),
            "since": aware("since", since),
            "until": aware("until", until),
            "order_id": None if order_id is None else identity("order_id", order_id),
            "fill_id": None if fill_id is None else identity("fill_id", fill_id),
            "limit": count("limit", limit),
            "order": "newest" if newest_first else "oldest",
        }
        found = Records(await self._journal("query", asked))
        if not found:
            await self._check_journaled(account, instrument)
        return found

    def events(
        self,
        types: Collection[EventType | str] | None = None,
        *,
        account: str | None = None,
        instrument: str | None = None,
        severity: Severity | str | None = None,
        after_seq: int | None = None,
        idle_s: float | None = None,
    ) -> AsyncEventStream:
        """Every record from now on, or after ``after_seq``, as it is written. With ``idle_s`` the stream ends when no
        matching record came for so long."""
        return AsyncEventStream(self._port, live_filter(types, severity, account, instrument), after_seq, idle_s)

    # Operating

    async def halt(
        self, account: str | None = None, instrument: str | None = None, *, reason: str | None = None
    ) -> Halts:
        """Stop trading in an instrument, an account, or everything: ``trading_allowed`` is false from now on, also
        after every restart, until trading is resumed. The halt is in force at once, and durable on return: the call
        waits for a journal that is away. Raises :class:`HaltNotDurable` where it stays away, :class:`NotAnswered` (halt
        again after either), and :class:`UnknownName`."""
        await self._check(account, instrument)
        try:
            words = None if reason is None else str(reason)
            result = await self._answered("halt", self._supervisor.halt(account, instrument, words))
        finally:
            self._connection.permissions.clear()
        if result.failure is not None:
            raise HaltNotDurable(not_durable(result.failure), result)
        return Halts("halted", result)

    async def resume_trading(self, account: str | None = None, instrument: str | None = None) -> Halts:
        """End the halts of an instrument, of an account with its instruments, or all. A wider halt stays in force and
        is shown. Raises as :meth:`halt`."""
        await self._check(account, instrument)
        result = await self._answered("resume_trading", self._supervisor.resume_trading(account, instrument))
        self._connection.permissions.clear()
        return Halts("trading resumed", result)

    async def pause(self, account: str | None = None, instrument: str | None = None) -> tuple[str, ...]:
        """Stop the scheduled cycles of the selected instruments; returns those that answered."""
        await self._check(account, instrument)
        return await self._answered("pause", self._supervisor.pause(account, instrument))

    async def resume(self, account: str | None = None, instrument: str | None = None) -> Halts:
        """Resume paused instruments, and end halts like :meth:`resume_trading`: the same as ``python -m supervisor
        resume``. Raises as :meth:`halt`."""
        halts = await self.resume_trading(account, instrument)
        reached = await self._answered("resume", self._supervisor.resume(account, instrument))
        silent = {*halts.result.silent, *(set(halts.result.instruments) - set(reached))}
        return Halts("resumed", replace(halts.result, instruments=tuple(reached), silent=tuple(sorted(silent))))

    async def restart(self, name: str) -> bool:
        """Restart one actor by the name that ``status`` shows; this ends a quarantine. Returns True. Raises
        :class:`UnknownName` with the known names, and :class:`NotAnswered`."""
        if not await self._answered("restart", self._supervisor.restart(name)):
            known = [actor["name"] for actor in (await self.status()).to_dict()["supervisor"]["actors"]]
            raise UnknownName(f"there is no actor {name!r}. There are: {', '.join(known)}")
        return True

    async def drain(self, node: str, *, force: bool = False) -> Drained:
        """Empty a machine of the cluster before it is taken away: nothing more starts on it, and its accounts and
        instruments move to other nodes of their places, one after another, each at work again before the next. ``node``
        is its id, at least four characters of its beginning, or its address. Returns at once; ``status`` shows which
        actors are still there. ``force``: those that no other node can place stay until it has ended. Raises
        :class:`ChangeRefused`, and then nothing was changed, and :class:`NotAnswered`."""
        return await self._answered("drain", self._supervisor.drain(node, force=force))

    async def stop(self) -> None:
        """End every actor in order. The process that started the supervisor then ends it, and its Ray cluster if that
        is its own; a detached supervisor is ended here."""
        place = self._connection.place
        try:
            await self._supervisor.stop()
        except ActorUnavailable:
            pass  # the process that started it ends it at the same moment, so the answer may not arrive
        except CallError as error:
            raise NotAnswered(f"the supervisor did not stop: {error}") from None
        if place.run is not None and place.run.detached and place.configuration is not None:
            from actors.runtime import ray_cluster
            from supervisor.client import run_file

            try:
                ray_cluster.kill(SUPERVISOR, place.namespace)
            except ConnectionError as error:
                raise NotAnswered(f"the supervisor's actors have stopped. {error}") from None
            run_file.remove(place.configuration)

    # Internal

    async def _verdict(self, account: str | None, instrument: str | None, *, dry_run: bool) -> Verdict:
        await self._check(account, instrument)
        began = datetime.now(UTC)
        found = await self._answered("verdict", self._supervisor.verdict(account, instrument, dry_run=dry_run))
        return Verdict(found, began, dry_run=dry_run)

    async def _check(self, account: str | None, instrument: str | None) -> None:
        """Raise :class:`UnknownName`, with the known names, for an account or instrument that does not run."""
        if account is None and instrument is None:
            return
        known = await self._directory()
        if account is not None and account not in known:
            raise no_account(account, known)
        chosen = [account] if account is not None else list(known)
        if instrument is None or any(instrument in known[name]["instruments"] for name in chosen):
            return
        there = [symbol for name in chosen for symbol in known[name]["instruments"]]
        raise no_instrument(" or ".join(chosen), instrument, there)

    async def _check_journaled(self, account: str | None, instrument: str | None) -> None:
        """Raise :class:`UnknownName` for a name that neither runs nor is in the journal."""
        if account is None and instrument is None:
            return
        streams = {split_name(name) for name in await self._journal("streams")}
        if any(account in (None, one) and instrument in (None, symbol) for one, symbol in streams):
            return
        known = await self._directory()
        streams |= {(one, symbol) for one in known for symbol in ("", *known[one]["instruments"])}
        accounts = sorted({one for one, _ in streams})
        if account is not None and account not in accounts:
            raise no_account(account, accounts)
        symbols = sorted({symbol for one, symbol in streams if symbol and account in (None, one)})
        if instrument is not None and instrument not in symbols:
            raise no_instrument(account or " or ".join(accounts), instrument, symbols)

    async def _journal(self, method: str, *args: object) -> Any:
        try:
            return await call_with_retry(self._port(), AUDIT, method, *args, timeout_s=TIMEOUT_S)
        except (CallError, JournalError) as error:
            raise NotAnswered(f"the journal could not be read: {error}") from None

    async def _directory(self) -> dict[str, dict[str, Any]]:
        return await self._answered("directory", self._supervisor.directory(timeout_s=TIMEOUT_S))

    async def _answered(self, method: str, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except CallError as error:
            raise NotAnswered(f"the supervisor did not answer {method}: {error}") from None
