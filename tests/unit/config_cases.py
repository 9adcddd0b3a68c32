"""What the tests of the configuration share: files as text, read or refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from supervisor.config.loader import load
from supervisor.config.models import Configuration, ConfigurationError

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-0123456789"
FX = "{name: fx, broker: oanda, account_id: 101-001-1-001, token: '${TOKEN}', instruments: [GBP_JPY]}"
ENVIRON = {"TOKEN": SECRET}
QUOTED_UNSET = "'${NOT_SET}'"


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "accounts.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def loaded(tmp_path: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> Configuration:
    return load(written(tmp_path, text), environ)


def refused(tmp_path: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        loaded(tmp_path, text, environ)
    return raised.value


def with_account(extra: str, base: str = FX) -> str:
    return f"accounts:\n  - {base[:-1]}, {extra}}}\n"


def mt5(extra: str = "") -> str:
    return f"accounts:\n  - {{name: cfd, broker: mt5, instruments: [EURUSD]{extra}}}\n"
