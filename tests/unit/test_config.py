"""Configuration: what is accepted, what is refused and in which words, and that no secret is ever shown."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.registry import CONVENTIONS, KINDS, PAPER
from brokers.spec import SecretSource
from supervisor.config.loader import load
from supervisor.config.models import SUPPORTED_BROKERS, ConfigurationError
from supervisor.config.yaml_source import Number, read
from tests.unit.config_cases import ENVIRON, FX, QUOTED_UNSET, ROOT, SECRET, loaded, mt5, refused, with_account, written

# The files that ship


def test_the_default_configuration_needs_no_environment_and_no_network() -> None:
    configuration = load(ROOT / "config/accounts.yaml", {})

    assert [account.broker for account in configuration.enabled_accounts] == ["oanda", "mt5", "kite", "ib"]
    assert all(account.simulator and len(account.symbols) >= 2 for account in configuration.accounts)
    for account in configuration.accounts:
        spec = configuration.broker_spec(account.name)
        assert spec.simulated
        assert all(secret.resolve({}) for secret in spec.secrets.values())


def test_the_example_shows_all_brokers_and_loads_once_its_environment_is_set() -> None:
    names = ["OANDA_ACCOUNT_ID", "OANDA_TOKEN", "KITE_API_KEY", "KITE_ACCESS_TOKEN", "IB_ACCOUNT_ID"]
    configuration = load(ROOT / "config/accounts.example.yaml", dict.fromkeys(names, "x1"))

    assert {"oanda", "kite", "ib", "mt5", "paper"} == {account.broker for account in configuration.accounts}
    with pytest.raises(ConfigurationError) as raised:
        load(ROOT / "config/accounts.example.yaml", {})
    assert names == [problem.expected.split()[-1] for problem in raised.value.problems]


def test_the_example_shows_every_key() -> None:
    text = (ROOT / "config/accounts.example.yaml").read_text()
    models = [type(account) for account in load(ROOT / "config/accounts.yaml", {}).accounts]

    for key in {name for model in models for name in model.model_fields}:
        assert f"{key}:" in text


# What is refused, and how

WRONG: dict[str, tuple[str, int, str, str, str]] = {
    # text, line, key, found, expected
    "a misspelt key": (f"acounts: []\naccounts: [{FX}]", 1, "acounts", "an unknown key", "accounts (did you mean"),
    "a misspelt key of an account": (
        with_account("intervall_s: 3"), 2, "accounts[0].intervall_s", "unknown", "interval_s"),
    "a key of another broker": (with_account("login: 5"), 2, "accounts[0].login", "an unknown key", "one of "),
    "a key for accounts at an instrument": (
        mt5().replace("EURUSD", "{symbol: EURUSD, timeout_ms: 5}"),
        2, "accounts[0].instruments[0].timeout_ms", "an unknown key", "one of "),
    "no accounts": ("ray: {address: local}", 1, "accounts", "nothing", "a list of at least one account"),
    "an empty list of accounts": ("accounts: []", 1, "accounts", "an empty list", "a list of at least one"),
    "accounts that are a mapping": ("accounts: {name: fx}", 1, "accounts", "a mapping of keys", "a list of"),
    "a list instead of a configuration": ("- a", 1, "", "a list", "a mapping of keys"),
    "text instead of an account": (f"accounts:\n  - {FX}\n  - fx", 3, "accounts[1]", "'fx'", "a mapping of keys"),
    "a missing key": (
        "accounts:\n  - name: fx\n    broker: oanda\n    token: x\n    instruments: all",
        2, "accounts[0].account_id", "nothing", "the account id, such as"),
    "no broker": ("accounts: [{name: fx}]", 1, "accounts[0].broker", "nothing", "oanda, kite, ib, mt5 or paper"),
    "an unknown broker": (
        "accounts: [{name: fx, broker: oando}]", 1, "accounts[0].broker", "'oando'", "oanda, kite, ib"),
    "a negative interval": (with_account("interval_s: -5"), 2, "accounts[0].interval_s", "-5", "0 or more"),
    "an interval in words": (
        with_account("interval_s: soon"), 2, "accounts[0].interval_s", "'soon'", "a number of seconds"),
    "an interval in quotes": (
        with_account("interval_s: '5'"), 2, "accounts[0].interval_s", "'5'", "a number of seconds"),
    "an interval that is not a number": (
        with_account("interval_s: .nan"), 2, "accounts[0].interval_s", ".nan", "a number"),
    "an endless interval": (with_account("interval_s: .inf"), 2, "accounts[0].interval_s", ".inf", "a number"),
    "an interval past all bounds": (
        with_account("interval_s: 1e400"), 2, "accounts[0].interval_s", "1e400", "a number"),
    "a tolerance that is not a number": (
        with_account("quantity_tolerance: .NaN"), 2, "accounts[0].quantity_tolerance", ".NaN", "a number, 0 or more"),
    "a tolerance that would fill the memory": (
        with_account("quantity_tolerance: 1e999999"), 2, "accounts[0].quantity_tolerance", "1e999999", "a number"),
    "a tolerance of the whole price": (
        with_account("price_tolerance: 1"), 2, "accounts[0].price_tolerance", "1", "a fraction"),
    "no confirmations": (with_account("confirmations: 0"), 2, "accounts[0].confirmations", "0", "from 1"),
    "one and a half confirmations": (
        with_account("confirmations: 1.5"), 2, "accounts[0].confirmations", "1.5", "whole"),
    "a time-out of nothing": (with_account("timeout_ms: 0"), 2, "accounts[0].timeout_ms", "0", "above 0"),
    "a word for yes": (with_account("enabled: on"), 2, "accounts[0].enabled", "'on'", "true or false"),
    "another way to correct": (with_account("correct: always"), 2, "accounts[0].correct", "'always'", "auto or alert"),
    "a book elsewhere": (with_account("book: delta"), 2, "accounts[0].book", "'delta'", "journal"),
    "one instrument without a list": (
        mt5().replace("[EURUSD]", "EURUSD"), 2, "accounts[0].instruments", "'EURUSD'", "all, or a list"),
    "no instruments": (mt5().replace("EURUSD", ""), 2, "accounts[0].instruments", "an empty list", "all, or a list"),
    "all in a list": (mt5().replace("EURUSD", "all"), 2, "accounts[0].instruments[0]", "'all'", "used alone"),
    "an empty symbol": (mt5().replace("EURUSD", "''"), 2, "accounts[0].instruments[0]", "an empty text", "a symbol"),
    "a symbol with a line break": (
        mt5().replace("EURUSD", '"A\\nB"'), 2, "accounts[0].instruments[0]", "'A\\nB'", "a symbol"),
    "a symbol with a blank at its end": (
        mt5().replace("EURUSD", '"EURUSD "'), 2, "accounts[0].instruments[0]", "'EURUSD '", "a symbol"),
    "a truth value as a symbol": (mt5().replace("EURUSD", "true"), 2, "accounts[0].instruments[0]", "true", "a symbol"),
    "an instrument twice": (
        mt5().replace("EURUSD", "X, {symbol: X}"),
        2, "accounts[0].instruments[1]", "'X' a second time", "each instrument once"),
    "an instrument that is ignored too": (
        mt5(", ignore_instruments: [EURUSD]"),
        2, "accounts[0].ignore_instruments[0]", "which is also in instruments", "not reconciled"),
    "an account twice": (
        f"accounts:\n  - {FX}\n  - {FX}",
        3, "accounts[1].name", "'fx' a second time (first on line 2)", "a name of its own"),
    "an account called as an actor of ours": (
        mt5().replace("cfd", "audit"), 2, "accounts[0].name", "'audit'", "not audit"),
    "an account with a slash": (mt5().replace("cfd", "c/d"), 2, "accounts[0].name", "'c/d'", "letters, digits"),
    "a URL with its path": (
        with_account("rest_url: https://api.example.com/v3"), 2, "accounts[0].rest_url", "'https", "without /v3"),
    "an endpoint without a port": (
        mt5(", endpoint: 'tcp://localhost'"), 2, "accounts[0].endpoint", "'tcp://localhost'", "tcp://host:port"),
    "a journal of another kind": (
        f"journal: {{url: 'mysql://u:{SECRET}@h/d'}}\naccounts: [{FX}]",
        1, "journal.url", "'mysql://…@h/d'", "sqlite:///"),
    "a journal that dies with its process": (
        f"journal: {{url: 'sqlite:///:memory:'}}\naccounts: [{FX}]",
        1, "journal.url", "'sqlite:///:memory:'", "of a file"),
    "an address that is none": (
        f"ray: {{address: somewhere}}\naccounts: [{FX}]", 1, "ray.address", "'somewhere'", "local, auto, or host:port"),
    "a backoff the wrong way round": (
        f"supervision: {{backoff_s: [30, 1]}}\naccounts: [{FX}]", 1, "supervision.backoff_s", "a list", "smallest"),
    "an unset variable": (
        f"accounts:\n  - {FX.replace('101-001-1-001', QUOTED_UNSET)}",
        2, "accounts[0].account_id", "not set", "environment variable NOT_SET"),
    "an unset credential": (
        f"accounts:\n  - {FX.replace('TOKEN', 'NOT_SET')}",
        2, "accounts[0].token", "not set", "environment variable NOT_SET"),
    "an unset variable amid text": (
        f"accounts:\n  - {FX.replace('${TOKEN}', 'a-${NOT_SET}')}",
        2, "accounts[0].token", "not set", "environment variable NOT_SET"),
    "a variable without a name": (
        f"accounts:\n  - {FX.replace('${TOKEN}', '${}')}", 2, "accounts[0].token", "without the name", "${NAME}"),
    "a variable left open": (
        f"accounts:\n  - {FX.replace('${TOKEN}', '${TOKEN')}", 2, "accounts[0].token", "without the name", "${NAME}"),
    "no credential": (
        f"accounts:\n  - {FX.replace('${TOKEN}', '')}", 2, "accounts[0].token", "an empty text", "${NAME}"),
    "a credential that is a list": (
        f"accounts:\n  - {FX.replace(chr(39) + '${TOKEN}' + chr(39), '[a]')}",
        2, "accounts[0].token", "a list", "text"),
    "a key twice": (
        "accounts:\n  - name: fx\n    broker: paper\n    instruments: all\n    name: fy",
        5, "accounts[0].name", "a second time (first on line 2)", "each key once"),
    "a merge key": ("x: &x {a: 1}\naccounts:\n  - <<: *x", 3, "accounts[0].<<", "a merge key", "defaults"),
    "a tag": ("accounts: !!python/object:os.system x", 1, "accounts", "a tag", "without one"),
    "an alias to itself": ("accounts: &a [*a]", 1, "accounts[0]", "an alias", "written out"),
    "a tab": ("accounts:\n\t- name: fx", 2, "", "a tab", "spaces"),
    "a bracket left open": ("accounts: [\nray: {", 2, "", "a syntax error", "YAML"),
    "lists in lists": ("accounts:\n" + "[" * 60, 2, "", "a syntax error: more than 50 levels", "YAML"),
    "two documents": ("accounts: []\n---\na: 1", 2, "", "a syntax error", "YAML"),
    "a control character": ("accounts:\n  - \x01", 2, "", "the character", "printable"),
    "an empty file": ("", 1, "", "an empty file", "accounts"),
    "a file of comments": ("# nothing\n", 1, "", "an empty file", "accounts"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "found", "wanted"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_configuration_is_named_by_line_key_found_and_expected(
    tmp_path: Path, text: str, line: int, key: str, found: str, wanted: str
) -> None:
    error = refused(tmp_path, text)

    problem = next(p for p in error.problems if p.key == key and found in p.found)
    assert line == problem.line
    assert wanted in problem.expected
    place = f"{tmp_path / 'accounts.yaml'}:{line}: {key + ': ' if key else ''}found {problem.found}, expected "
    assert place in str(error)
    assert SECRET not in str(error)


def test_all_problems_are_named_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = f"""\
defaults: {{confirmations: 0}}
accounts:
  - {FX.replace("TOKEN", "NOT_SET")}
  - {{name: fx, broker: mt5, instruments: [A, A], interval_s: -1}}
