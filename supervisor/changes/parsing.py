"""Changes at run time as people write them: the keys and values of ``accounts.yaml``, checked by the same models, with
errors in the same form.

A secret may be named (``${NAME}``, a variable that is set where the actors run) and never passed by value, since it
would have to be sent and stored. A secret in a configuration file is read there by the actor that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

from brokers.spec import SecretRef, reference
from supervisor.changes.asking import asked_by as asked_by
from supervisor.changes.requests import AddAccount, AddInstrument, Apply, SetInterval
from supervisor.config.errors import SECRET_KEYS, Problem
from supervisor.config.loader import check_data, load
from supervisor.config.models import Configuration, ConfigurationError
from supervisor.config.yaml_source import Data, Number

_ACCOUNT = "accounts[0]"
_INSTRUMENT = f"{_ACCOUNT}.instruments[0]"


def account_from(given: Mapping[str, Any]) -> AddAccount:
    """An account by the keys it has in ``accounts.yaml``. Raises :class:`ConfigurationError`."""
    document = cast("dict[str, Any]", _data(given))
    name = document.get("name")
    for key in SECRET_KEYS & document.keys():
        document[key] = _named(key, document[key], name.text if isinstance(name, Number) else str(name))
    return AddAccount(_checked(document, "add_account", _ACCOUNT).accounts[0])


def instrument_from(account: str, symbol: str, overrides: Mapping[str, Any]) -> AddInstrument:
    """An instrument with its settings. Raises :class:`ConfigurationError`."""
    checked = _with_instrument("add_instrument", {"symbol": symbol, **overrides})
    return AddInstrument(account, (checked.accounts[0].instruments or ())[0])


def interval_from(account: str, symbol: str | None, interval_s: float | Decimal) -> SetInterval:
    """An interval in seconds. Raises :class:`ConfigurationError`."""
    checked = _with_instrument("set_interval", {"symbol": "any", "interval_s": interval_s})
    found = (checked.accounts[0].instruments or ())[0].interval_s
    if found is None:
        problem = Problem("set_interval", 0, "interval_s", "nothing (null)", "a number of seconds, 0 or more")
        raise ConfigurationError((problem,))
    return SetInterval(account, symbol, found)


def configuration_from(given: str | os.PathLike[str] | Configuration, *, source: str = "a configuration") -> Apply:
    """A whole configuration that was read from ``source``, or the file of one. Raises :class:`ConfigurationError`."""
    if isinstance(given, Configuration):
        return Apply(given, source)
    return Apply(load(given), os.fspath(given))


def _with_instrument(where: str, instrument: Mapping[str, Any]) -> Configuration:
    document = {"name": "any", "broker": "paper", "instruments": [_data(instrument)]}
    return _checked(document, where, _INSTRUMENT)


def _checked(account: Mapping[str, Any], where: str, prefix: str) -> Configuration:
    try:
        return check_data({"accounts": [dict(account)]}, where, os.environ)
    except ConfigurationError as error:
        raise ConfigurationError(tuple(_here(problem, prefix) for problem in error.problems)) from None


def _here(problem: Problem, prefix: str) -> Problem:
    return replace(problem, key=problem.key.removeprefix(prefix).removeprefix("."), line=0)


def _named(key: str, value: object, owner: str) -> SecretRef:
    found = reference(owner, key, value, os.getcwd()) if isinstance(value, str) else None
    if found is None:
        wanted = (
            "${NAME} of a variable that is set where the actors run, file:PATH or keyring:SERVICE/NAME; else write the "
            "account into a file and apply that"
        )
        raise ConfigurationError((Problem("add_account", 0, key, "a value that is not shown", wanted),))
    return found


def _data(value: Any) -> Data:
    """The value as if read from YAML; a float stays a float, and is refused where the digits count."""
    if isinstance(value, Mapping):
        return {str(key): _data(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_data(one) for one in value]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Number(str(value))
    return cast("Data", value)
