"""A paper account in the configuration: what it may say, and what its actors are made of."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path

import pytest

from actors.runtime.ports import LocalRuntime
from brokers.errors import Refused
from brokers.paper.client import PaperBroker
from brokers.paper.prices import Market
from brokers.registry import open_broker
from brokers.spec import BrokerSpec
from supervisor.config.loader import load
from supervisor.config.models import ConfigurationError, PaperAccount, PaperMarket
from supervisor.supervision import specs
from tests.unit.fakes import T0

D = Decimal
PAPER = "name: rehearsal, broker: paper"


def spec(directory: Path, account: str) -> BrokerSpec:
    return load(written(directory, account), {}).broker_spec("rehearsal")


def written(directory: Path, account: str) -> Path:
    file = directory / "accounts.yaml"
    file.write_text(f"journal: {{url: 'sqlite:///{directory}/journal.db'}}\naccounts:\n  - {account}\n")
    return file


def test_the_least_there_is_to_say(tmp_path: Path) -> None:
    """FEATURES 19: no credentials, fed prices, orders every five seconds"""
    configuration = load(written(tmp_path, f"{{{PAPER}, mode: paper, instruments: [EURUSD]}}"), {})
    given = configuration.broker_spec("rehearsal")
    assert (given.markets, given.secrets, given.settings) == ((), {}, {"stale_price_s": 60.0})
    assert configuration.instrument_settings("rehearsal", "EURUSD").interval_s == 5
    assert isinstance(open_broker(given), PaperBroker)


@pytest.mark.parametrize("quote", ["", '"'], ids=["plain", "quoted"])
def test_prices_are_exact_whether_quoted_or_not(tmp_path: Path, quote: str) -> None:
    market = (
        f"{{start: {quote}1.10{quote}, tick: {quote}0.0001{quote}, spread: {quote}2e-4{quote}, seed: 7, step_s: 0.5, "
        f"slippage: 0.0001, liquidity: {quote}50000{quote}}}"
    )
    account = f"{{{PAPER}, instruments: [EURUSD], stale_price_s: null, prices: {{EURUSD: {market}}}}}"
    given = spec(tmp_path, account)
    expected = Market("EURUSD", D("1.10"), D("0.0001"), D("0.0002"), 7, 0.5, D("0.0001"), D(50000))
    assert given.markets == (expected,)
    assert given.settings == {"stale_price_s": None}
    assert pickle.loads(pickle.dumps(given)) == given  # noqa: S301 - our own


WRONG = {
    # key and value of the account -> key, found, expected
    "an unknown key": ("prices: {EURUSD: {sped: 1}}", ".prices.EURUSD.sped", "an unknown key", "spread"),
    "a start of nothing": ("prices: {EURUSD: {start: 0}}", ".prices.EURUSD.start", "0", "a number above 0"),
    "a start that is no number": ("prices: {EURUSD: {start: x}}", ".prices.EURUSD.start", "'x'", "a number above 0"),
    "a spread below zero": ("prices: {EURUSD: {spread: -1}}", ".prices.EURUSD.spread", "-1", "a number, 0 or more"),
    "steps without a pause": ("prices: {EURUSD: {step_s: 0}}", ".prices.EURUSD.step_s", "0", "from 0.05 to a day"),
    "a seed that is none": (
        "prices: {EURUSD: {start: 1, tick: 1, seed: x}}",
        ".prices.EURUSD.seed",
        "'x'",
        "a whole number",
    ),
    "no liquidity at all": ("prices: {EURUSD: {liquidity: 0}}", ".prices.EURUSD.liquidity", "0", "a number above 0"),
    "a walk from nowhere": (
        "prices: {EURUSD: {seed: 1, tick: 1}}",
        ".prices.EURUSD.start",
        "nothing besides seed",
        "start, as a walk needs",
    ),
    "a walk without steps": (
        "prices: {EURUSD: {seed: 1, start: 1}}",
        ".prices.EURUSD.tick",
        "nothing besides seed",
        "tick, as a walk",
    ),
    "a price of another symbol": (
        "prices: {XAUUSD: {start: 1}}",
        ".prices.XAUUSD",
        "'XAUUSD', which is not in instruments",
        "a symbol of instruments",
    ),
    "a price of nothing": ("prices: {EURUSD: }", ".prices.EURUSD", "nothing (null)", "a mapping of keys"),
    "prices in a list": ("prices: [1]", ".prices", "a list", "a mapping of keys"),
    "a staleness of nothing": ("stale_price_s: 0", ".stale_price_s", "0", "a number of seconds above 0"),
    "a credential": ("token: secret", ".token", "an unknown key", "one of"),
}


@pytest.mark.parametrize(("said", "key", "found", "expected"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named_with_its_line_and_what_was_expected(
    tmp_path: Path, said: str, key: str, found: str, expected: str
) -> None:
    keys = ["name: rehearsal", "broker: paper", "instruments: [EURUSD]", said]
    with pytest.raises(ConfigurationError) as raised:
        load(written(tmp_path, "\n    ".join(keys)), {})
    (problem,) = raised.value.problems
    assert (problem.line, problem.key, problem.found) == (6, f"accounts[0]{key}", found)
    assert expected in problem.expected


def test_a_symbol_that_cannot_be_is_named_as_the_key_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"prices\.A : found the key 'A ', expected a symbol"):
        load(written(tmp_path, f"{{{PAPER}, instruments: all, prices: {{'A ': {{start: 1}}}}}}"), {})


@pytest.mark.parametrize(
    ("account", "venue", "positions"),
    [
        (f"{{{PAPER}, instruments: all}}", True, False),
        (f"{{{PAPER}, mode: live, instruments: all}}", True, True),
        ("{name: rehearsal, broker: mt5, mode: paper, instruments: all}", False, False),
        ("{name: rehearsal, broker: mt5, instruments: all}", False, True),
    ],
    ids=["paper", "paper, live", "mt5, paper mode", "mt5"],
)
def test_orders_are_handed_over_at_broker_paper_alone_and_positions_follow_the_mode(
    tmp_path: Path, account: str, venue: bool, positions: bool
) -> None:
    """FEATURES 19, FEATURES 22"""
    runtime = LocalRuntime(lambda: T0, lambda: 0.0, lambda: 0.0)
    settings, _ = specs.instrument_actor(load(written(tmp_path, account), {}), "rehearsal", "EURUSD", runtime)
    assert (settings.venue, settings.policy.positions) == (venue, positions)


def test_a_change_of_its_prices_is_a_change_of_the_account(tmp_path: Path) -> None:
    made = []
    for start in ("1.1", "1.2"):
        configuration = load(written(tmp_path, f"{{{PAPER}, instruments: all, prices: {{E: {{start: {start}}}}}}}"), {})
        made.append({spec.key.name: spec.fingerprint for spec in specs.children(configuration)})
    assert made[0]["rehearsal"] != made[1]["rehearsal"]


def test_a_broker_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="ib, kite, mt5, oanda, paper"):
        open_broker(BrokerSpec("x", "lynx", 1.0))


def test_the_example_shows_every_key_of_a_paper_account_and_its_prices() -> None:
    text = (Path(__file__).parents[2] / "config/accounts.example.yaml").read_text()
    for key in (*PaperAccount.model_fields, *PaperMarket.model_fields):
        assert f" {key}:" in text, key
