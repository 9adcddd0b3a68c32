"""What differs between two configurations, what a change makes of one, and what is kept of it beside the journal."""

from __future__ import annotations

import gc
import pickle
import weakref
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.spec import SecretRef
from supervisor.changes import applied_configuration, parsing
from supervisor.changes.diff import applied, difference, effects, of_other_accounts
from supervisor.changes.requests import (
    AddAccount,
    AddInstrument,
    Apply,
    Change,
    ChangeRefused,
    RemoveAccount,
    RemoveInstrument,
    SetInterval,
    changed,
)
from supervisor.config.loader import load
from supervisor.config.models import Configuration, ConfigurationError
from supervisor.supervision import specs

FX = "{name: fx, broker: oanda, simulator: true, instruments: [EUR_USD, {symbol: GBP_JPY, interval_s: 7}]}"
CFD = "{name: cfd, broker: mt5, simulator: true, instruments: all}"
HEAD = "journal: {url: 'sqlite:////nowhere/journal.db'}\n"
SECRET = "squeamish-ossifrage"


def written(directory: Path, accounts: str, head: str = HEAD, name: str = "accounts.yaml") -> Path:
    path = directory / name
    path.write_text(f"{head}accounts: [{accounts}]\n")
    return path


def made(directory: Path, accounts: str, head: str = HEAD, name: str = "accounts.yaml") -> Configuration:
    return load(written(directory, accounts, head, name), {"TOKEN": SECRET, "OTHER": SECRET})


def real(token: str, name: str = "fx", more: str = "") -> str:
    login = "a-1" if name == "fx" else f"a-{name}"
    return f"{{name: {name}, broker: oanda, account_id: {login}, token: '{token}', instruments: [EUR_USD]{more}}}"


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        pytest.param(f"{FX}, {CFD}", f"{CFD}, {FX}", [], id="the order of accounts is no difference"),
        pytest.param(
            FX, FX.replace("EUR_USD, ", "EUR_USD, USD_CHF, "), ["instrument fx/USD_CHF added"], id="an instrument more"
        ),
        pytest.param(FX, FX.replace("EUR_USD, ", ""), ["instrument fx/EUR_USD removed"], id="an instrument less"),
        pytest.param(
            FX,
            FX.replace("interval_s: 7", "interval_s: 9, correct: alert"),
            ["instrument fx/GBP_JPY changed: interval_s 7 → 9, correct alert"],
            id="an instrument with other settings",
        ),
        pytest.param(
            FX,
            FX.replace("[EUR_USD, {symbol: GBP_JPY, interval_s: 7}]", "[EUR_USD, GBP_JPY]"),
            ["instrument fx/GBP_JPY changed: interval_s 7 → default (300)"],
            id="a setting less",
        ),
        pytest.param(
            FX,
            f"{FX}, {CFD}",
            ["account cfd added: broker mt5, simulator true, instruments all"],
            id="an account more",
        ),
        pytest.param(
            f"{FX}, {CFD}",
            CFD,
            ["account fx removed", "instrument fx/EUR_USD removed", "instrument fx/GBP_JPY removed"],
            id="an account less",
        ),
        pytest.param(
            CFD,
            CFD.replace("all", "[EURUSD]"),
            ["account cfd changed: instruments all → a list", "instrument cfd/EURUSD added"],
            id="from all to a list",
        ),
        pytest.param(
            CFD,
            CFD.replace("all", "all, price_tolerance: 0.00000010, max_correction: null, enabled: false"),
            ["account cfd changed: price_tolerance 0.0000001, max_correction null, enabled false"],
            id="exact digits, a null that counts, and a switch",
        ),
        pytest.param(
            CFD,
            CFD.replace("mt5", "paper").replace("simulator: true, ", ""),
            ["account cfd changed: broker mt5 → paper, simulator true → default, login 5001 → default"],
            id="another broker under the name",
        ),
    ],
)
def test_a_difference_names_what_differs_and_applied_it_gives_the_other(
    tmp_path: Path, before: str, after: str, rows: list[str]
) -> None:
    old, new = made(tmp_path, before), made(tmp_path, after)
    found = difference(old, new)

    assert list(map(str, found.rows)) == rows
    assert bool(found) == bool(rows)
    assert applied(found, old) == new
    assert not difference(applied(found, old), new)


