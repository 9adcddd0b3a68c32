"""How answers are shown: text, a notebook's table, frames; exact, and never markup from outside."""

from __future__ import annotations

import builtins
import importlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars
import pytest

from supervisor.client.features import PositionSide
from supervisor.presentation.tables import Answer, Table, columns, json_value

WHEN = datetime(2026, 1, 31, 12, tzinfo=UTC)
PRICE = Decimal("1.10000000000000000000000000012")


class Example(Answer):
    """Rows with all that a cell can hold."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows

    def to_dict(self) -> dict[str, Any]:
        return {"rows": len(self.rows)}

    def table(self) -> Table:
        shown = columns("name", ">price", "at", ("ok", "all right?"), "nothing")
        return Table("<two> rows", shown, self.rows, ("a <note>",), ("count",))


ROWS = (
    {"name": "<script>alert(1)</script>", "price": PRICE, "at": WHEN, "ok": True, "count": 1},
    {"name": "[red]b\x1b[2J", "price": Decimal("1E+2"), "at": None, "ok": False, "count": 2},
)


def test_in_a_notebook_everything_from_outside_is_escaped() -> None:
    shown = Example(*ROWS)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "&lt;two&gt; rows" in shown
    assert "a &lt;note&gt;" in shown
    assert str(PRICE) in shown


def test_a_document_holds_what_json_has_and_no_type_of_ours() -> None:
    given = {"side": PositionSide.LONG, "price": PRICE, "at": WHEN, "parts": (1, None, True)}
    held = json_value(given)
    assert held == {"side": "long", "price": str(PRICE), "at": "2026-01-31T12:00:00.000000Z", "parts": [1, None, True]}
    assert isinstance(held, dict)
    assert type(held["side"]) is str


def test_in_a_terminal_it_is_text_without_markup_or_control_characters() -> None:
    shown = str(Example(*ROWS))
    assert shown.splitlines()[0] == "<two> rows"
    assert "[red]b [2J" in shown
    assert "\x1b" not in shown
    assert str(PRICE) in shown
    assert "2026-01-31 12:00:00Z" in shown
    assert repr(Example(*ROWS)) == shown


def test_in_a_notebook_text_is_given_back_and_nothing_is_shown_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook asks for both forms of what a cell gives and shows one: whatever draws by itself is shown twice."""
    drawn: list[object] = []

    class ZMQInteractiveShell:
        """What an IPython kernel calls its shell."""

    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setattr("IPython.display.display", lambda *shown, **_: drawn.extend(shown))
    assert str(Example(*ROWS)).splitlines()[0] == "<two> rows"
    assert drawn == []


def test_a_frame_of_pandas_holds_exact_decimals_and_aware_times() -> None:
    frame = Example(*ROWS).to_pandas()
    assert list(frame.columns) == ["name", "price", "at", "ok", "nothing", "count"]
    assert list(frame["price"]) == [PRICE, Decimal("1E+2")]
    assert frame["at"][0].to_pydatetime() == WHEN
    assert frame["at"].isna()[1]


def test_a_frame_of_polars_holds_the_digits_of_decimals_and_aware_times() -> None:
    frame = Example(*ROWS).to_polars()
    assert frame.columns == ["name", "price", "at", "ok", "nothing", "count"]
    assert frame["price"].to_list() == [str(PRICE), "100"]
    assert frame["at"].to_list() == [WHEN, None]
    assert frame["nothing"].dtype == polars.String


def test_an_answer_without_rows_has_its_columns_all_the_same() -> None:
    assert list(Example().to_pandas().columns) == Example().to_polars().columns
    assert str(Example()) == "<two> rows\na <note>"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_without_the_library_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    known = importlib.import_module

    def missing(name: str, package: str | None = None) -> Any:
        if name == library:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return known(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
    answer = Example(*ROWS)
    with pytest.raises(ImportError, match=r"-e '\.\[notebook\]'"):
        answer.to_pandas() if library == "pandas" else answer.to_polars()


def test_importing_the_package_imports_neither_ray_nor_pydantic_nor_frames() -> None:
    code = "import sys, json, supervisor; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"ray", "pydantic", "pandas", "polars", "rich", "sqlalchemy"} & set(loaded)
    assert not [name for name in loaded if name.startswith(("actors", "brokers"))]
    assert builtins.len(loaded) < 100


def test_the_package_has_every_public_name() -> None:
    import supervisor

    assert {name for name in supervisor.__all__ if getattr(supervisor, name).__name__ == name} == set(
        supervisor.__all__
    )
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = supervisor.nothing_of_the_kind
