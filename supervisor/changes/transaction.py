"""Changes at run time, as the supervisor makes them: checked, stored against a crash, journaled, and only then carried
out.

The laws of this module: one change at a time, as a whole or not at all; nothing is carried out before the journal has
it; where it is unknown whether the journal has it, the requester is answered that the change was not made, and the
journal gets a record that it was withdrawn. The steps, and the effects of a crash between them, are listed at the head
of :mod:`supervisor.changes.applied_configuration`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager

from loguru import logger

from actors.book.checkpoint import replay
from actors.book.unreadable import UnreadableRecord
from actors.events import Event, EventType, Json, Payload, Record, Severity, event_id, to_text
from actors.journal import client
from actors.journal.client import Fenced, JournalAway, settled_records
from actors.journal.outbox import Outbox
from actors.journal.types import JournalError, JournalMissing
from actors.names import AUDIT, SUPERVISOR, split_name
from actors.runtime.ports import CallError, Runtime
from brokers.errors import Refused
from brokers.frozen import dataclass
from brokers.versions import across_versions
from supervisor.changes import applied_configuration, diff, requests
from supervisor.changes.applied_configuration import AppliedConfiguration, Run, Unusable
from supervisor.changes.asking import Who, said_of
from supervisor.changes.diff import ConfigurationDifference, Effects, Row, SecretFingerprints
from supervisor.changes.requests import Apply, Change, ChangeRefused
from supervisor.config.models import Configuration
from supervisor.errors import HandleError
from supervisor.tree.model import PROBE_TIMEOUT_S, ChildSpec, Kind

_NOTES = 1_000
"""How many of our newest records are searched for the standing configuration, before all of them are."""
_TRIES = 5
_ASK_AGAIN_AFTER_S = 0.5
_JOURNAL_ASKED = 120
"""How often the audit actor, while it starts, is asked for earlier configurations."""


class ChangeNotMade(HandleError):
    """Nothing was changed, since the journal or a file beside it could not be written. ``found`` is the reason."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"nothing was changed: every change is journaled first, and {found}. "
            "Try again when status shows the audit actor UP and the journal writable"
        )
        self.args = (found,)
        self.found = found


@across_versions
@dataclass(frozen=True, slots=True)
class Changed:
    """The outcome of a change. ``rows`` are what differs, empty where nothing does; ``held`` describes what the books
    of the stopped actors hold. With ``made`` false it was a dry run."""

    change: str
    rows: tuple[Row, ...]
    effects: Effects
    held: tuple[str, ...]
    made: bool

    def to_json(self) -> dict[str, Json]:
        """The form for the journal and for display."""
        return {
            "change": self.change,
            "changes": [str(row) for row in self.rows],
            "difference": [row.to_json() for row in self.rows],
            "actors": self.effects.to_json(),
            "held": list(self.held),
        }


@dataclass(frozen=True, slots=True)
class _Plan:
    configuration: Configuration
    marks: SecretFingerprints
    difference: ConfigurationDifference
    effects: Effects
    homeless: str | None = None


