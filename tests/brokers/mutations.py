"""What may come instead of what a broker sends: its own payloads with something changed, for Hypothesis."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

T = TypeVar("T")

Path = tuple[Any, ...]

EXAMPLES = settings(max_examples=30 * int(os.environ.get("PROPERTY_CAMPAIGN", "1")), deadline=None)
"""Some at each run of the tests; more by PROPERTY_CAMPAIGN."""

_DROP, _TWICE, _WRAPPED = object(), object(), object()
ODD_TEXTS = (
    "",
    " ",
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "1e999",
    "-0",
    "0",
    "1,5",
    "١٢",
    "9" * 30,
    "9" * 5_000,
    "-1",
    "null",
    "true",
    "\x00",
    "é\ud800",
    "0001-01-01 00:00:00",
    "9999-12-31 23:59:59",
    "0001-01-01T00:00:00.000000000Z",
    "9999-12-31T23:59:59.999999999Z",
    "20260229 00:00:00",
    "00010101 00:00:00",
    "99991231 23:59:59",
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    10**18,
    10**25,
    -(10**25),
    2**31 - 1,
    Decimal("NaN"),
    Decimal("Infinity"),
    Decimal("1E+999999"),
    Decimal("-1E-999999"),
    Decimal("0.1"),
    1.5,
    float("nan"),
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"quantity": 1},
    *ODD_TEXTS,
)


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Where every value of a payload lies, its own place first."""
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from paths(inner, (*at, place))


def at_path(value: Any, path: Path) -> Any:
    """What lies there."""
    for step in path:
        value = value[step]
    return value


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def changed(value: Any, path: Path, how: Any) -> Any:
    """The payload with another value at one place; ``path`` is not the whole."""
    made = copy.deepcopy(value)
    holder, last = at_path(made, path[:-1]), path[-1]
    if how is _DROP:
        del holder[last]
    elif how is _TWICE:
        if isinstance(holder, list):
            holder.insert(last, copy.deepcopy(holder[last]))
    elif how is _WRAPPED:
        holder[last] = [holder[last]]
    else:
        holder[last] = how
    return made


HOWS = st.one_of(
    st.sampled_from(ODD_VALUES),
    st.sampled_from((_DROP, _DROP, _TWICE, _WRAPPED, deep(50))),
    st.integers(),
    st.decimals(),
    st.text(max_size=12),
)


@st.composite
def mutations(draw: st.DrawFn, value: Any, within: Path = (), most: int = 3) -> Any:
    """The payload with one to three changes, all below one place."""
    for _ in range(draw(st.integers(1, most))):
        below = [(*within, *path) for path in paths(_found(value, within)) if path]
        if not below:
            return value
        value = changed(value, draw(st.sampled_from(below)), draw(HOWS))
    return value


def _found(value: Any, within: Path) -> Any:
    try:
        return at_path(value, within)
    except (KeyError, IndexError, TypeError):
        return None


@st.composite
def lines(draw: st.DrawFn, row: Sequence[str], most: int = 3) -> list[str]:
    """A row of text fields, behind its number, with fields lost, added, and changed."""
    made = list(row)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(1, max(1, len(made) - 1)))
        what = draw(st.sampled_from(["change", "change", "change", "drop", "insert", "cut", "twice"]))
        field = draw(st.sampled_from(ODD_TEXTS) | st.text(max_size=8) | st.integers().map(str) | st.decimals().map(str))
        if what == "cut":
            made = made[:place]
        elif what == "insert" or place >= len(made):
            made.insert(place, field)
        elif what == "drop":
            del made[place]
        elif what == "twice":
            made.insert(place, made[place])
        else:
            made[place] = field
    return made


def read_or_refused(read: Callable[[Any], T], given: Any, refusal: type[Exception]) -> T | str:
    """What was read, or the words of the one error that may come of it."""
    try:
        return read(given)
    except refusal as error:
        return str(error)
