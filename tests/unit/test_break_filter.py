"""Which open breaks are wanted: each condition, what means nothing, and one address for one filter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from supervisor.cli.breaks import until_of
from supervisor.cli.console import Failure
from supervisor.cli.main import app
from supervisor.presentation.break_filter import BreakFilter, seconds_of
from tests.unit.builders import at


def row(**changed: Any) -> dict[str, Any]:
    usual = {
        "account": "fx", "instrument": "EUR_USD", "type": "NAKED_POSITION", "severity": "CRITICAL", "state": "OPEN",
        "age_s": 61, "owner": None,
    }  # fmt: skip
    return usual | changed


ROWS = [
    row(),
    row(account="cfd", instrument="XAU/USD", severity="WARNING", type="STALE_ORDER", age_s=7300, owner="ann@desk"),
    row(instrument="", type="UNMANAGED_INSTRUMENT", severity="WARNING", state="WAIVED", age_s=90_000),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [0, 1, 2]),
        ({"account": "fx"}, [0, 2]),
        ({"instrument": "XAU/USD"}, [1]),
        ({"type": "stale_order"}, [1]),
        ({"severity": "WARNING"}, [1, 2]),
        ({"state": "waived"}, [2]),
        ({"older": "2h"}, [1, 2]),
        ({"older": "1d1h"}, [2]),
        ({"owner": "ann@desk"}, [1]),
        ({"owner": "nobody"}, [0, 2]),
        ({"account": "fx", "severity": "WARNING", "owner": "nobody"}, [2]),
        ({"account": "nowhere"}, []),
    ],
)
def test_each_condition_leaves_what_meets_it_in_its_order(wanted: dict[str, str], found: list[int]) -> None:
    chosen = BreakFilter(**wanted)
    assert chosen.rows(ROWS) == [ROWS[place] for place in found]
    assert BreakFilter.of_query(chosen.query) == chosen
    assert bool(chosen) is bool(wanted)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"type": "NAKED"}, "'NAKED' is no type of a break. There are: MISSING_LOCALLY"),
        ({"severity": "GRAVE"}, "There are: INFO, WARNING, CRITICAL"),
        ({"state": "RESOLVED"}, "'RESOLVED' is no state of a break"),
        ({"older": "yesterday"}, "'yesterday' is no length of time"),
        ({"older": ""}, "'' is no length of time"),
    ],
)
def test_what_means_nothing_is_refused_with_what_does(wanted: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no") as refused:
        BreakFilter(**wanted)
    assert said in str(refused.value)
    file = tmp_path / "accounts.yaml"
    file.write_text("journal: {url: 'sqlite:///journal.db'}\naccounts: []\n")
    ((name, value),) = wanted.items()
    done = CliRunner().invoke(app, ["breaks", "list", "-c", str(file), f"--{name}", value])
    assert done.exit_code == 2, "and never answered with no breaks, which would say that all is well"


def test_of_an_address_what_is_empty_or_not_known_is_no_condition() -> None:
    assert BreakFilter.of_query("account=&type=&said=waived&owner=%20") == BreakFilter()
    assert BreakFilter.of_query("owner=bob%26co&account=fx").query == "account=fx&owner=bob%26co"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("3d", 259_200), ("0s", 0)])
def test_a_length_of_time_is_read_in_its_units(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_a_time_until_which_is_no_option_s_name_and_its_forms_are_those_of_a_time_to_come() -> None:
    with pytest.raises(Failure, match=r"^until 'gestern' is not a time. Write a length from now on \(90s") as refused:
        until_of("gestern", at(0))
    assert "ago" not in str(refused.value)