"""
    problems = refused(tmp_path, text).problems

    assert [problem.line for problem in problems] == [1, 3, 4, 4, 4]
    assert {
        "defaults.confirmations",
        "accounts[0].token",
        "accounts[1].name",
        "accounts[1].instruments[1]",
        "accounts[1].interval_s",
    } == {problem.key for problem in problems}


def test_one_mistake_is_named_once(tmp_path: Path) -> None:
    text = "accounts:\n  - {name: tws, broker: ib, port: '${NOT_SET}', client_id: 1, account_id: DU1, instruments: all}"

    assert [problem.key for problem in refused(tmp_path, text).problems] == ["accounts[0].port"]


@pytest.mark.parametrize("kind", ["missing", "directory", "not text"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "there.yaml"
    if kind == "directory":
        file.mkdir()
    if kind == "not text":
        file.write_bytes(b"accounts:\n  - \xff\xfe\n")

    with pytest.raises(ConfigurationError) as raised:
        load(file, {})

    found = {"missing": "no such file", "directory": "a directory", "not text": "bytes that are not UTF-8"}[kind]
    assert found in str(raised.value)
    assert str(raised.value).startswith(str(file))
    assert (2 if kind == "not text" else 0) == raised.value.problems[0].line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, "accounts: []")
    file.chmod(0)

    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(file, {})


def test_the_error_survives_a_pickle(tmp_path: Path) -> None:
    error = refused(tmp_path, "accounts: []")

    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert error.problems == again.problems
    assert str(error) == str(again)


# What is accepted, and as what


def test_numbers_come_from_their_text_and_never_from_a_float(tmp_path: Path) -> None:
    text = with_account("price_tolerance: 0.00001, quantity_tolerance: 1e-5, max_correction: 0.1")
    policy = loaded(tmp_path, text).instrument_settings("fx", "GBP_JPY").policy

    assert Decimal("0.00001") == policy.price_tolerance == policy.quantity_tolerance
    assert Decimal("0.1") == policy.max_correction


SYMBOLS = {
    "an IB conId": ("265598", "265598"),
    "zeros in front": ("000660", "000660"),
    "a country": ("NO", "NO"),
    "a switch": ("on", "on"),
    "a fraction": ("1.10", "1.10"),
    "an exchange": ("'NSE:INFY'", "NSE:INFY"),
    "a slash": ("EUR/USD", "EUR/USD"),
    "an option": ("'SPY   251219C00600000'", "SPY   251219C00600000"),
    "letters of anywhere": ("日経", "日経"),
    "Allstate": ("ALL", "ALL"),
}


@pytest.mark.parametrize(("yaml", "symbol"), SYMBOLS.values(), ids=SYMBOLS.keys())
def test_a_symbol_is_the_text_that_stands_there(tmp_path: Path, yaml: str, symbol: str) -> None:
    assert (symbol,) == loaded(tmp_path, mt5().replace("EURUSD", yaml)).account("cfd").symbols


def test_a_variable_may_hold_a_number_or_a_truth_value(tmp_path: Path) -> None:
    keys = "port: '${P}', client_id: '${C}', enabled: '${E}'"
    text = f"accounts: [{{name: tws, broker: ib, account_id: DU1, instruments: all, {keys}}}]"
    account = loaded(tmp_path, text, {"P": "4002", "C": "0", "E": "false"}).account("tws")

    assert {key: account.settings()[key] for key in ("port", "client_id")} == {"port": 4002, "client_id": 0}
    assert not account.enabled


def test_what_a_variable_holds_is_not_quoted_in_an_error(tmp_path: Path) -> None:
    error = refused(tmp_path, with_account("interval_s: '${TOKEN}'"))

    assert "what ${TOKEN} holds" in str(error)
    assert SECRET not in str(error)


def test_an_account_that_is_off_is_checked_and_its_credentials_need_not_be_set(tmp_path: Path) -> None:
    """FEATURES 22"""
    configuration = loaded(tmp_path, f"accounts: [{FX[:-1]}, enabled: false}}, {mt5()[14:-1]}]", {})

    assert [account.name for account in configuration.accounts] == ["fx", "cfd"]
    assert [account.name for account in configuration.enabled_accounts] == ["cfd"]


@pytest.mark.parametrize("broker", ["oanda", "kite", "ib", "mt5", "paper"])
def test_a_simulated_account_needs_no_credentials_and_keeps_no_real_endpoint(tmp_path: Path, broker: str) -> None:
    text = f"accounts: [{{name: sim, broker: {broker}, simulator: true, instruments: all}}]"
    spec = loaded(tmp_path, text, {"GTW_HOST": "live.example.com"}).broker_spec("sim")

    assert spec.simulated
    assert not any("url" in key or "endpoint" in key or key == "host" for key, value in spec.settings.items() if value)
    assert all(secret.source is SecretSource.DEMONSTRATION for secret in spec.secrets.values())


def test_a_simulated_account_never_resolves_the_real_credential(tmp_path: Path) -> None:
    spec = loaded(tmp_path, with_account("simulator: true")).broker_spec("fx")

    assert spec.secrets["token"].resolve(ENVIRON) != SECRET


PRECEDENCE = {
    # defaults, account, instrument -> interval, price tolerance, max correction
    "broker": ("{}", "", "", 15.0, "0.00001", None),
    "defaults": ("{interval_s: 7, price_tolerance: 0.1, max_correction: 3}", "", "", 7.0, "0.1", "3"),
    "account": ("{interval_s: 7}", ", interval_s: 8, max_correction: 4", "", 8.0, "0.00001", "4"),
    "instrument": ("{interval_s: 7}", ", interval_s: 8", ", interval_s: 0.5, price_tolerance: 0", 0.5, "0", None),
    "null lifts a limit": (
        "{max_correction: 3}",
        "",
        ", max_correction: null, interval_s: null",
        15.0,
        "0.00001",
        None,
    ),
}


@pytest.mark.parametrize(
    ("defaults", "account", "instrument", "interval_s", "tolerance", "most"), PRECEDENCE.values(), ids=PRECEDENCE.keys()
)
def test_the_nearest_to_the_instrument_decides(
    tmp_path: Path, defaults: str, account: str, instrument: str, interval_s: float, tolerance: str, most: str | None
) -> None:
    text = f"defaults: {defaults}\n" + mt5(account).replace("EURUSD", f"{{symbol: EURUSD{instrument}}}")
    settings = loaded(tmp_path, text).instrument_settings("cfd", "EURUSD")

    assert (interval_s, Decimal(tolerance)) == (settings.interval_s, settings.policy.price_tolerance)
    assert (None if most is None else Decimal(most)) == settings.policy.max_correction


BROKER_DEFAULTS = {
    # account, environment -> interval, time-out, price tolerance, mode
    "oanda": (FX, {}, 300, 10, "0.00001", "live"),
    "kite": ("{name: fx, broker: kite, api_key: k, access_token: t, instruments: all}", {}, 2, 10, "0.00001", "live"),
    "kite on paper": (
        "{name: fx, broker: kite, mode: paper, api_key: k, access_token: t, instruments: all}",
        {},
        5,
        10,
        "0.00001",
        "paper",
    ),
    "ib": (
        "{name: fx, broker: ib, port: 1, client_id: 1, account_id: D, instruments: all}",
        {},
        300,
        10,
        "0.002",
        "live",
    ),
    "mt5": ("{name: fx, broker: mt5, instruments: all}", {}, 15, 5, "0.00001", "live"),
    "mt5 and its environment": (
        "{name: fx, broker: mt5, instruments: all}",
        {"SYNC_INTERVAL_SEC": "0", "GTW_TIMEOUT_MS": "250"},
        0,
        0.25,
        "0.00001",
        "live",
    ),
    "mt5 configured": (
        "{name: fx, broker: mt5, instruments: all, interval_s: 9, timeout_ms: 900}",
        {"SYNC_INTERVAL_SEC": "4", "GTW_TIMEOUT_MS": "250"},
        9,
        0.9,
        "0.00001",
        "live",
    ),
    "paper": ("{name: fx, broker: paper, instruments: all}", {}, 5, 10, "0.00001", "paper"),
}


@pytest.mark.parametrize(
    ("account", "environ", "interval_s", "timeout_s", "tolerance", "mode"),
    BROKER_DEFAULTS.values(),
    ids=BROKER_DEFAULTS.keys(),
)
def test_defaults_are_those_of_the_broker(
    tmp_path: Path,
    account: str,
    environ: dict[str, str],
    interval_s: float,
    timeout_s: float,
    tolerance: str,
    mode: str,
) -> None:
    """FEATURES 3, FEATURES 15, FEATURES 19: an interval each; from the environment for MT5; 2 and 5 s for Kite."""
    configuration = loaded(tmp_path, f"accounts: [{account}]", {**ENVIRON, **environ})
    settings = configuration.instrument_settings("fx", "ANY")

    assert (interval_s, timeout_s) == (settings.interval_s, configuration.timeout_s("fx"))
    policy = settings.policy
    assert (Decimal(tolerance), mode == "live") == (policy.price_tolerance, policy.positions)
    assert max(3 * interval_s, 1) == policy.max_age.total_seconds()
    assert max(3 * interval_s, 60) == policy.unverified.total_seconds()
    confirm_gap_s, settle_s = policy.confirm_gap.total_seconds(), policy.settle.total_seconds()
    assert (policy.correct, policy.confirmations, confirm_gap_s, settle_s) == ("auto", 2, 0.5, 5.0)


@pytest.mark.parametrize(
    ("extra", "environ", "endpoint"),
    [
        ("", {}, "tcp://127.0.0.1:5555"),
        ("", {"GTW_HOST": "10.0.0.7", "GTW_PORT": "6000"}, "tcp://10.0.0.7:6000"),
        (", endpoint: 'tcp://h:1'", {"GTW_HOST": "10.0.0.7"}, "tcp://h:1"),
    ],
    ids=["neither", "environment", "configured"],
)
def test_the_gateway_is_found_by_the_names_its_users_know(
    tmp_path: Path, extra: str, environ: dict[str, str], endpoint: str
) -> None:
    """FEATURES 16"""
    assert endpoint == loaded(tmp_path, mt5(extra), environ).broker_spec("cfd").settings["endpoint"]


def test_a_known_name_with_a_wrong_value_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    error = refused(tmp_path, mt5(), {"SYNC_INTERVAL_SEC": "often", "GTW_PORT": "x"})

    assert {"what SYNC_INTERVAL_SEC holds", "what GTW_HOST and GTW_PORT holds"} == {p.found for p in error.problems}
    assert {2} == {problem.line for problem in error.problems}


def test_a_relative_journal_is_made_absolute_from_the_configuration_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    configuration = loaded(tmp_path, f"accounts: [{FX}]")

    assert f"sqlite:///{tmp_path}/var/journal.db" == configuration.journal_url == configuration.journal_name
    assert tmp_path / "var" == configuration.state_dir
    assert str(tmp_path / "var") == configuration.broker_spec("fx").state_dir


def test_an_account_nobody_knows_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"'gx'.*fx"):
        loaded(tmp_path, f"accounts: [{FX}]").account("gx")


def test_the_brokers_that_can_run_are_named() -> None:
    assert {*KINDS, PAPER} == set(CONVENTIONS) == SUPPORTED_BROKERS


# Whatever stands in a file


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_and_never_crashes(text: str) -> None:
    document = read(text)

    assert all(finding.line >= 0 and finding.expected for finding in document.findings)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12))
def test_every_decimal_is_read_as_it_was_written(value: Decimal) -> None:
    data = read(f"a: {value}").data

    assert isinstance(data, dict)
    assert isinstance(data["a"], Number)
    assert str(value) == data["a"].text


def test_a_quantity_may_stand_in_quotes_as_decimals_do_in_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t")
    path = tmp_path / "accounts.yaml"
    path.write_text(with_account("quantity_tolerance: '0.001', max_correction: \"5\""))
    given = load(path).instrument_settings("fx", "GBP_JPY").policy
    assert (given.quantity_tolerance, given.max_correction) == (Decimal("0.001"), Decimal(5))


def ib(name: str, port: int, client_id: int, account_id: str) -> str:
    keys = f"port: {port}, client_id: {client_id}, account_id: {account_id}"
    return f"{{name: {name}, broker: ib, {keys}, instruments: [SPY]}}"


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (FX, FX.replace("name: fx", "name: gx"), "the login 101-001-1-001 a second time (first in account fx)"),
        (ib("a", 4002, 1, "DU1"), ib("b", 4002, 1, "DU2"), "client_id 1 at 127.0.0.1:4002 a second time"),
        (ib("a", 4002, 1, "DU1"), ib("b", 4002, 2, "DU1"), "the login DU1 at 127.0.0.1:4002 a second time"),
        (
            "{name: a, broker: mt5, instruments: [EURUSD]}",
            "{name: b, broker: mt5, instruments: [EURUSD]}",
            "the gateway tcp://127.0.0.1:5555 a second time",
        ),
    ],
    ids=["OANDA account", "IB client id", "IB account", "MT5 gateway"],
)
def test_two_accounts_that_reach_one_login_are_one_mistake(tmp_path: Path, first: str, second: str, found: str) -> None:
    error = refused(tmp_path, f"accounts:\n  - {first}\n  - {second}\n")

    [problem] = error.problems
    assert problem.found.startswith(found)
    assert problem.line == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ib("a", 4002, 1, "DU1"), ib("b", 4002, 2, "DU2")),
        (ib("a", 4002, 1, "DU1"), ib("b", 4001, 1, "DU2")),
        (FX, FX.replace("name: fx", "name: gx, enabled: false")),
    ],
    ids=["two of one IB gateway", "two IB gateways", "one is switched off"],
)
def test_accounts_of_their_own_may_share_what_they_can_share(tmp_path: Path, first: str, second: str) -> None:
    assert len(loaded(tmp_path, f"accounts:\n  - {first}\n  - {second}\n").accounts) == 2


def test_a_variable_without_braces_is_asked_about(tmp_path: Path) -> None:
    [problem] = refused(tmp_path, f"accounts: [{FX.replace('${TOKEN}', '$TOKEN')}]").problems

    assert (problem.found, problem.expected) == ("$TOKEN, which is not a reference", "${TOKEN}")


def test_a_copy_of_an_account_with_other_instruments_has_their_settings() -> None:
    """Settings are looked up by symbol, and what is looked up in is the copy's own."""
    account = load(ROOT / "config/accounts.yaml", {}).accounts[0]
    assert account.instruments is not None
    first = account.by_symbol[account.symbols[0]]
    changed = account.model_copy(update={"instruments": (first.model_copy(update={"interval_s": 7.0}),)})
    assert changed.by_symbol[first.symbol].interval_s == 7.0
    assert account.by_symbol[first.symbol] is first


def test_what_stands_for_a_childs_settings_is_the_same_in_every_process() -> None:
    """Else a supervisor that comes back would restart everybody for nothing."""
    program = (
        "from supervisor.config.loader import load; from supervisor.supervision import specs; "
        f"c = load({str(ROOT / 'config/accounts.yaml')!r}, {{}}); "
        "stand = ('EXTERNAL_ORDER', 'OVERFILL', 'ORDER_MISSING', 'MISSED_FILL'); "
        "d = c.defaults.model_copy(update={'may_stand': stand}); "
        "print([s.fingerprint for s in specs.children(c.model_copy(update={'defaults': d}))])"
    )
    outputs = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        outputs.add(ran.stdout)
    assert len(outputs) == 1
