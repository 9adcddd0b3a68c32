"""``check``: the meaning of a configuration and, with ``--connect``, whether each broker can be reached with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.events import to_text
from brokers.errors import BrokerError, Malformed, Refused, Unreachable
from brokers.frozen import dataclass
from brokers.model import Snapshot, rows_of
from brokers.port import AccountFacts, Describing, Vouching
from supervisor.cli import signals
from supervisor.cli.console import DEFAULT_CONFIG, console, journal_cautions, load, print_json, second_journal
from supervisor.config.cautions import cautions, cautions_of_environment
from supervisor.config.models import SUPPORTED_BROKERS, Configuration, ConfigurationError
from supervisor.presentation.json_contract import EXIT_OK, EXIT_UNVERIFIED, EXIT_USAGE
from supervisor.supervision.logins import double_logins
from supervisor.supervision.specs import lacks_delta

if TYPE_CHECKING:
    from rich.table import Table

CALLS_TO_CONNECT = 12
"""An adapter tries a call a few times; connecting and one snapshot take at most this many time-outs."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of connecting one account. ``outcome`` is REACHED, UNREACHABLE, REFUSED or MALFORMED; ``found`` is
    what was found there, or why it was not reached. ``facts`` are what the adapter learned about the account, by topic;
    ``mistakes`` are errors of the configuration that the broker's answers show. ``login`` is the broker's id of the
    account reached."""

    outcome: str
    found: str
    duration_ms: float
    facts: Mapping[str, str] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    login: str | None = None

    @property
    def reached(self) -> bool:
        """Whether the account exists and is ours."""
        return self.outcome == "REACHED"


def check(path: Path | None, *, connect: bool, as_json: bool) -> int:
    """Print what would run, and with ``connect`` what answers; returns the exit status."""
    try:
        configuration = load(path)
    except ConfigurationError as error:
        if not as_json:
            raise
        print_json({"configuration": str(path or DEFAULT_CONFIG), "problems": [asdict(one) for one in error.problems]})
        return EXIT_USAGE
    attempts = signals.run(_connect_all(configuration)) if connect else {}
    tables = _tables(configuration, connect=connect)
    said = _cautions(configuration, path or DEFAULT_CONFIG, connect=connect)
    if as_json:
        print_json(_document(configuration, path or DEFAULT_CONFIG, attempts, tables, said))
    else:
        _print(configuration, path or DEFAULT_CONFIG, attempts, tables, said)
    if any(attempt.mistakes for attempt in attempts.values()) or second_journal(configuration, path) is not None:
        return EXIT_USAGE
    known = all(attempt.reached for attempt in attempts.values()) and all(found.reached for found in tables.values())
    return EXIT_OK if known else EXIT_UNVERIFIED


@dataclass(frozen=True, slots=True)
class TableFound:
    """What the table of an account's book is, in sentences, or why it cannot be read."""

    uri: str
    reached: bool
    about: tuple[str, ...]


def _tables(configuration: Configuration, *, connect: bool) -> dict[str, TableFound]:
    """Inspect the tables that hold books: limits of a column should be known before it is compared. A table in an
    object store is inspected only with ``connect``."""
    from actors.delta.book_spec import open_book_table
    from supervisor.supervision.specs import book_spec

    found = {}
    for account in configuration.enabled_accounts:
        spec = book_spec(configuration, account.name)
        if spec is None:
            continue
        if "://" in spec.uri and not connect:
            found[account.name] = TableFound(spec.uri, True, ("--connect looks at it",))
            continue
        try:
            about = open_book_table(spec).about()
        except BrokerError as error:
            found[account.name] = TableFound(spec.uri, False, (str(error),))
        else:
            found[account.name] = TableFound(spec.uri, True, tuple(about))
    return found


async def _connect_all(configuration: Configuration) -> dict[str, Attempt]:
    names = [account.name for account in configuration.enabled_accounts]
    made = await asyncio.gather(*(_connect(configuration, name) for name in names))
    attempts = dict(zip(names, made, strict=True))
    for name, found in double_logins({name: one.login for name, one in attempts.items()}, configuration).items():
        attempts[name] = replace(attempts[name], mistakes=(*attempts[name].mistakes, found))
    return attempts


async def _connect(configuration: Configuration, name: str) -> Attempt:
    began_s = time.monotonic()
    found = await _outcome(configuration, name)
    return replace(found, duration_ms=round((time.monotonic() - began_s) * 1000, 3))