def test_sections_that_may_change_are_compared_key_by_key(tmp_path: Path) -> None:
    old = made(tmp_path, FX, HEAD + "defaults: {interval_s: 5}\n")
    new = made(tmp_path, FX, HEAD + "defaults: {interval_s: 6}\nsupervision: {intensity: 2, backoff_s: [1, 2]}\n")
    found = difference(old, new)

    assert list(map(str, found.rows)) == [
        "section defaults changed: interval_s 5 → 6",
        "section supervision changed: intensity 2, backoff_s [1, 2]",
    ]
    assert applied(found, old) == new


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("${TOKEN}", "${TOKEN}", []),
        ("${TOKEN}", "${OTHER}", ["account fx changed: token changed"]),
        ("${TOKEN}", SECRET, ["account fx changed: token changed"]),
        (SECRET, SECRET, []),
        (SECRET, "another-one", ["account fx changed: token changed"]),
    ],
    ids=["one variable", "another variable", "into the file", "the same in another file", "another literal one"],
)
def test_of_a_secret_it_is_said_that_it_changed_and_nothing_else(
    tmp_path: Path, before: str, after: str, expected: list[str]
) -> None:
    old, new = made(tmp_path, real(before), name="a.yaml"), made(tmp_path, real(after), name="b.yaml")
    marks = [applied_configuration.marks_of(one, "salt")[0] for one in (old, new)]
    found = difference(old, new, *marks)

    assert list(map(str, found.rows)) == expected
    shown = repr([row.to_json() for row in found.rows]) + repr(marks)
    assert not any(secret in shown for secret in (SECRET, "another-one"))
    wanted = [specs.children(one, (), of) for one, of in zip((old, new), marks, strict=True)]
    assert (wanted[0] != wanted[1]) == bool(expected), "its account is restarted, or not touched"


def test_a_literal_secret_edited_in_the_very_file_that_runs_is_a_change(tmp_path: Path) -> None:
    running = made(tmp_path, real(SECRET))
    run = applied_configuration.new_run(running)
    again = made(tmp_path, real("another-one"))
    marks, problems = applied_configuration.marks_of(again, run.identity)

    assert [str(row) for row in difference(running, again, run.marks, marks).rows] == [
        "account fx changed: token changed"
    ]
    assert not problems
    assert SECRET not in repr(run)
    assert SECRET.encode() not in pickle.dumps(run)


