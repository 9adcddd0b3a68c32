"""How a person views the live table: sorted, filtered, one row's details, or the help.

Keys in, a look out. Pure.

========  =====================================================================================
key       what it does
========  =====================================================================================
s         sorts by the next order: needs attention first, longest unverified first, as configured
f         shows only what needs attention, and all again
/         filters by the letters that follow, until Enter; Esc shows all again
↑ ↓ j k   chooses a row
Enter d   shows all that is known of it, and the table again
? h       shows these keys, and the table again
q         leaves `status --watch`
========  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from math import inf
from typing import Any

from brokers.frozen import dataclass

ENTER, ESCAPE, BACKSPACE, UP, DOWN = "enter", "escape", "backspace", "up", "down"
_LONGEST_FILTER = 40


class Sort(StrEnum):
    """The sort orders of the rows."""

    ATTENTION = "needs attention first"
    AGE = "longest unverified first"
    CONFIGURED = "as configured"


@dataclass(frozen=True, slots=True)
class Look:
    """The present view. ``typing``: the letters of ``wanted`` are being typed; ``chosen`` is the position of a row
    among those shown, ``None`` before one was chosen, and ``name`` its name, by which it is followed when the order
    changes."""

    sort: Sort = Sort.ATTENTION
    attention: bool = False
    wanted: str = ""
    typing: bool = False
    chosen: int | None = None
    details: bool = False
    help: bool = False
    left: bool = False
    name: str | None = None


Rows = Sequence[tuple[str, Mapping[str, Any]]]


def after(look: Look, key: str, rows: int) -> Look:
    """The view after a key, with ``rows`` rows shown."""
    if look.typing:
        return _typed(look, key)
    last = max(0, rows - 1)
    match key:
        case "s":
            orders = list(Sort)
            return replace(look, sort=orders[(orders.index(look.sort) + 1) % len(orders)], chosen=None)
        case "f":
            return replace(look, attention=not look.attention, chosen=None)
        case "/":
            return replace(look, typing=True, wanted="", chosen=None, help=False, details=False)
        case "up" | "k":
            return replace(look, chosen=last if look.chosen is None else max(0, look.chosen - 1))
        case "down" | "j":
            return replace(look, chosen=0 if look.chosen is None else min(last, look.chosen + 1))
        case "enter" | "d":
            return replace(look, details=not look.details, chosen=look.chosen or 0, help=False)
        case "?" | "h":
            return replace(look, help=not look.help)
        case "escape":
            return replace(look, wanted="", attention=False, details=False, help=False, chosen=None)
        case "q":
            return replace(look, left=True)
    return look


def _typed(look: Look, key: str) -> Look:
    match key:
        case "enter":
            return replace(look, typing=False)
        case "escape":
            return replace(look, typing=False, wanted="")
        case "backspace":
            return replace(look, wanted=look.wanted[:-1])
        case _ if len(key) == 1 and key.isprintable():
            return replace(look, wanted=(look.wanted + key)[:_LONGEST_FILTER])
    return look


def shown(look: Look, rows: Rows, calm: Callable[[Mapping[str, Any]], int]) -> Rows:
    """The rows shown, in their order. ``calm`` returns how little attention a row needs."""
    wanted = look.wanted.lower()
    found = [
        (account, row)
        for account, row in rows
        if wanted in f"{account}/{row['instrument']}".lower() and not (look.attention and calm(row) > 1)
    ]
    match look.sort:
        case Sort.ATTENTION:
            return sorted(found, key=lambda one: calm(one[1]))
        case Sort.AGE:
            return sorted(found, key=lambda one: -_age_s(one[1]))
        case _:
            return found


def chosen(look: Look, rows: Rows) -> int | None:
    """The position of the chosen row among these: by its name, else by its former position."""
    if look.chosen is None or not rows:
        return None
    names = [f"{account}/{row['instrument']}" for account, row in rows]
    return names.index(look.name) if look.name in names else min(look.chosen, len(rows) - 1)


def follow(look: Look, rows: Rows) -> Look:
    """The view with the present position of its chosen row."""
    place = chosen(look, rows)
    if place is None:
        return replace(look, chosen=None, name=None)
    return replace(look, chosen=place, name=f"{rows[place][0]}/{rows[place][1]['instrument']}")


def _age_s(row: Mapping[str, Any]) -> float:
    age_s = row["health"].get("verified_age_s")
    return inf if age_s is None else float(age_s)


def words(look: Look) -> str:
    """How the view differs from the usual one; empty where it does not."""
    parts = [look.sort.value] if look.sort is not Sort.ATTENTION else []
    parts += ["only what needs attention"] if look.attention else []
    if look.typing or look.wanted:
        parts.append(f"/{look.wanted}{'_' if look.typing else ''}")
    return ", ".join(parts)


HELP = (
    "s  sort: by attention, by oldest verification, as configured",
    "f  only what needs attention",
    "/  filter by text; Enter keeps it, Esc shows everything again",
    "↑ ↓  choose a row; Enter or d: all its details",
    "q  leave `status --watch`; Ctrl-C ends `start` in order",
    "?  show or hide this help",
)
