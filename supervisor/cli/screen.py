"""What a person sees of a running supervisor: progress while actors come up, then a live table.

The laws of this module: it only shows (a :class:`View` in, something rich can draw out); a table that is higher than
the screen shows what needs attention first and says how much it leaves out; a book that was never verified is not
shown as flat; no text from outside is read as markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actors.events import Severity
from brokers.frozen import dataclass
from supervisor.cli.look import HELP, Look, Rows, after, chosen, follow, shown, words
from supervisor.cli.middle import Middle, cut
from supervisor.presentation.event_text import Happening
from supervisor.presentation.json_contract import halted_scopes, section_words
from supervisor.presentation.prices import shown_price

_USUAL = Look()
_COLOURS = {"SUCCESS": "green", "PARTIAL": "yellow", "DEGRADED": "magenta", "FAILED": "red"}
_STATE_COLOURS = {"QUARANTINED": "bold red", "RESTARTING": "red", "PENDING": "bold red", "PAUSED": "blue"}
_SEVERITIES = {Severity.INFO: "", Severity.WARNING: "yellow", Severity.CRITICAL: "bold red"}
_HAPPENINGS_SHOWN = 6
_FEWEST_ROWS = 3
_TABLE_FRAME = 2
"""The table's heading, and a line to spare: a screen that is full to its last line would scroll."""
_WIDE = 100
_NARROW = 70
_OF_POSITIONS = frozenset({"RECOVERY", "GHOST", "DRIFT"})


@dataclass(frozen=True, slots=True)
class View:
    """All that is shown at one moment. ``status`` is the document of ``status --json``, ``None`` before the first;
    ``trouble`` is why it is out of date; ``page`` is where the page for operators is served; ``happenings`` are the
    latest of the ``happened`` there were since the start; who is only ``watching`` ends nothing with Ctrl-C; ``look``
    is how the table is looked at."""

    step: str
    status: Mapping[str, Any] | None = None
    happenings: tuple[Happening, ...] = ()
    happened: int = 0
    dashboard: str | None = None
    page: str | None = None
    trouble: str | None = None
    stopping: bool = False
    watching: bool = False
    look: Look = _USUAL