class ConfigurationTransaction:
    """The standing configuration, and the only way to change it. ``specs_by`` returns the children that a configuration
    desires; ``unverified`` why the book of an instrument is not known to match its broker (``None`` where it is);
    ``nowhere`` why no node can place a child (``None`` where one can, or where that is unknown); ``adopt`` makes the
    supervisor run the new configuration."""

    def __init__(
        self,
        given: Configuration,
        run: Run,
        runtime: Runtime,
        outbox: Outbox,
        *,
        specs_by: Callable[[Configuration, SecretFingerprints], tuple[ChildSpec, ...]],
        unverified: Callable[[str], str | None],
        nowhere: Callable[[ChildSpec], str | None],
        adopt: Callable[[AppliedConfiguration, Effects], None],
    ) -> None:
        self._given = given
        self._run = run
        self._runtime = runtime
        self._outbox = outbox
        self._specs_by = specs_by
        self._unverified = unverified
        self._nowhere = nowhere
        self._adopt = adopt
        self._stands = AppliedConfiguration(given, run.marks, "")
        self._changing = asyncio.Lock()
        self._learned = asyncio.Event()

    @property
    def marks(self) -> SecretFingerprints:
        """The marks of the standing configuration's literal secrets."""
        return self._stands.marks

    # Changing

    async def change(self, wanted: Change, asked_by: Who, *, force: bool, dry_run: bool) -> Changed:
        """Make a change; with ``dry_run``, only return what it would be. On return it is durable and the tree has it.
        Raises :class:`ChangeRefused` and :class:`ChangeNotMade`; in both cases nothing was changed."""
        await self._learned.wait()
        async with self._changing:
            plan = self._planned(wanted)
            ending = () if dry_run or force or not plan.difference else self._ending(plan)
            async with self._without_reports(ending):
                held = await self._held(plan)
                result = Changed(str(wanted), plan.difference.rows, plan.effects, held, made=False)
                if dry_run or not plan.difference:
                    return result
                if held and not force:
                    raise ChangeRefused(
                        str(wanted),
                        "nobody would look after what is not known to be flat: " + "; ".join(held),
                        "Close it first, or use --force (force=True); its records stay in the journal.",
                    )
                if plan.homeless is not None and not force:
                    raise ChangeRefused(
                        str(wanted), plan.homeless, "With --force (force=True) it stops where it is, and waits for one."
                    )
                await self._carry_out(plan, result, asked_by)
                return Changed(result.change, result.rows, result.effects, result.held, made=True)

    def _planned(self, wanted: Change) -> _Plan:
        stands = self._stands
        marks = self._marks_of(wanted)
        new = requests.changed(stands.configuration, wanted, stands.marks, marks)
        found = diff.difference(stands.configuration, new, stands.marks, marks)
        before = self._specs_by(stands.configuration, stands.marks)
        after = self._specs_by(new, marks)
        effects = diff.effects(before, after)
        self._check_secrets(new, {*effects.started, *effects.restarted}, str(wanted))
        return _Plan(new, marks, found, effects, self._without_node(after, {*effects.started, *effects.restarted}))

    def _without_node(self, specs: Iterable[ChildSpec], started: Collection[str]) -> str | None:
        """The first of the started children that no node can place, with the reason."""
        for spec in specs:
            why = self._nowhere(spec) if spec.key.name in started else None
            if why is not None:
                return f"{spec.key.name} could not be started: {why}"
        return None

    def _marks_of(self, wanted: Change) -> SecretFingerprints:
        """The marks after the change: those of a file as it is now; no other change affects a literal secret."""
        if not isinstance(wanted, Apply):
            return self._stands.marks
        marks, problems = applied_configuration.marks_of(wanted.configuration, self._run.identity)
        enabled = {"journal", *(account.name for account in wanted.configuration.enabled_accounts)}
        for place, error in problems.items():
            if place.rpartition(".")[0] in enabled:
                raise ChangeRefused(str(wanted), str(error), "The actors have to be able to read it too.")
        return marks

    def _check_secrets(self, new: Configuration, started: Collection[str], attempted: str) -> None:
        """Check the secrets before anything changes: a variable of the requester may be unset for the actors."""
        for account in new.enabled_accounts:
            for ref in account.secrets().values() if account.name in started else ():
                try:
                    ref.resolve()
                except Refused as error:
                    raise ChangeRefused(
                        attempted,
                        str(error),
                        "The actors have the environment in which Ray was started. Restart it with the variable set, "
                        "or write the secret into a configuration file that its owner alone can read, and apply that.",
                    ) from None

    async def _held(self, plan: _Plan) -> tuple[str, ...]:
        """What the books hold of the actors that stop, or that would be compared with another account."""
        names = self._ending(plan)
        try:
            words = [await self._held_by(name) for name in names]
        except JournalAway as away:
            raise ChangeNotMade(str(away)) from None
        return tuple(f"{name}: {found}" for name, found in zip(names, words, strict=True) if found)

    def _ending(self, plan: _Plan) -> list[str]:
        """The instruments that stop, or whose books would be compared with another account."""
        others = diff.of_other_accounts(self._stands.configuration, plan.configuration)
        return [
            spec.key.name
            for spec in self._specs_by(self._stands.configuration, self._stands.marks)
            if spec.key.kind is Kind.INSTRUMENT
            and (spec.key.name in plan.effects.stopped or spec.key.account in others)
        ]

    @asynccontextmanager
    async def _without_reports(self, names: Collection[str]) -> AsyncIterator[None]:
        """Have these record nothing more: what is found of their books stays true until they end. If they do not end,
        they record again."""
        await asyncio.gather(*(self._ask(name, "leave") for name in names))
        try:
            yield
        except BaseException:
            await asyncio.gather(*(self._ask(name, "stay") for name in names))
            raise

    async def _ask(self, name: str, method: str) -> None:
        with contextlib.suppress(CallError):  # one that does not answer records nothing, or records again by itself
            await self._runtime.call(name, method, timeout_s=PROBE_TIMEOUT_S)

    async def _held_by(self, name: str) -> str:
        account, symbol = split_name(name)
        tail = await client.load(self._runtime, name)
        try:
            book = replay(account, symbol, tail.records)
        except UnreadableRecord as error:
            raise ChangeNotMade(str(error)) from None
        found = [f"{leg} {to_text(held.quantity)}" for leg, held in book.legs.items() if held.quantity]
        found += _counted(sum(1 for _ in book.open_orders()), "open order")
        found += _counted(len(book.breaks), "open break")
        unverified = self._unverified(name)
        return ", ".join([*found, *([f"not verified ({unverified})"] if unverified else [])])

    async def _carry_out(self, plan: _Plan, result: Changed, asked_by: Who) -> None:
        try:
            new = applied_configuration.write(plan.configuration, plan.marks, self._run.identity)
        except OSError as error:
            found = f"the standing configuration cannot be kept in {self._given.state_dir}: {error.strerror}"
            raise ChangeNotMade(found) from None
        specs = self._specs_by(new.configuration, new.marks)
        payload: dict[str, Json] = {
            **result.to_json(),
            **said_of(asked_by),
            "run": self._run.identity,
            "standing": new.sha256,
            "desired": words_of(specs),
        }
        severity = Severity.WARNING if result.held else Severity.INFO
        await self._journal(payload, new, severity)
        self._stands = new
        logger.info("{} ({}): {}", result.change, asked_by, "; ".join(map(str, result.rows)))
        self._adopt(new, plan.effects)
        applied_configuration.keep_only(self._given, new.sha256)

    async def _journal(self, payload: Payload, new: AppliedConfiguration, severity: Severity) -> None:
        # A record that waits may name the former configuration: it must not come after this one.
        await self._outbox.flush()
        if self._outbox.waiting:
            raise ChangeNotMade(f"{self._outbox.waiting} earlier record(s) wait for it")
        try:
            version = await client.version(self._runtime, SUPERVISOR)
        except JournalAway as away:
            raise ChangeNotMade(str(away)) from None
        try:
            for _ in range(_TRIES):
                try:
                    await client.append(self._runtime, SUPERVISOR, version, (self._event(payload, version, severity),))
                except Fenced as fenced:
                    version = fenced.stale.actual_version  # what else the supervisor writes went in between
                else:
                    return
        except JournalAway as away:
            await self._withdraw(new)
            raise ChangeNotMade(str(away)) from None
        raise ChangeNotMade("its stream is too busy to write to")

    def _event(self, payload: Payload, version: int, severity: Severity) -> Event:
        kind = EventType.CONFIGURATION_CHANGED
        identity = event_id(SUPERVISOR, str(version + 1), kind, str(payload["standing"]))
        return Event(identity, kind, severity, self._runtime.now(), payload)

    async def _withdraw(self, new: AppliedConfiguration) -> None:
        """Withdraw a change that the journal may have or still receive: a record after it names what stands."""
        words: list[Json] = ["a change was withdrawn because the journal did not answer"]
        payload: dict[str, Json] = {
            "changes": words,
            "run": self._run.identity,
            "standing": self._stands.sha256,
            "withdrawn": new.sha256,
        }
        await self._outbox.write(EventType.CONFIGURATION_CHANGED, payload, new.sha256, Severity.WARNING)

    # After a start, and after a crash

    async def learn(self, living: Collection[str], stopping: Callable[[], bool]) -> AppliedConfiguration:
        """The standing configuration: the one that the journal names for this run, else the original one. Waits for the
        journal where a change may have been made."""
        if AUDIT not in living and not applied_configuration.any_of(self._given, self._run.identity):
            # Whatever the journal names for this run is not on this machine, so the original configuration stands.
            # Nothing waits for the journal; its actor reports what is wrong with it.
            self._runtime.spawn(SUPERVISOR, self._learn_later(stopping))
            return self._stands
        reported = False
        while not stopping():
            records = await self._records(living)
            if records is not None:
                self._stands = self._by(records)
                break
            if not applied_configuration.any_of(self._given, self._run.identity):
                break
            if not reported:
                logger.error("which configuration applies is unknown until the journal can be read; asking again")
                reported = True
            await self._runtime.sleep(_ASK_AGAIN_AFTER_S)
        self._learned.set()
        return self._stands

    async def _learn_later(self, stopping: Callable[[], bool]) -> None:
        """Read the journal's configurations once its actor is up, and report them. No change is made before that."""
        for _ in range(_JOURNAL_ASKED):
            if stopping():
                break
            try:
                records = await self._decisive_of(self._from_its_actor)
            except CallError:
                await self._runtime.sleep(_ASK_AGAIN_AFTER_S)  # its actor is starting
            except JournalError as error:
                logger.warning("{}; earlier configurations are unknown", error)
                break
            else:
                self._by(records or ())
                break
        self._learned.set()

    async def _records(self, living: Collection[str]) -> list[Record] | None:
        """The journal's records of configurations, newest first; ``None`` where it cannot be read."""
        if AUDIT in living:
            try:
                return await self._decisive_of(self._from_its_actor)
            except (CallError, JournalError) as error:
                logger.warning("{}; reading the journal beside it", error)
        return await self._decisive_of(self._read_beside)

    async def _decisive_of(self, newest: Callable[[int], Awaitable[list[Record] | None]]) -> list[Record] | None:
        """As many of the newest records as decide which configuration stands."""
        for limit in (_NOTES, 1_000_000):
            records = await newest(limit)
            if records is None or len(records) < limit or self._decisive(records):
                return records
        return None

    async def _from_its_actor(self, limit: int) -> list[Record]:
        """The newest records, from the audit actor. Raises :class:`CallError` and :class:`JournalError`."""
        kinds = (EventType.CONFIGURATION_CHANGED,)
        return await settled_records(
            self._runtime, {"stream": SUPERVISOR, "types": kinds, "order": "newest", "limit": limit}
        )

    async def _read_beside(self, limit: int) -> list[Record] | None:
        """Read the journal without its actor, which may be dead."""
        from actors.journal.store import Journal  # imports the database, which a supervisor hardly ever needs

        kinds = (EventType.CONFIGURATION_CHANGED,)
        try:
            journal = Journal.open(self._given.journal_url, read_only=True, beside=self._given.beside_journal)
        except JournalMissing:
            return []
        except (JournalError, Refused):
            return None
        try:
            return list(journal.records(stream=SUPERVISOR, types=kinds, order="newest", limit=limit))
        except JournalError:
            return None
        finally:
            journal.close()

    def _decisive(self, records: Iterable[Record]) -> bool:
        payloads = [record.event.payload for record in records]
        return any("standing" in one or one.get("run") != self._run.identity for one in payloads)

    def _by(self, records: Iterable[Record]) -> AppliedConfiguration:
        """The configuration that this run's newest record names."""
        of_before: str | None = None
        for record in records:
            payload = record.event.payload
            run, named = payload.get("run"), payload.get("standing")
            if of_before is None and run == self._run.identity:
                if named is not None:
                    return self._named(str(named), payload)
            elif run is None or of_before not in (None, run):
                break
            else:
                of_before = str(run)
                if named is not None:
                    self._report_lost_changes(str(named), payload)
                    break
        logger.info("the configuration given at the start applies: the journal has no change of this run")
        applied_configuration.keep_only(self._given, None)
        return self._stands

    def _named(self, sha256: str, payload: Payload) -> AppliedConfiguration:
        if not sha256:
            logger.info("the configuration given at the start applies")
            return self._stands
        try:
            found = applied_configuration.read(self._given, sha256)
        except Unusable as error:
            # There is nothing better; whoever made the change has to see this.
            words = f"{error}. Continuing with the configuration given at the start, without: {_words(payload)}"
            logger.critical("{}", words)
            self._journal_note(words, Severity.CRITICAL)
            return self._stands
        logger.warning(
            "the configuration changed at run time applies ({})", applied_configuration.path_of(self._given, sha256)
        )
        return found

    def _report_lost_changes(self, sha256: str, payload: Payload) -> None:
        """A new start uses its file. Report the run-time changes of the previous run that are not in it."""
        if not sha256:
            return
        try:
            was = applied_configuration.read(self._given, sha256)
            rows = diff.difference(was.configuration, self._given).rows
            words = "; ".join(map(str, rows))
        except Unusable:
            words = f"no longer in effect: {_words(payload)}"
        if words:
            logger.warning("run-time changes of the previous run are not in this configuration: {}", words)
            words = f"the previous run had been changed, and this one starts without: {words}"
            self._journal_note(words, Severity.WARNING)

    def _journal_note(self, words: str, severity: Severity) -> None:
        """Record it in the journal, for the person who starts the run."""
        payload: dict[str, Json] = {"changes": [words], "run": self._run.identity, "standing": ""}
        kind = EventType.CONFIGURATION_CHANGED
        self._runtime.spawn(SUPERVISOR, self._outbox.write(kind, payload, "given", severity))


def words_of(specs: Iterable[ChildSpec]) -> list[Json]:
    """The desired children, in the journal's form."""
    return [f"{spec.key.name} {spec.fingerprint}".strip() for spec in specs]


def _words(payload: Mapping[str, Json]) -> str:
    listed = payload.get("changes")
    return "; ".join(map(str, listed)) if isinstance(listed, list) else ""


def _counted(number: int, what: str) -> list[str]:
    return [f"{number} {what}{'' if number == 1 else 's'}"] if number else []