ADD = parsing.account_from({"name": "p", "broker": "paper", "instruments": ["EURUSD"]})


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (ADD, ["account p added: broker paper", "instrument p/EURUSD added"]),
        (RemoveAccount("cfd"), ["account cfd removed"]),
        (
            parsing.instrument_from("fx", "USD_CHF", {"interval_s": 3, "max_correction": 10}),
            ["instrument fx/USD_CHF added: max_correction 10, interval_s 3"],
        ),
        (parsing.instrument_from("fx", "EUR_USD", {}), []),
        (RemoveInstrument("fx", "EUR_USD"), ["instrument fx/EUR_USD removed"]),
        (SetInterval("fx", "EUR_USD", 2.0), ["instrument fx/EUR_USD changed: interval_s 2"]),
        (SetInterval("fx", "GBP_JPY", 7.0), []),
        (SetInterval("cfd", None, 2.0), ["account cfd changed: interval_s 2"]),
    ],
    ids=str,
)
def test_a_change_makes_one_difference_or_none_where_it_is_so_already(
    tmp_path: Path, change: Change, rows: list[str]
) -> None:
    old = made(tmp_path, f"{FX}, {CFD}")
    assert list(map(str, difference(old, changed(old, change)).rows)) == rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (RemoveAccount("crypto"), "there is no account 'crypto' in the configuration, which has fx, cfd"),
        (RemoveInstrument("fx", "USD_CHF"), "no instrument 'USD_CHF'. It has EUR_USD, GBP_JPY"),
        (SetInterval("fx", "USD_CHF", 1.0), "no instrument 'USD_CHF'"),
        (SetInterval("cfd", "EURUSD", 1.0), "takes all its instruments"),
        (parsing.instrument_from("cfd", "EURUSD", {}), "takes all its instruments"),
        (parsing.instrument_from("fx", "EUR_USD", {"interval_s": 1}), "has it already with other settings"),
        (
            parsing.account_from({"name": "fx", "broker": "paper", "instruments": "all"}),
            "account fx exists already",
        ),
    ],
    ids=str,
)
def test_a_change_that_cannot_be_made_is_refused_with_what_was_found(
    tmp_path: Path, change: Change, words: str
) -> None:
    old = made(tmp_path, f"{FX}, {CFD}")
    with pytest.raises(ChangeRefused, match="nothing was changed") as refused:
        changed(old, change)
    assert words in str(refused.value)
    assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("change", "remedy"),
    [(RemoveAccount("fx"), "Stop the supervisor instead"), (RemoveInstrument("fx", "A"), "Remove the account instead")],
    ids=["the only account", "its only instrument"],
)
def test_the_last_of_its_kind_is_not_removed(tmp_path: Path, change: Change, remedy: str) -> None:
    old = made(tmp_path, "{name: fx, broker: paper, instruments: [A]}")
    with pytest.raises(ChangeRefused, match=remedy):
        changed(old, change)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("journal: {url: 'sqlite:////elsewhere/journal.db'}\n", "journal.url url sqlite:////nowhere/journal.db →"),
        (HEAD + "ray: {namespace: other}\n", "namespace reconciliation → other"),
        (HEAD + "ray: {address: auto}\n", "address local → auto"),
        (HEAD + "console: {port: 8321}\n", "python -m supervisor console --port PORT"),
    ],
    ids=["journal", "namespace", "address", "page"],
)
def test_what_holds_for_a_whole_run_is_refused_with_what_to_do(tmp_path: Path, head: str, words: str) -> None:
    old, new = made(tmp_path, FX), made(tmp_path, FX, head)
    with pytest.raises(ChangeRefused, match="stop the supervisor and start this configuration") as refused:
        changed(old, Apply(new, "b.yaml"))
    assert words.split(" ", 1)[-1] in str(refused.value)


def _names(configuration: Configuration, change: Change) -> tuple[tuple[str, ...], ...]:
    new = changed(configuration, change)
    found = effects(specs.children(configuration), specs.children(new))
    return found.started, found.restarted, found.stopped, found.notified


@pytest.mark.parametrize(
    ("change", "concerned"),
    [
        (ADD, (("p", "p/EURUSD"), (), (), ())),
        (parsing.instrument_from("fx", "USD_CHF", {}), (("fx/USD_CHF",), (), (), ("fx",))),
        (RemoveInstrument("fx", "EUR_USD"), ((), (), ("fx/EUR_USD",), ("fx",))),
        (SetInterval("fx", "EUR_USD", 2.0), ((), ("fx/EUR_USD",), (), ())),
        (SetInterval("fx", None, 2.0), ((), ("fx/EUR_USD",), (), ())),
        (SetInterval("cfd", None, 2.0), ((), ("cfd",), (), ())),
        (parsing.instrument_from("ib", "MSFT", {}), (("ib/MSFT",), ("ib",), (), ())),
    ],
    ids=str,
)
def test_a_change_touches_the_actors_it_concerns_and_no_other(
    tmp_path: Path, change: Change, concerned: tuple[tuple[str, ...], ...]
) -> None:
    """An account hears of another instrument and keeps its connection, but where its adapter is opened with them."""
    old = made(tmp_path, f"{FX}, {CFD}, {{name: ib, broker: ib, simulator: true, instruments: [AAPL]}}")
    assert _names(old, change) == concerned


