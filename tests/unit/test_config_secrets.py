"""Secrets of a configuration: where they are found, and that nothing shows them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from brokers.errors import Refused
from brokers.spec import BrokerSpec, SecretRef, SecretSource
from tests.unit.config_cases import ENVIRON, FX, SECRET, loaded, refused, written

# Secrets

KITE = "{name: eq, broker: kite, api_key: " + SECRET + ", access_token: 'pre-${TOKEN}', instruments: all}"


def test_no_secret_is_in_anything_that_may_be_shown_or_sent(tmp_path: Path) -> None:
    url = f"postgresql://user:{SECRET}@host/db"
    configuration = loaded(tmp_path, f"journal: {{url: '{url}'}}\naccounts: [{FX}, {KITE}]")
    specs = [configuration.broker_spec(name) for name in ("fx", "eq")]

    for shown in (repr(configuration), str(configuration), configuration.model_dump_json(), repr(specs)):
        assert SECRET not in shown
    assert SECRET not in configuration.journal_name
    assert SECRET.encode() not in pickle.dumps((configuration, specs))
    assert url == configuration.journal_url


@pytest.mark.parametrize(
    "text",
    [
        f"accounts: [{{name: fx, broker: oanda, tokn: {SECRET}}}]",
        f"accounts: [{{name: fx, broker: mt5, token: {SECRET}}}]",
        f"accounts: [{{name: fx, broker: oanda, token: [{SECRET}], account_id: 1}}]",
        f"accounts: [{{name: fx, broker: nobody, token: {SECRET}}}]",
        f"accounts:\n  - name: fx\n    token: {SECRET}\n    token: {SECRET}",
        f'accounts:\n  - name: fx\n    token: "{SECRET}\n    broker: oanda',
        f"accounts:\n  - name: fx\n    token: *{SECRET}",
        f"accounts:\n  - name: fx\n    token: !{SECRET[:6]} x\n    api_key: {SECRET}: 1",
    ],
    ids=["misspelt", "wrong broker", "wrong type", "unknown broker", "twice", "unclosed", "alias", "syntax"],
)
def test_no_error_quotes_a_secret(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, text)

    assert SECRET not in str(error)
    assert error.__cause__ is None
    assert SECRET not in repr(error)


def test_a_secret_is_resolved_where_it_is_used(tmp_path: Path) -> None:
    secrets = {
        **loaded(tmp_path, f"accounts: [{FX}, {KITE}]").broker_spec("eq").secrets,
        **loaded(tmp_path, f"accounts: [{FX}, {KITE}]").broker_spec("fx").secrets,
    }
    carried: dict[str, SecretRef] = pickle.loads(pickle.dumps(secrets))  # noqa: S301 - our own bytes

    assert carried["token"].resolve(ENVIRON) == SECRET
    assert carried["api_key"].resolve({}) == SECRET
    assert f"pre-{SECRET}" == carried["access_token"].resolve(ENVIRON)


@pytest.mark.parametrize("token", ["12345", "000123", "'1e5'"], ids=["digits", "zeros in front", "quoted"])
def test_a_secret_of_digits_keeps_them(tmp_path: Path, token: str) -> None:
    text = f"accounts: [{FX.replace(chr(39) + '${TOKEN}' + chr(39), token)}]"

    assert token.strip("'") == loaded(tmp_path, text).broker_spec("fx").secrets["token"].resolve({})


UNRESOLVED = {
    "not set": (
        SecretRef(SecretSource.ENVIRONMENT, "fx", "token", "TOKEN"),
        {},
        "environment variable TOKEN is not set",
    ),
    "empty": (SecretRef(SecretSource.ENVIRONMENT, "fx", "token", "TOKEN"), {"TOKEN": " "}, "it is empty"),
    "a line break": (
        SecretRef(SecretSource.ENVIRONMENT, "fx", "token", "T"),
        {"T": f"{SECRET}\nX"},
        "control characters",
    ),
    "no file": (SecretRef(SecretSource.FILE, "fx", "token", "/nowhere/a.yaml"), {}, "/nowhere/a.yaml: No such file"),
}


@pytest.mark.parametrize(("ref", "environ", "found"), UNRESOLVED.values(), ids=UNRESOLVED.keys())
def test_a_secret_that_cannot_be_resolved_is_refused_by_name(
    ref: SecretRef, environ: dict[str, str], found: str
) -> None:
    with pytest.raises(Refused) as raised:
        ref.resolve(environ)

    assert found in str(raised.value)
    assert str(raised.value).startswith("fx: could not read its token")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accounts: [{name: other}]",
        "accounts: 5",
        "accounts: [fx]",
        f"accounts: [{{name: fx, token: {{a: {SECRET}}}}}]",
        f'accounts: "{SECRET}',
    ],
    ids=["empty", "another account", "a number", "text", "a mapping", "broken"],
)
def test_a_file_that_changed_under_a_secret_is_refused_in_words(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)

    with pytest.raises(Refused) as raised:
        SecretRef(SecretSource.FILE, "fx", "token", str(file)).resolve({})
    assert "no longer" in str(raised.value)
    assert SECRET not in str(raised.value)


RENEWALS = {
    "a variable": (
        SecretRef(SecretSource.ENVIRONMENT, "eq", "access_token", "KITE_TOKEN"),
        ("environment variable KITE_TOKEN", "keeps the environment it was started with", "stop, set", "apply it"),
    ),
    "the file": (
        SecretRef(SecretSource.FILE, "eq", "access_token", "/etc/accounts.yaml"),
        ("access_token of eq into /etc/accounts.yaml", "again without a restart"),
    ),
    "a simulator": (SecretRef(SecretSource.DEMONSTRATION, "eq", "access_token"), ("takes no other value",)),
}


@pytest.mark.parametrize(("ref", "words"), RENEWALS.values(), ids=RENEWALS.keys())
def test_how_a_secret_is_renewed_depends_on_where_it_is_found(ref: SecretRef, words: tuple[str, ...]) -> None:
    assert [word for word in words if word not in ref.renewal] == []


def test_a_secret_in_the_file_is_read_again_and_one_behind_a_variable_is_the_environments(tmp_path: Path) -> None:
    file = written(tmp_path, "accounts: [{name: eq, access_token: of-monday}]")
    ref = SecretRef(SecretSource.FILE, "eq", "access_token", str(file))
    assert ref.resolve({}) == "of-monday"

    written(tmp_path, "accounts: [{name: eq, access_token: of-tuesday}]")

    assert ref.resolve({}) == "of-tuesday"


def test_the_surrounding_blanks_of_a_secret_are_nobodys_intention() -> None:
    assert SecretRef(SecretSource.ENVIRONMENT, "fx", "token", "T").resolve({"T": f" {SECRET}\n"}) == SECRET


def test_a_spec_survives_a_pickle(tmp_path: Path) -> None:
    spec = loaded(tmp_path, f"accounts: [{FX}]").broker_spec("fx")
    again: BrokerSpec = pickle.loads(pickle.dumps(spec))  # noqa: S301 - our own bytes

    assert spec == again
