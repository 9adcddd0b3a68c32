"""Keys without effect where they stand, since something that they need is missing: their author relies on them."""

from __future__ import annotations

from collections.abc import Iterator

from actors.book.discrepancies import DiscrepancyType
from actors.book.policy import Correct, Policy
from supervisor.config.models import AnyAccount, Configuration

_T = DiscrepancyType
_JOIN = "Set ray.address to the cluster's, or take it away"
_OF_POSITIONS = frozenset(
    {
        _T.MISSING_LOCALLY,
        _T.NAKED_POSITION,
        _T.POSITION_MISMATCH,
        _T.PRICE_MISMATCH,
        _T.OPPOSITE_LEGS,
        _T.UNPROTECTED,
        _T.OVERSIZED_ORDER,
    }
)


def without_effect(configuration: Configuration, account: AnyAccount) -> list[str]:
    """One sentence for each such key of an account, with what to do. A key without effect for every instrument is
    reported once, for the account."""
    found: dict[str, list[str]] = {}
    symbols = account.symbols or ("",)  # where all are managed, none is named: the account's own settings apply
    for symbol in symbols:
        settings = configuration.instrument_settings(account.name, symbol)
        for sentence in _of_instrument(settings.policy, settings.interval_s):
            found.setdefault(sentence, []).append(f"{account.name}/{symbol}")
    said = []
    for sentence, names in found.items():
        whose = [account.name] if len(names) == len(symbols) else names
        said += [f"{name}: {sentence}" for name in whose]
    if account.broker != "kite" and account.include_holdings:
        said.append(f"{account.name}: include_holdings is for broker kite, and does nothing here. Take it away")
    return said + list(_of_place(configuration, account))


def _of_place(configuration: Configuration, account: AnyAccount) -> Iterator[str]:
    """Labels matter only in a cluster of several machines, which is one that is joined."""
    if not configuration.several_nodes:
        for key in ("place", "spread"):
            if getattr(account, key):
                yield f"{account.name}: {key} does nothing with ray.address: local, which is one machine. {_JOIN}"


def of_all(configuration: Configuration) -> Iterator[str]:
    """The same for the common sections."""
    if configuration.several_nodes:
        return
    said = (
        ("defaults.place", configuration.defaults.place),
        ("defaults.spread", configuration.defaults.spread),
        ("journal.place", configuration.journal.place),
    )
    for key, given in said:
        if given:
            yield f"{key} does nothing with ray.address: local, which is one machine. {_JOIN}"


def _of_instrument(policy: Policy, interval_s: float) -> Iterator[str]:
    if policy.cancel_stale_orders and policy.stale_order is None:
        yield "cancel_stale_orders is true and no order is ever stale. Say after how long with stale_order_s"
    elif policy.cancel_stale_orders and policy.correct is Correct.ALERT:
        yield "cancel_stale_orders is true and correct: alert changes nothing. Say correct: auto, or take it away"
    if not policy.positions and policy.protection is not None:
        yield "protection is never looked at, as mode paper compares orders alone. Say mode: live, or take it away"
    never = sorted(
        kind
        for kind in policy.halt_on
        if (kind in _OF_POSITIONS and not policy.positions)
        or (kind is _T.STALE_ORDER and policy.stale_order is None)
        or (kind in (_T.UNPROTECTED, _T.OVERSIZED_ORDER) and policy.protection is None)
    )
    if never:
        why = "mode paper compares orders alone, and protection and stale orders are looked for where a key asks for it"
        yield f"halt_on names {', '.join(never)}, which is never found: {why}"
    unverified_s = policy.unverified.total_seconds()
    if unverified_s < interval_s:
        yield (
            f"unverified_s ({unverified_s:g}) is shorter than interval_s ({interval_s:g}): between two checks trading "
            "may not be allowed. Make it longer, or check more often"
        )