def test_a_name_that_becomes_another_account_is_known_as_such(tmp_path: Path) -> None:
    old = made(tmp_path, f"{real('${TOKEN}')}, {real('${TOKEN}', 'b')}")
    new = made(tmp_path, f"{real('${TOKEN}').replace('a-1', 'a-2')}, {real('${OTHER}', 'b')}")
    assert of_other_accounts(old, new) == ("fx",)


@pytest.mark.parametrize(
    ("work", "problem"),
    [
        (lambda: parsing.account_from({"name": "x", "broker": "lynx"}), "add_account: broker: found 'lynx'"),
        (
            lambda: parsing.account_from({"name": "x", "broker": "paper", "instruments": "all", "tokn": "s3"}),
            "add_account: tokn: found an unknown key",
        ),
        (
            lambda: parsing.account_from(
                {"name": "x", "broker": "oanda", "account_id": "1", "instruments": ["E"], "token": SECRET}
            ),
            "add_account: token: found a value that is not shown, expected ${NAME}",
        ),
        (
            lambda: parsing.instrument_from("fx", "E", {"price_tolerance": 0.1}),
            "add_instrument: price_tolerance: found 0.1, expected a fraction",
        ),
        (lambda: parsing.instrument_from("fx", "", {}), "add_instrument: symbol: found an empty text"),
        (lambda: parsing.interval_from("fx", None, -1), "set_interval: interval_s: found -1"),
        (lambda: parsing.interval_from("fx", None, None), "set_interval: interval_s: found nothing"),  # type: ignore[arg-type]  # what people do
    ],
    ids=["broker", "unknown key", "literal secret", "a float where digits count", "symbol", "interval", "no interval"],
)
def test_what_people_write_is_checked_as_the_file_is(work: object, problem: str) -> None:
    assert callable(work)
    with pytest.raises(ConfigurationError) as wrong:
        work()
    assert problem in str(wrong.value)
    assert SECRET not in str(wrong.value)


def test_a_named_secret_is_a_reference_that_need_not_be_set_where_it_is_asked_for() -> None:
    document = {"name": "x", "broker": "oanda", "account_id": "1", "instruments": ["E"], "token": "${NOT_SET_HERE}"}
    [token] = parsing.account_from(document).account.secrets().values()
    assert str(token) == "x.token from environment variable NOT_SET_HERE"


# For any two configurations

_SYMBOLS = st.sampled_from(["A", "B", "C"])
_NUMBERS = st.sampled_from(["0", "0.00000010", "3", "1.50"])
_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "interval_s": _NUMBERS,
        "max_correction": _NUMBERS | st.just("null"),
        "correct": st.sampled_from(["auto", "alert"]),
        "cancel_stale_orders": st.sampled_from(["true", "false"]),
        "stale_order_s": st.just("null") | st.just("60"),
    },
)


def _flow(said: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in said.items()) + "}"


@st.composite
def _accounts(draw: st.DrawFn) -> str:
    accounts = []
    for name in draw(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, unique=True)):
        listed = [
            _flow({"symbol": symbol, **draw(_SETTINGS)}) for symbol in draw(st.lists(_SYMBOLS, max_size=3, unique=True))
        ]
        said = {"name": name, "broker": draw(st.sampled_from(["oanda", "mt5", "paper"])), **draw(_SETTINGS)}
        said["instruments"] = f"[{', '.join(listed)}]" if listed else "all"
        if said["broker"] != "paper":
            said["simulator"] = "true"
        elif draw(st.booleans()):
            said["instruments"] = "all"
            said["prices"] = f"{{A: {{start: {draw(st.sampled_from(['1.10', '2']))}, spread: 0.1}}}}"
        accounts.append(_flow(said))
    return ", ".join(accounts)


