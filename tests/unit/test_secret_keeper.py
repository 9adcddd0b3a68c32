"""Secrets of the environment that only who asks for them has."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from brokers.errors import Refused
from brokers.secret_keeper import KEEPER, asked, kept
from brokers.spec import SecretRef, SecretSource
from supervisor.cli.session_child import withheld_variables
from supervisor.config.loader import load

SECRET = "s3cr3t-ü-0123456789"
REF = SecretRef(SecretSource.ENVIRONMENT, "fx", "token", "FX_TOKEN")


def test_a_child_has_it_not_and_is_given_it_when_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FX_TOKEN", SECRET)
    code = (
        "import os; from brokers.secret_keeper import asked\n"
        "print('FX_TOKEN' in os.environ, asked('FX_TOKEN', os.environ))"
    )
    with kept(["FX_TOKEN", "NOT_SET"], os.environ):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"False {SECRET}"
        assert REF.resolve() == SECRET
        assert asked("NOT_SET", os.environ) is None
        assert asked("", os.environ) is None
        path = Path(os.environ[KEEPER])
        assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]
    assert os.environ["FX_TOKEN"] == SECRET
    assert KEEPER not in os.environ
    assert not path.parent.exists()


def test_without_a_keeper_or_after_its_end_it_is_not_set() -> None:
    for environ in ({}, {KEEPER: "/nowhere/secrets"}):
        with pytest.raises(Refused, match="environment variable FX_TOKEN is not set"):
            REF.resolve(environ)


def test_where_nothing_is_to_be_kept_there_is_no_keeper() -> None:
    environ = {"PATH": "/bin"}
    with kept(["FX_TOKEN"], environ):
        assert environ == {"PATH": "/bin"}


def test_what_the_journal_needs_stays_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "accounts.yaml"
    file.write_text(
        "journal: {heads: ['https://me:${HEADS}@example.org/x']}\n"
        "alerts: {routes: [{name: desk, url: '${DESK}'}]}\n"
        "sinks: [{delta: 's3://b/p', storage_options: {AWS_SECRET_ACCESS_KEY: '${STORE}'}}]\n"
        "accounts:\n"
        "  - {name: fx, broker: oanda, account_id: 1-1, token: '${FX}', instruments: [EUR_USD]}\n"
        "  - {name: eq, broker: kite, api_key: '${HEADS}', access_token: '${KITE}', instruments: all}\n"
    )
    found = load(file, dict.fromkeys(("HEADS", "DESK", "STORE", "FX", "KITE"), "a-value"))
    assert withheld_variables(found) == {"DESK", "STORE", "FX", "KITE"}