async def _outcome(configuration: Configuration, name: str) -> Attempt:
    from brokers.registry import open_broker

    bound_s = configuration.timeout_s(name) * CALLS_TO_CONNECT
    try:
        broker = await asyncio.to_thread(open_broker, configuration.broker_spec(name), lively=False)
        try:
            async with asyncio.timeout(bound_s):
                await broker.connect()
                snapshot = await broker.snapshot(None)
        finally:
            await broker.close()
    except TimeoutError:
        found = f"no answer within {bound_s:g} s. Check host and port, or raise its timeout_ms"
        return Attempt("UNREACHABLE", found, 0.0)
    except BrokerError as error:
        kinds = {Unreachable: "UNREACHABLE", Refused: "REFUSED", Malformed: "MALFORMED"}
        return Attempt(kinds.get(type(error), "UNREACHABLE"), error.reason, 0.0)
    sections = {"positions": snapshot.positions, "orders": snapshot.orders, "fills": snapshot.fills}
    words = [f"{name} {part.completeness.value}" for name, part in sections.items()]
    legs, orders = len(rows_of(snapshot.positions)), len(rows_of(snapshot.orders))
    found = f"{_counted(legs, 'position leg')} and {_counted(orders, 'order')} ({', '.join(words)})"
    held: object = broker
    unproven = held.unproven if isinstance(held, Vouching) else None
    known = held.described() if isinstance(held, Describing) else AccountFacts()
    wrong = [f"{symbol}: {snapshot.left_out[symbol]}" for symbol in _configured(configuration, name, snapshot)]
    return Attempt(
        "REACHED",
        found if unproven is None else f"{found}; {unproven}",
        0.0,
        facts={**_facts(known, unproven), **_rows(configuration, name, snapshot)},
        mistakes=tuple(wrong),
        login=known.login if unproven is None else None,
    )


def _configured(configuration: Configuration, name: str, snapshot: Snapshot) -> Sequence[str]:
    """The configured names that the adapter does not accept as written."""
    return [symbol for symbol in configuration.account(name).symbols if symbol in snapshot.left_out]


def _facts(known: AccountFacts, unproven: str | None) -> dict[str, str]:
    """What the adapter learned, as text, without what its broker does not report."""
    login = " at ".join(word for word in (known.login, known.place) if word)
    words = {
        "login": login if unproven is None else unproven,
        "positions": known.keeps,
        "currency": known.currency,
        "clock": known.clock,
        "products": known.products,
        "permissions": known.permissions,
    }
    return {key: value or "not reported" for key, value in words.items()}


def _rows(configuration: Configuration, name: str, snapshot: Snapshot) -> dict[str, str]:
    """What the account holds, and which of it no instrument manages."""
    account = configuration.account(name)
    legs = [f"{row.instrument} {row.leg} {to_text(row.quantity)}" for row in rows_of(snapshot.positions)]
    working = [row for row in rows_of(snapshot.orders) if not row.status.terminal]
    exposed = {row.instrument for row in rows_of(snapshot.positions)} | {row.instrument for row in working}
    looked_after = {*account.symbols, *account.ignore_instruments}
    alone = [] if account.instruments is None else sorted(exposed - looked_after)
    sections = {"positions": snapshot.positions, "orders": snapshot.orders, "fills": snapshot.fills}
    unread = [f"{key} {part.completeness.value}" for key, part in sections.items()]
    return {
        "held": _few(legs, "position leg"),
        "orders": f"{len(working)} working, {len(rows_of(snapshot.orders))} in all",
        "answers": ", ".join(unread),
        "unmanaged": _few(alone, "instrument", " not configured") if alone else "none",
    }


def _cautions(configuration: Configuration, path: Path, *, connect: bool) -> list[str]:
    misplaced = second_journal(configuration, path)
    found = [misplaced] if misplaced is not None else []
    found += journal_cautions(configuration) if connect else []
    return [*found, *cautions(configuration), *cautions_of_environment()]


_SHOWN = 5


