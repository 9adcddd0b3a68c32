"""``reconcile`` and ``record``: one verdict, or our own reports into the books, in this process or, where a supervisor
holds the journal, through it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from actors.journal.client import JournalAway
from actors.journal.types import JournalInUse
from actors.messages import Connection
from actors.reconciliation.own_reports import Report, UnfitReports
from actors.runtime.ports import CallError
from supervisor.cli import signals
from supervisor.cli.console import Failure, check_names, console, print_json, say, selected
from supervisor.client import run_file
from supervisor.client.processes import Running, find
from supervisor.config.models import Configuration
from supervisor.errors import NotRunning
from supervisor.presentation import json_contract
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED

if TYPE_CHECKING:
    from supervisor.cli.in_process import Verdicts

T = TypeVar("T")

IN_USE_PATIENCE_S = 5.0
"""How long to wait for another command that holds the journal."""
_IN_USE_PAUSE_S = 0.2
_NOBODY = "no account is enabled, so nothing was checked. Set enabled: true for one in the configuration"


def reconcile(
    configuration: Configuration,
    account: str | None,
    instrument: str | None,
    *,
    dry_run: bool,
    as_json: bool,
    create: bool = True,
    quiet: bool = False,
) -> int:
    """Print a verdict on every selected instrument, and return its exit status. ``create`` allows a new journal where
    there is none; ``quiet`` prints nothing where everything is in step."""
    if not configuration.enabled_accounts and run_file.read(configuration) is None:
        raise Failure(_NOBODY)
    _announce_new_journal(configuration, create=create)
    started_at, began_s = datetime.now(UTC), time.monotonic()
    added_to = _where_it_was_added(configuration, account, instrument)
    verdicts: Verdicts = []
    if added_to is not None:
        verdicts = added_to.verdict(account, instrument, dry_run=dry_run)
    else:
        names: Sequence[str | None] = selected(configuration, account, instrument) if instrument else [account]
        for name in names:
            verdicts += _verdicts(configuration, name, instrument, dry_run=dry_run)
        if account is not None and not verdicts:
            raise Failure(
                f"account {account} is in the configuration, but was removed from the running supervisor: see `status`"
            )
    if not verdicts:
        raise Failure(_NOBODY)
    if instrument is not None:
        verdicts = _of_accounts_with(instrument, verdicts)
    made = json_contract.document(started_at, (time.monotonic() - began_s) * 1000, verdicts)
    exit_status = json_contract.exit_status(verdicts)
    if as_json:
        print_json(made)
    elif not quiet or exit_status != EXIT_OK:
        _print(made, verdicts)
        for one in configuration.accounts if account is None and instrument is None else ():
            if not one.enabled:
                print(f"{one.name}: disabled, not checked")
    return exit_status


def _announce_new_journal(configuration: Configuration, *, create: bool) -> None:
    """Say where a new journal is about to be begun, or raise :class:`Failure` where none may be."""
    if not isinstance(configuration.journal.url, str):
        return
    file = configuration.state_dir / configuration.journal_file
    if file.exists() or run_file.read(configuration) is not None:
        return
    if not create:
        found = f"there is no journal {file}, and --no-create forbids a new one"
        raise Failure(f"{found}. Give the right configuration, or start one once with --create", EXIT_UNVERIFIED)
    say(f"there is no journal yet: starting a new one at {file}")


def _where_it_was_added(configuration: Configuration, account: str | None, instrument: str | None) -> Running | None:
    """The running supervisor, if the named account or instrument was added to it at run time; ``None`` where the
    configuration has it. Raises :class:`Failure` where neither has."""
    try:
        check_names(configuration, account, instrument)
    except Failure:
        with contextlib.suppress(NotRunning, CallError):
            supervisor = find(configuration)
            chosen = [row for name, row in supervisor.directory().items() if account in (None, name)]
            if any(instrument is None or row["all"] or instrument in row["instruments"] for row in chosen):
                return supervisor
        raise
    return None


def _of_accounts_with(instrument: str, verdicts: Verdicts) -> Verdicts:
    """The verdicts of the accounts that have it. A name that no account ever had is a mistake, and not flat."""
    found = [(health, reports) for health, reports in verdicts if reports]
    if found:
        return found
    unknown = [health for health, _ in verdicts if health.connection is not Connection.CONNECTED]
    if unknown:
        reasons = "; ".join(f"{health.account}: {health.error or health.connection}" for health in unknown)
        raise Failure(f"whether there is an instrument {instrument!r} is unknown: {reasons}", EXIT_UNVERIFIED)
    names = ", ".join(health.account for health, _ in verdicts)
    raise Failure(
        f"there is no instrument {instrument!r}: {names} takes all instruments, and has no position, open "
        f"order, recent fill or book of it. `reconcile --account {names.split(', ')[0]}` shows those it has"
    )


def _verdicts(configuration: Configuration, account: str | None, instrument: str | None, *, dry_run: bool) -> Verdicts:
    def here() -> Verdicts:
        from supervisor.cli import in_process  # with every broker's library, which nobody needs where a supervisor runs

        selection = in_process.Selection(account, instrument)
        return signals.run(in_process.reconcile(configuration, selection, dry_run=dry_run))

    def there(supervisor: Running) -> Verdicts:
        return supervisor.verdict(account, instrument, dry_run=dry_run)

    try:
        return _here_or_there(configuration, here, there)
    except (NotRunning, CallError, JournalInUse) as error:
        return _nobody(configuration, account, instrument, str(error))


def _here_or_there(configuration: Configuration, here: Callable[[], T], there: Callable[[Running], T]) -> T:
    """Work in this process, or through the supervisor that holds the journal; if another command holds it, wait."""
    until_s = time.monotonic() + IN_USE_PATIENCE_S
    if run_file.read(configuration) is not None:
        # Most likely it runs: the journal need not be opened to find out. Where it does not, its lock decides.
        with contextlib.suppress(NotRunning):
            return there(find(configuration))
    while True:
        try:
            return here()
        except JournalInUse as error:
            in_use = error
        try:
            supervisor = find(configuration)
        except NotRunning as error:
            if time.monotonic() > until_s:
                raise in_use from error
            time.sleep(_IN_USE_PAUSE_S)
        else:
            return there(supervisor)


def _nobody(configuration: Configuration, account: str | None, instrument: str | None, error: str) -> Verdicts:
    """The verdicts where the holder of the journal does not answer: nothing is known."""
    from supervisor.cli import in_process

    verdicts: Verdicts = []
    for name in selected(configuration, account, instrument):
        found = configuration.account(name)
        symbols = (instrument,) if instrument is not None else found.symbols
        verdicts += in_process.never_started(name, found.broker, symbols, error)
    return verdicts


def _print(made: Mapping[str, object], verdicts: Verdicts) -> None:
    from supervisor.cli.screen import discrepancy_table, verdict_table

    out = console()
    out.print(verdict_table(made))
    found = discrepancy_table(made)
    if found is not None:
        out.print()
        out.print(found)
    out.print()
    for health, reports in verdicts:
        reasons = dict.fromkeys([health.error, *(report.error for report in reports)])
        for reason in reasons:
            if reason:
                named = reason.startswith(f"{health.account}: ")
                out.print(reason if named else f"{health.account}: {reason}", soft_wrap=True)
        out.print(json_contract.summary(health.account, reports, health.discrepancies, health.broker), soft_wrap=True)


def record(configuration: Configuration, account: str, file: Path | None) -> int:
    """Record the reports of a file (standard input for ``None``) in the books of one account; all or nothing."""
    from actors.reconciliation.own_reports import cut_id
    from brokers.model import Conventions
    from brokers.registry import CONVENTIONS
    from supervisor.cli import record_lines

    added_to = _where_it_was_added(configuration, account, None)
    if added_to is not None:
        row = added_to.directory()[account]
        legs, symbols = row["legs"], None if row["all"] else row["instruments"]
        conventions = CONVENTIONS.get(str(row["broker"]), Conventions())
    else:
        found = configuration.account(account)
        conventions = CONVENTIONS.get(found.broker, Conventions())
        legs = conventions.legs
        symbols = None if found.instruments is None else found.symbols
    name, content = _content(file)
    try:
        read = record_lines.read(content, symbols, legs, products=conventions.products)
    except record_lines.BadLines as bad:
        lines = "\n".join(f"{name}: {problem}" for problem in bad.problems)
        raise Failure(f"nothing was recorded, {len(bad.problems)} to correct:\n{lines}") from None
    try:
        new = _recorded(configuration, account, read.reports, added_to) if read.reports else 0
    except (JournalAway, CallError) as error:
        again = "Record the file again: what was recorded already counts once"
        raise Failure(f"it is not known whether anything was recorded: {error}. {again}", EXIT_UNVERIFIED) from None
    except UnfitReports as unfit:
        found_at = sorted((read.numbers[symbol][place], words) for symbol, place, words in unfit.problems)
        lines = "\n".join(f"{name}: line {number}: {words}" for number, words in found_at)
        raise Failure(f"nothing was recorded, {len(found_at)} to correct:\n{lines}") from None
    except ValueError as error:
        # The broker's answer decides how it names legs; its name alone does not.
        again = "Correct it and record the file again: what was recorded already counts once"
        raise Failure(f"nothing of that instrument was recorded: {error}. {again}") from None
    warnings = [cut_id(report, conventions) for reports in read.reports.values() for report in reports]
    for words in sorted({words for words in warnings if words is not None}):
        say(f"warning: {account}: {words}")
    print(f"{read.lines} line{'' if read.lines == 1 else 's'} read, {new} new")
    return EXIT_OK


def _recorded(
    configuration: Configuration, account: str, reports: Mapping[str, Sequence[Report]], added_to: Running | None
) -> int:
    if added_to is not None:
        return _recorded_there(added_to, account, reports)
    return _here_or_there(
        configuration,
        lambda: _recorded_here(configuration, account, reports),
        lambda supervisor: _recorded_there(supervisor, account, reports),
    )


def _recorded_here(configuration: Configuration, account: str, reports: Mapping[str, Sequence[Report]]) -> int:
    from supervisor.cli import in_process

    return signals.run(in_process.record(configuration, account, reports, _warn))


def _recorded_there(supervisor: Running, account: str, reports: Mapping[str, Sequence[Report]]) -> int:
    new = supervisor.record(account, dict(reports))
    # Everything is recorded: a warning that cannot be had now does not change that.
    with contextlib.suppress(CallError, JournalAway):
        for words in supervisor.of_no_order(account, dict(reports)):
            _warn(words)
    return new


def _warn(words: str) -> None:
    say(f"warning: {words}")


def _content(file: Path | None) -> tuple[str, bytes]:
    if file is None or str(file) == "-":
        if sys.stdin.isatty():
            say("reading JSON Lines from the terminal, until Ctrl-D")
        return "standard input", sys.stdin.buffer.read()
    try:
        return str(file), file.read_bytes()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from None
