"""Finds two configured accounts that reach one login: two books for one account, a mistake of the configuration. Pure.

The configuration itself is refused where its keys show this (:mod:`supervisor.config.loader`). Behind a token or a
gateway the login is known only after it was reached.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.config.models import Configuration


def double_logins(logins: Mapping[str, str | None], configuration: Configuration) -> dict[str, str]:
    """The accounts whose login an earlier account of the configuration reaches, each with what to do. ``logins`` are
    the brokers' own ids by account, ``None`` where unknown. A simulated account has a broker of its own."""
    first: dict[tuple[str, str], str] = {}
    found: dict[str, str] = {}
    for account in configuration.enabled_accounts:
        login = logins.get(account.name)
        if login is None or account.simulator:
            continue
        earlier = first.setdefault((account.broker, login), account.name)
        if earlier != account.name:
            found[account.name] = (
                f"account {account.name} reaches login {login}, which account {earlier} reaches too: two books for one "
                "account. Correct the credentials or the endpoint of one of them, or set `enabled: false` for it"
            )
    return found