def _few(words: Sequence[str], what: str, more: str = "") -> str:
    shown = ", ".join(words[:_SHOWN]) + (", …" if len(words) > _SHOWN else "")
    return f"{_counted(len(words), what)}{more}" + (f": {shown}" if words else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _document(
    configuration: Configuration,
    path: Path,
    attempts: Mapping[str, Attempt],
    tables: Mapping[str, TableFound],
    said: Sequence[str],
) -> dict[str, Any]:
    rows = []
    for account in configuration.accounts:
        attempt = attempts.get(account.name)
        rows.append(
            {
                "account": account.name,
                "broker": account.broker,
                "enabled": account.enabled,
                "supported": account.broker in SUPPORTED_BROKERS,
                "mode": account.mode,
                "simulator": account.simulator,
                "timeout_ms": configuration.timeout_s(account.name) * 1000,
                "all_instruments": account.instruments is None,
                "ignore_instruments": list(account.ignore_instruments),
                "instruments": [
                    _keys_document(symbol, keys) for symbol, keys in _instruments(configuration, account.name)
                ],
                "connect": None if attempt is None else asdict(attempt),
            }
            | ({"table": asdict(tables[account.name])} if account.name in tables else {})
        )
    written = [{"delta": sink.delta, "lacking": lacks_delta()} for sink in configuration.sinks]
    sinks = {"sinks": written} if written else {}
    return {
        "configuration": str(path),
        "problems": [],
        "cautions": list(said),
        "ray": {"address": configuration.ray.address, "namespace": configuration.ray.namespace},
        "journal": configuration.journal_name,
        "accounts": rows,
    } | sinks


def _keys_document(symbol: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: to_text(value) if isinstance(value, Decimal) else value for key, value in keys.items()}
    return {"instrument": symbol, **shown}


def _instruments(configuration: Configuration, name: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Each named instrument with the keys that apply to it; where the account manages all, one row that stands for
    every discovered one."""
    account = configuration.account(name)
    symbols = account.symbols if account.instruments is not None else ("all",)
    return [(symbol, configuration.instrument_keys(name, symbol)) for symbol in symbols]


def _print(
    configuration: Configuration,
    path: Path,
    attempts: Mapping[str, Attempt],
    tables: Mapping[str, TableFound],
    said: Sequence[str],
) -> None:
    out = console()
    out.print(f"{path}: ray {configuration.ray.address}, namespace {configuration.ray.namespace}")
    out.print(f"journal {configuration.journal_name}", soft_wrap=True)
    out.print()
    out.print(_table(configuration))
    out.print()
    for caution in said:
        out.print(f"caution: {caution}", soft_wrap=True)
    for sink in configuration.sinks:
        lacking = lacks_delta()
        words = f"not written: {lacking}" if lacking else "receives the journal's position updates"
        out.print(f"sink {sink.delta}: {words}", soft_wrap=True)
    for account in configuration.enabled_accounts:
        attempt = attempts.get(account.name)
        if attempt is not None:
            out.print(f"{account.name}: {attempt.outcome}: {attempt.found}", soft_wrap=True)
            for key, value in attempt.facts.items():
                out.print(f"  {key:<12} {value}", soft_wrap=True)
            for mistake in attempt.mistakes:
                out.print(f"  {'mistake':<12} {mistake}", soft_wrap=True)
        elif account.broker not in SUPPORTED_BROKERS:
            out.print(f"{account.name}: this version has no adapter for broker {account.broker}", soft_wrap=True)
        table = tables.get(account.name)
        if table is not None:
            out.print(f"{account.name}: its book is the Delta table {table.uri}", soft_wrap=True)
            for sentence in table.about:
                out.print(f"{account.name}: {sentence}", soft_wrap=True)


def _table(configuration: Configuration) -> Table:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold dim")
    for name in (
        "account",
        "broker",
        "mode",
        "instrument",
        "every",
        "correct",
        "proof",
        "settle",
        "tolerance",
        "limit",
    ):
        made.add_column(name, overflow="fold")
    for account in configuration.accounts:
        kind = f"{account.broker} simulator" if account.simulator else account.broker
        if not account.enabled:
            made.add_row(Text(account.name), Text(kind), Text("disabled", "dim"))
            continue
        for symbol, keys in _instruments(configuration, account.name):
            made.add_row(
                Text(account.name),
                Text(kind),
                Text(keys["mode"]),
                Text(symbol),
                Text(f"{keys['interval_s']:g} s"),
                Text(keys["correct"]),
                Text(f"{keys['confirmations']} × {keys['confirm_gap_s']:g} s"),
                Text(f"{keys['settle_s']:g} s"),
                Text(f"{to_text(keys['quantity_tolerance'])}, price {to_text(keys['price_tolerance'])}"),
                Text(to_text(keys["max_correction"]) or "none"),
            )
    return made