def rows_of(status: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every instrument of a status document with its account's name."""
    return [(account["account"], row) for account in status["accounts"] for row in account["instruments"]]


def of_no_instrument(status: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every open break that belongs to no instrument, with its account's name: what is held or ordered and not in the
    configuration, and rows that could not be read."""
    return [
        (account["account"], found)
        for account in status["accounts"]
        for found in account["discrepancies"]
        if not found["resolved"]
    ]


def actors_up(status: Mapping[str, Any]) -> tuple[int, int]:
    """How many actors are up, of how many."""
    actors = status["supervisor"]["actors"]
    return sum(actor["state"] == "UP" for actor in actors), len(actors)


def settled(status: Mapping[str, Any]) -> bool:
    """Whether every actor is up, or has been and is dealt with: there is more to see than progress."""
    coming = {"WAITING", "STARTING"}
    actors = status["supervisor"]["actors"]
    return bool(actors) and not any(actor["state"] in coming and actor["restarts"] == 0 for actor in actors)


_GROUPS = {"audit": "journal", "account": "accounts", "instrument": "instruments", "sink": "sinks", "alerts": "alerts"}
"""Kinds of actors in the order in which they start: an account's instruments follow their account."""
_ESTIMATED_FROM, _ESTIMATED_SHARE = 5, 1 / 20
"""With fewer actors up, or a smaller share of them, how long one takes is not known yet: the first take longest."""


def coming_up(status: Mapping[str, Any]) -> str:
    """``503 of 5,004 actors up: accounts 2 of 3, instruments 500 of 5,000, about 40 s left``: what is not up yet, in
    the order in which it starts, and how long it takes if it goes on as it went since the supervisor began."""
    up, of = actors_up(status)
    groups = {kind: [0, 0] for kind in _GROUPS}
    for actor in status["supervisor"]["actors"]:
        counts = groups[actor["kind"]]
        counts[0] += actor["state"] == "UP"
        counts[1] += 1
    parts = [f"{_GROUPS[kind]} {done:,} of {all_:,}" for kind, (done, all_) in groups.items() if done < all_]
    if max(_ESTIMATED_FROM, _ESTIMATED_SHARE * of) <= up < of:
        left_s = status["duration_ms"] / 1000 * (of - up) / up
        parts.append(f"about {duration(max(1, left_s))} left")
    return f"{up:,} of {of:,} actors up" + (f": {', '.join(parts)}" if parts else "")


def totals(status: Mapping[str, Any]) -> str:
    """``6 of 7 in step, 1 unmanaged, corrections 12; journal last seen at record 420``. Corrections are those since the
    run began, over the restarts of its actors: the records RECONCILIATION_DISCREPANCY and DISCREPANCY_RESOLVED since
    then that name one. Where the journal stands was asked at another moment."""
    rows = rows_of(status)
    in_step = sum(row["status"] == "SUCCESS" for _, row in rows)
    corrections = sum(row["health"]["corrections"] for _, row in rows)
    unmanaged = sum(found["type"] == "UNMANAGED_INSTRUMENT" for _, found in of_no_instrument(status))
    words = f"{in_step} of {len(rows)} in step{f', {unmanaged} unmanaged' if unmanaged else ''}"
    words += f", corrections {corrections}"
    journal = journal_words(status["supervisor"]["journal"])
    return f"{words}; journal {journal}" if journal else words


def journal_words(journal: Mapping[str, Any]) -> str:
    """The state of the journal in a few words; empty before it was asked."""
    if not journal:
        return ""
    if journal.get("error"):
        return f"away: {journal['error']}"
    return f"last seen at record {journal['last_seq']}"


def sink_words(sink: Mapping[str, Any]) -> str:
    """``sink:1 var/positions: at record 420``, or why it is not written."""
    return f"{sink['name']} {sink['uri']}: {sink['error'] or 'at record ' + str(sink['seq'])}"


class Screen:
    """Draws a view into the space there is."""

    def __init__(self, view: View) -> None:
        self.view = view

    def press(self, keys: Sequence[str]) -> bool:
        """Look as these keys say; whether any was pressed."""
        for key in keys:
            look = follow(self.view.look, self._rows())
            look = replace(after(look, key, len(self._rows())), name=None)
            self.view = replace(self.view, look=look)
            self.view = replace(self.view, look=follow(look, self._rows()) if look.chosen is not None else look)
        return bool(keys)

    def _rows(self) -> Rows:
        return () if self.view.status is None else shown(self.view.look, rows_of(self.view.status), _calm)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As rich asks for it: with the height of the screen where it fills one."""
        yield render(self.view, options.height or console.height, options.max_width)


def render(view: View, height: int, width: int) -> RenderableType:
    """The whole screen: the table first, and below it as many happenings as there is room for (some, always)."""
    if view.status is None:
        return Group(
            Text(f"{view.step} …", "bold", no_wrap=True, overflow="ellipsis"), ProgressBar(pulse=True, width=40)
        )
    head: list[RenderableType] = _title(view, width)
    if not settled(view.status):
        head.append(_progress(view.status, width))
    if view.look.help:
        return Group(*head, *(Text(line, no_wrap=True, overflow="ellipsis") for line in HELP))
    caption = _caption(view, width)
    rows_shown = shown(view.look, rows_of(view.status), _calm)
    if view.look.details and rows_shown:
        return Group(*head, *_details(*rows_shown[chosen(view.look, rows_shown) or 0], height - len(head)))
    room = height - len(head) - _TABLE_FRAME - len(caption)
    rows = len(rows_shown) + len(of_no_instrument(view.status))
    for_rows = max(_FEWEST_ROWS, min(rows, room - min(_HAPPENINGS_SHOWN, room // 3, len(view.happenings))))
    for_happenings = max(0, room - for_rows)
    latest = view.happenings[-for_happenings:] if for_happenings else ()
    return Group(*head, table(view.status, for_rows, width, view.look), *caption, *map(_Line, latest))


def table(status: Mapping[str, Any], most_rows: int | None = None, width: int = 200, look: Look = _USUAL) -> Table:
    """Every instrument that is looked at, or those most in need of attention where there are more than fit; first what
    nobody looks after."""
    rows = list(shown(look, rows_of(status), _calm))
    place = chosen(look, rows)
    picked = None if place is None else rows[place]
    nobodys = of_no_instrument(status)
    left_out = 0
    if most_rows is not None:
        most_rows = max(1, most_rows - len(nobodys))
    if most_rows is not None and len(rows) > most_rows:
        fit = max(1, most_rows - 1)
        left_out = len(rows) - fit
        places = sorted(range(len(rows)), key=lambda place: (_calm(rows[place][1]), place))[:fit]
        if place is not None and place not in places:
            places[-1] = place
        rows = [rows[place] for place in sorted(places)]
    made = Table(box=None, expand=True, pad_edge=False, header_style="bold dim", collapse_padding=True)
    if width < _NARROW:
        return _narrow(made, rows, nobodys, left_out, picked)
    wide = width >= _WIDE
    made.add_column("account", no_wrap=True, max_width=20)
    made.add_column("instrument", no_wrap=True, max_width=24)
    made.add_column("state", no_wrap=True)
    breaks = bool(nobodys) or any(
        row["error"] or any(not found["resolved"] for found in row["discrepancies"]) for _, row in rows
    )
    made.add_column("book", no_wrap=True, ratio=3, min_width=12, overflow="ellipsis")
    if wide:
        made.add_column("broker", no_wrap=True, max_width=28, overflow="ellipsis")
    # A column with a share of what is left may get less than its heading takes, whatever its smallest width.
    least = None if breaks else len("open breaks")
    made.add_column("open breaks", no_wrap=True, ratio=4 if breaks else None, width=least, overflow="ellipsis")
    made.add_column("verified", justify="right", no_wrap=True)
    if wide:
        made.add_column("next", justify="right", no_wrap=True)
        made.add_column("cycle", justify="right", no_wrap=True)
        made.add_column("restarts", justify="right", no_wrap=True)
    for account, found in nobodys:
        made.add_row(*_cells_of_nobody(account, found, wide=wide))
    for account, row in rows:
        made.add_row(*_cells(account, row, wide=wide), style="reverse" if (account, row) == picked else "")
    if left_out:
        made.add_row(Text("…", "dim"), Text(f"{left_out} more", "dim"))
    return made


def _cells(account: str, row: Mapping[str, Any], *, wide: bool) -> list[RenderableType]:
    health = row["health"]
    cycle_ms, age_s, next_s = health["last_cycle_ms"], health["verified_age_s"], health.get("next_check_s")
    cells: list[RenderableType] = [Text(account), Text(row["instrument"]), _state(row), _book(row)]
    if wide:
        cells.append(_broker(row))
    cells += [_breaks(row), Text(f"{duration(age_s)} ago" if age_s is not None else "never")]
    if wide:
        # Two durations beside each other must not read as one.
        cells += [Text("" if next_s is None else f" in {duration(next_s)}")]
        cells += [Text(f" {cycle_ms:.0f} ms" if cycle_ms is not None else ""), Text(str(health["restarts"]))]
    return cells


def _cells_of_nobody(account: str, found: Mapping[str, Any], *, wide: bool) -> list[RenderableType]:
    unmanaged = found["type"] == "UNMANAGED_INSTRUMENT"
    name, state = (found["key"], "UNMANAGED") if unmanaged else ("", "UNREADABLE")
    book = Text("no book" if unmanaged else "", "dim")
    said = Middle(f"1: {_held(found)}", "yellow")
    cells: list[RenderableType] = [Text(account), Text(name), Text(state, "bold yellow"), book]
    cells += [Text("not compared", "yellow")] if wide else []
    cells += [said, Text("never")]
    return cells + ([Text(""), Text(""), Text("")] if wide else [])


def _narrow(
    made: Table,
    rows: Rows,
    nobodys: Sequence[tuple[str, Mapping[str, Any]]],
    left_out: int,
    picked: tuple[str, Mapping[str, Any]] | None,
) -> Table:
    """Where there is little room: which instrument, how it stands, and what a person has to see to, else its book."""
    made.add_column("instrument", no_wrap=True, ratio=4)
    made.add_column("state", no_wrap=True, max_width=11)
    made.add_column("break, or book", no_wrap=True, ratio=5)
    for account, found in nobodys:
        said = Middle(_held(found), "yellow")
        made.add_row(Middle(f"{account}/{found['key']}"), Text("UNMANAGED", "bold yellow"), said)
    for account, row in rows:
        breaks = _breaks(row)
        book = book_words(row["book"], known=row["health"]["verified_at"] is not None)
        last = breaks if breaks.plain else Middle(book)
        style = "reverse" if (account, row) == picked else ""
        state = _state({**row, "health": {**row["health"], "halted": ()}})  # the head shows the halts
        made.add_row(Middle(f"{account}/{row['instrument']}"), state, last, style=style)
    if left_out:
        made.add_row(Text(f"… {left_out} more", "dim"))
    return made


def _details(account: str, row: Mapping[str, Any], height: int) -> list[RenderableType]:
    """All that is known of one row, a line a fact."""
    health = row["health"]
    lines = [f"{account}/{row['instrument']}: {row['status']}, actor {health['state']}"]
    lines += [f"why: {row['error']}"] if row["error"] else []
    lines += [f"halted: {one['scope']}: {one['reason'] or 'no reason given'}" for one in health.get("halted") or ()]
    for one in row["discrepancies"]:
        sides = f"book {_said(one['book_value'])}, broker {_said(one['broker_value'])}"
        done = "resolved" if one["resolved"] else "open"
        lines.append(
            f"{one['severity']} {one['type']} {one['key']}: {sides}, {one['cause'] or 'no cause known'}, {done}"
        )
    for leg in row["book"]["legs"]:
        lines.append(f"leg {leg['leg']}: {leg['quantity']} @ {shown_price(leg['average_price'])}")
    for order in row["book"]["open_orders"]:
        name = order["broker_order_id"] or order["client_order_id"]
        of = f"{order['side']} {order['quantity']}, filled {order['filled_quantity']}"
        lines.append(f"order {name}: {of}, {order['status']}")
    lines.append("broker: " + ", ".join(f"{name} {value}" for name, value in row["broker"].items()))
    for key in ("verified_at", "last_cycle_at", "next_check_s", "cycles", "corrections", "restarts", "pid"):
        lines.append(f"{key.replace('_', ' ')}: {health.get(key)}")
    shown_lines = lines if len(lines) < height else [*lines[: max(1, height - 2)], "…"]
    return [*(Text(line, no_wrap=True, overflow="ellipsis") for line in shown_lines), Text("Enter: back", "dim")]


def _held(found: Mapping[str, Any]) -> str:
    """What nobody looks after; that nobody does stands beside it."""
    return str(found["broker_value"]).removesuffix(", and not in the configuration")


def _said(value: object) -> object:
    return "nothing" if value is None else value


def _calm(row: Mapping[str, Any]) -> int:
    """How little attention a row needs."""
    critical = any(one["severity"] == "CRITICAL" and not one["resolved"] for one in row["discrepancies"])
    if critical or row["health"]["state"] != "UP" or row["status"] in {"FAILED", "DEGRADED"}:
        return 0
    if row["health"].get("halted") or row["status"] != "SUCCESS":
        return 1
    return 2 if row["discrepancies"] else 3  # something was put right just now


def _state(row: Mapping[str, Any]) -> Text:
    health = row["health"]
    if health["state"] != "UP":
        return Text(health["state"], _STATE_COLOURS.get(health["state"], "cyan"))
    if health["paused"]:
        return Text("PAUSED", _STATE_COLOURS["PAUSED"])
    if health.get("halted"):
        return Text(row["status"], _COLOURS.get(row["status"], "")).append(" HALTED", "bold red")
    return Text(row["status"], _COLOURS.get(row["status"], ""))


def _book(row: Mapping[str, Any]) -> Text:
    return Text(book_words(row["book"], known=row["health"]["verified_at"] is not None))


def book_words(book: Mapping[str, Any], *, known: bool) -> str:
    """A book in one line. Without legs it is flat only where it is ``known``: somebody has verified it, and the table
    that it is kept in, where it is, was read whole."""
    known = known and book.get("table", {}).get("positions", "COMPLETE") == "COMPLETE"
    words = [f"{leg['leg']} {leg['quantity']} @ {shown_price(leg['average_price'])}" for leg in book["legs"]]
    if not words:
        words = ["flat" if known else "unknown"]
    orders = len(book["open_orders"])
    if orders:
        words.append(f"{orders} order{'s' if orders > 1 else ''}")
    return ", ".join(words)


def _broker(row: Mapping[str, Any]) -> Text:
    """What the broker has where that is not what the book has, else how complete its answer was."""
    if row["health"]["last_cycle_at"] is None:
        return Text("not asked yet", "dim")
    differing = [one for one in row["discrepancies"] if not one["resolved"] and one["phase"] in _OF_POSITIONS]
    if differing:
        return Text(", ".join(f"{one['key']} {_said(one['broker_value'])}" for one in differing), "yellow")
    amiss = section_words(row["broker"])
    return Text(amiss, "magenta") if amiss else Text("complete", "dim")


def _breaks(row: Mapping[str, Any]) -> Middle:
    found = [one for one in row["discrepancies"] if not one["resolved"]]
    if not found:
        error = row["error"]
        return Middle(str(error) if error else "", "magenta")
    worst = next((one for one in found if one["severity"] == "CRITICAL"), found[0])
    named = f"{len(found)}: {worst['type']} {worst['key']}"
    return Middle(named, "bold red" if worst["severity"] == "CRITICAL" else "yellow")


def _title(view: View, width: int) -> list[RenderableType]:
    """How all stands; what a person has to know stands on lines of its own where there is little room."""
    status = view.status or {}
    worst = status.get("status", "")
    text = Text(no_wrap=True, overflow="ellipsis")
    if view.stopping:
        return [text.append(f"{view.step} …", "bold yellow")]
    text.append("reconciling " if settled(status) else "starting ", "bold")
    text.append(str(worst), _COLOURS.get(worst, ""))
    halted = halted_scopes(status)
    alerts = [f"trading halted: {', '.join(halted)}"] if halted else []
    alerts += [view.trouble] if view.trouble else []
    room = width - len(text.plain)
    if sum(len(alert) + 2 for alert in alerts) <= room or (width >= _NARROW and len(alerts) == 1):
        for alert in alerts:
            text.append(f"  {cut(alert, max(1, room - 2))}", "bold red")
        return [text]
    return [text, *(Middle(alert, "bold red") for alert in alerts)]


def _progress(status: Mapping[str, Any], width: int) -> RenderableType:
    up, of = actors_up(status)
    words = Text(f" {coming_up(status)}", no_wrap=True, overflow="ellipsis")
    bar = max(10, min(50, width - len(words)))
    grid = Table.grid(expand=False)
    grid.add_column(width=bar)
    grid.add_column(max_width=max(1, width - bar))
    grid.add_row(ProgressBar(total=max(1, of), completed=up), words)
    return grid


def _caption(view: View, width: int) -> list[RenderableType]:
    status = view.status or {}
    lines = [totals(status)]
    looks = words(view.look)
    began = status.get("supervisor", {}).get("run_began_at")
    parts = [looks] if looks else []
    parts += [f"page {view.page}"] if view.page else []
    parts += [f"dashboard {view.dashboard}"] if view.dashboard and width >= _NARROW else []
    parts += [f"corrections and restarts since {began[5:16].replace('T', ' ')}"] if began and width >= _NARROW else []
    parts += ["? keys", f"Ctrl-C {'leaves' if view.watching else 'stops in order'}", "times are UTC"]
    lines.append(" · ".join(parts))
    return [Text(line, "dim", no_wrap=True, overflow="ellipsis") for line in lines]


class _Line:
    """One happening: when and where, and what in as much as there is room for."""

    def __init__(self, happening: Happening) -> None:
        self._happening = happening

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line as it fits."""
        one = self._happening
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"{one.time} ", "dim").append(f"{one.where} ", "bold")
        room = options.max_width - len(text.plain)
        yield text.append(cut(one.text, max(1, room)), _SEVERITIES[one.severity])


def duration(seconds: float) -> str:
    """``3 s``, ``4 min``, ``2 h``, ``3 d``."""
    if seconds < 120:
        return f"{max(0, seconds):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def verdict_table(document: Mapping[str, Any]) -> Table:
    """The instruments of a ``reconcile`` document."""
    made = Table(box=None, pad_edge=False, header_style="bold dim")
    for name in ("account", "instrument", "status", "book", "broker"):
        made.add_column(name, overflow="fold")
    for account, found in of_no_instrument(document):
        if found["type"] == "UNMANAGED_INSTRUMENT":
            made.add_row(account, found["key"], Text("UNMANAGED", "bold yellow"), "no book", "not compared")
    for account, row in rows_of(document):
        known = row["broker"]["positions"] == "COMPLETE"
        amiss = section_words(row["broker"])
        made.add_row(
            Text(account),
            Text(row["instrument"]),
            Text(row["status"], _COLOURS[row["status"]]),
            Text(book_words(row["book"], known=known)),
            Text(amiss or "complete", "magenta" if amiss else "dim"),
        )
    return made


def discrepancy_table(document: Mapping[str, Any]) -> Table | None:
    """Every discrepancy of a ``reconcile`` document with both sides' values; ``None`` where there is none."""
    found: Sequence[tuple[str, str, Mapping[str, Any]]] = [
        *((one["account"], "", each) for one in document["accounts"] for each in one["discrepancies"]),
        *((name, row["instrument"], each) for name, row in rows_of(document) for each in row["discrepancies"]),
    ]
    if not found:
        return None
    made = Table(box=None, pad_edge=False, header_style="bold dim")
    for name in ("account", "instrument", "discrepancy", "severity", "key", "book", "broker", "cause", "done"):
        made.add_column(name, overflow="fold")
    for account, instrument, one in found:
        made.add_row(
            Text(account),
            Text(instrument),
            Text(one.get("alias") or one["type"]),
            Text(one["severity"], _SEVERITIES[Severity(one["severity"])]),
            Text(one["key"]),
            Text("nothing" if one["book_value"] is None else one["book_value"]),
            Text("nothing" if one["broker_value"] is None else one["broker_value"]),
            Text(one["cause"] or ""),
            Text(
                one["correction"] or ("gone without a correction" if one["resolved"] else "open"),
                "" if one["resolved"] else "bold",
            ),
        )
    return made