@settings(max_examples=60, deadline=None)
@given(_accounts(), _SETTINGS, _accounts(), _SETTINGS)
def test_the_difference_of_two_configurations_applied_to_the_one_gives_the_other(
    tmp_path_factory: pytest.TempPathFactory, one: str, defaults: dict[str, str], other: str, others: dict[str, str]
) -> None:
    directory = tmp_path_factory.mktemp("changes")
    old = made(directory, one, f"journal: {{url: 'sqlite:///{directory}/j.db'}}\ndefaults: {_flow(defaults)}\n")
    new = made(directory, other, f"journal: {{url: 'sqlite:///{directory}/j.db'}}\ndefaults: {_flow(others)}\n")
    found = difference(old, new)
    result = applied(found, old)

    assert result.accounts == new.accounts
    assert specs.children(result) == specs.children(new)
    assert not difference(result, new)
    assert bool(found) or set(specs.children(old)) == set(specs.children(new)), (
        "an order of instruments is no difference"
    )
    kept = applied_configuration.write(new, {"one.token": "m"}, "run")
    again = applied_configuration.read(old, kept.sha256)
    assert again.configuration == new
    assert specs.children(again.configuration) == specs.children(new)
    assert again.marks == {"one.token": "m"}


# Beside the journal


def test_the_standing_file_is_for_its_owner_alone_and_holds_no_secret(tmp_path: Path) -> None:
    head = f"journal: {{url: 'sqlite:///{tmp_path}/var/journal.db'}}\n"
    configuration = made(tmp_path, f"{real(SECRET)}, {real('${TOKEN}', 'b')}", head)
    kept = applied_configuration.write(configuration, applied_configuration.new_run(configuration).marks, "run")
    [path] = applied_configuration.files(configuration)

    assert path.stat().st_mode & 0o777 == 0o600
    assert SECRET not in path.read_text()
    assert applied_configuration.read(configuration, kept.sha256).configuration == configuration
    assert applied_configuration.any_of(configuration, "run")
    assert not applied_configuration.any_of(configuration, "another")
    applied_configuration.keep_only(configuration, None)
    assert applied_configuration.files(configuration) == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"{}", "not the one that the journal names")],
    ids=["gone", "another"],
)
def test_a_standing_file_that_is_not_what_the_journal_names_is_not_used(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    configuration = made(tmp_path, FX, f"journal: {{url: 'sqlite:///{tmp_path}/journal.db'}}\n")
    sha256 = applied_configuration.write(configuration, {}, "run").sha256
    path = applied_configuration.path_of(configuration, sha256)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(applied_configuration.Unusable, match=words):
        applied_configuration.read(configuration, sha256)


def test_requests_pickle_and_say_what_they_are(tmp_path: Path) -> None:
    configuration = made(tmp_path, real("${TOKEN}"))
    for change, words in (
        (AddAccount(configuration.accounts[0]), "add account fx"),
        (parsing.instrument_from("fx", "A", {}), "add instrument fx/A"),
        (SetInterval("fx", None, 2.5), "set the interval of fx to 2.5 s"),
        (Apply(configuration, "b.yaml"), "apply b.yaml"),
    ):
        again = pickle.loads(pickle.dumps(change))  # noqa: S301 - our own
        assert (again, str(again)) == (change, words)
    assert isinstance(configuration.accounts[0].secrets()["token"], SecretRef)
    assert isinstance(parsing.instrument_from("fx", "A", {}), AddInstrument)


def test_of_configurations_that_stood_before_nothing_is_kept(tmp_path: Path) -> None:
    """However often a file is applied: what is looked up by symbol is kept for the newest alone."""
    path = written(tmp_path, FX)
    stood = []
    for _ in range(10):
        configuration = load(path)
        [account] = configuration.accounts
        assert set(account.by_symbol) == {"EUR_USD", "GBP_JPY"}
        stood.append(weakref.ref(account.by_symbol["EUR_USD"]))
    del configuration, account
    gc.collect()
    assert sum(one() is not None for one in stood) <= 2
