"""How answers are shown: as text in a terminal, a table in a notebook, a frame in pandas or polars.

The laws of this module: no outside text is read as markup; a ``Decimal`` stays exact: ``to_dict()`` and ``to_polars()``
have its digits as text, ``to_pandas()`` the ``Decimal`` itself; times are aware UTC (ISO 8601 text in ``to_dict()``).
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from actors.events import Json, to_iso, to_text
from brokers.frozen import dataclass

if TYPE_CHECKING:
    import pandas
    import polars

Cell = None | bool | int | float | str | Decimal | datetime
EXTRA = "notebook"
_WIDTH = 200
_LONGEST_CELL = 300
_STYLES = {
    "CRITICAL": "color:#b00020;font-weight:bold",
    "FAILED": "color:#b00020;font-weight:bold",
    "DEGRADED": "color:#8e24aa",
    "WARNING": "color:#b26a00",
    "PARTIAL": "color:#b26a00",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the key of its values, its heading, and whether they are aligned right, like numbers."""

    key: str
    heading: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns. ``title`` and ``notes`` are sentences above and below them; ``hidden`` are keys that only the
    frame has."""

    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Cell]]
    notes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key of a frame, in order."""
        return (*(column.key for column in self.columns), *self.hidden)


class Answer:
    """What every answer of the handle can do. A subclass defines its table and its document."""

    def to_dict(self) -> dict[str, Any]:
        """The whole answer in JSON's types: decimals and times are text."""
        raise NotImplementedError

    def table(self) -> Table:
        """The answer as a table."""
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a frame; a ``Decimal`` stays one, a time is aware UTC. Without pandas, ``ImportError`` names the
        extra to install."""
        pandas = _imported("pandas")
        shown = self.table()
        rows = [{key: row.get(key) for key in shown.keys} for row in shown.rows]
        return pandas.DataFrame({key: _series(pandas, [row[key] for row in rows]) for key in shown.keys})

    def to_polars(self) -> polars.DataFrame:
        """The rows as a frame; a ``Decimal`` is its exact digits as text, a time is aware UTC. Without polars,
        ``ImportError`` names the extra to install."""
        polars = _imported("polars")
        shown = self.table()
        columns = {key: [_exact(row.get(key)) for row in shown.rows] for key in shown.keys}
        # Without a value in a column, polars cannot infer its type.
        return polars.DataFrame(  # type: ignore[no-any-return]  # what the import gives is not typed
            [
                polars.Series(key, values, strict=True) if _some(values) else polars.Series(key, values, polars.String)
                for key, values in columns.items()
            ]
        )

    def tables(self) -> tuple[Table, ...]:
        """Everything that is shown, :meth:`table` first."""
        return (self.table(),)

    def __str__(self) -> str:
        return "\n\n".join(map(as_text, self.tables()))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return "".join(map(as_html, self.tables()))


def as_text(shown: Table) -> str:
    """A table for a terminal."""
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=None, pad_edge=False, header_style="", show_edge=False)
    for column in shown.columns:
        drawn.add_column(Text(column.heading), justify="right" if column.right else "left", overflow="fold")
    for row in shown.rows:
        drawn.add_row(*(Text(_cell(row.get(column.key))) for column in shown.columns))
    out = io.StringIO()
    console = Console(file=out, width=_WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(Text(shown.title), soft_wrap=True)
    if shown.rows:
        console.print(drawn)
    for note in shown.notes:
        console.print(Text(note), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def as_html(shown: Table) -> str:
    """A table for a notebook. Everything is escaped."""
    parts = [f"<p><b>{html.escape(shown.title)}</b></p>"]
    if shown.rows:
        heads = "".join(f"<th>{html.escape(column.heading)}</th>" for column in shown.columns)
        rows = "".join(_html_row(shown.columns, row) for row in shown.rows)
        parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>")
    parts += [f"<p>{html.escape(note)}</p>" for note in shown.notes]
    return f"<div>{''.join(parts)}</div>"


def json_value(value: object) -> Json:
    """A value in JSON's types: decimals and times are text."""
    if isinstance(value, Decimal):
        return to_text(value)
    if isinstance(value, datetime):
        return to_iso(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    if value is None or isinstance(value, bool | int):
        return value
    return str(value)  # this also turns a member of a StrEnum into plain text


def columns(*given: str | tuple[str, str]) -> tuple[Column, ...]:
    """Columns by their keys, with the key as the heading unless one is given; ``>`` before a key aligns its values
    right."""
    made = []
    for one in given:
        key, heading = one if isinstance(one, tuple) else (one, one.lstrip(">").replace("_", " "))
        made.append(Column(key.lstrip(">"), heading, key.startswith(">")))
    return tuple(made)


def _html_row(shown: tuple[Column, ...], row: Mapping[str, Cell]) -> str:
    cells = []
    for column in shown:
        text = _cell(row.get(column.key))
        style = _STYLES.get(text, "") + (";text-align:right" if column.right else ";text-align:left")
        cells.append(f'<td style="{style.lstrip(";")}">{html.escape(text)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        text = to_text(value) or ""
    elif isinstance(value, datetime):
        text = f"{value:%Y-%m-%d %H:%M:%S}Z"
    else:
        text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    # A control character in outside text must not move a terminal's cursor.
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"


def _exact(value: Cell) -> Cell:
    return to_text(value) if isinstance(value, Decimal) else value


def _some(values: Iterable[Cell]) -> bool:
    return any(value is not None for value in values)


def _series(pandas: Any, values: Sequence[Cell]) -> Any:
    """A column of pandas: times as times; exact numbers and mixed types unchanged."""
    if any(isinstance(value, Decimal) for value in values):
        return pandas.Series(values, dtype=object)
    if any(isinstance(value, datetime) for value in values):
        return pandas.to_datetime(pandas.Series(values, dtype=object), utc=True)
    return pandas.Series(values, dtype=None if _some(values) else object)


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        install = f"pip install -e '.[{EXTRA}]'"
        raise ImportError(f"{name} is not installed here ({error}). Install the extra {EXTRA}: {install}") from None
