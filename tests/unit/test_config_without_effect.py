"""A key that does nothing where it stands is named at ``check`` and at every start, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config.cautions import cautions
from supervisor.config.loader import load

LIVE = "broker: paper, mode: live"


@pytest.mark.parametrize(
    ("account", "words"),
    [
        (f"{LIVE}, cancel_stale_orders: true", "a: cancel_stale_orders is true and no order is ever stale"),
        (f"{LIVE}, cancel_stale_orders: true, stale_order_s: 60", None),
        (f"{LIVE}, cancel_stale_orders: true, stale_order_s: 60, correct: alert", "correct: alert changes nothing"),
        ("broker: paper, protection: WARNING", "a: protection is never looked at, as mode paper"),
        (f"{LIVE}, protection: WARNING", None),
        ("broker: paper, halt_on: [NAKED_POSITION, MISSED_FILL]", "a: halt_on names NAKED_POSITION, which"),
        (f"{LIVE}, halt_on: [NAKED_POSITION, MISSED_FILL]", None),
        (f"{LIVE}, halt_on: [STALE_ORDER]", "a: halt_on names STALE_ORDER"),
        (f"{LIVE}, halt_on: [UNPROTECTED], protection: INFO", None),
        (f"{LIVE}, halt_on: [UNPROTECTED]", "a: halt_on names UNPROTECTED"),
        (f"{LIVE}, interval_s: 300, unverified_s: 10", "a: unverified_s (10) is shorter than interval_s (300)"),
        (f"{LIVE}, interval_s: 300", None),
        ("broker: oanda, simulator: true, include_holdings: true", "a: include_holdings is for broker kite"),
        ("broker: kite, simulator: true, include_holdings: true", None),
        (f"{LIVE}, enabled: false, cancel_stale_orders: true", None),
    ],
)
def test_a_key_without_effect_is_named(tmp_path: Path, account: str, words: str | None) -> None:
    path = tmp_path / "accounts.yaml"
    another = "  - {name: b, broker: paper, instruments: [Z]}\n"  # some account is enabled
    path.write_text(f"accounts:\n  - {{name: a, {account}, instruments: [X, Y]}}\n{another}")
    found = cautions(load(path, {}))
    assert len(found) == (words is not None), found
    assert words is None or words in found[0]


def test_what_is_so_for_one_instrument_is_said_of_that_one(tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    instruments = "[X, {symbol: Y, cancel_stale_orders: true}]"
    path.write_text(f"accounts:\n  - {{name: a, {LIVE}, instruments: {instruments}}}\n")
    assert [one.split(":")[0] for one in cautions(load(path, {}))] == ["a/Y"]


def test_an_account_that_finds_its_instruments_is_judged_by_its_own_settings(tmp_path: Path) -> None:
    path = tmp_path / "accounts.yaml"
    path.write_text(f"accounts:\n  - {{name: a, {LIVE}, instruments: all, cancel_stale_orders: true}}\n")
    assert [one.split(":")[0] for one in cautions(load(path, {}))] == ["a"]
