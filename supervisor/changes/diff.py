"""The difference between two configurations, and its effects on running actors. Pure.

The laws of this module: applying the difference of A and B to A gives B; a difference contains no secret, nor the place
of one: it says only that it changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from actors.events import Json, to_text
from actors.names import split_name
from brokers.frozen import dataclass
from brokers.spec import READ_FROM_FILES, SecretRef
from brokers.versions import across_versions
from supervisor.config.models import NULL_COUNTS, AnyAccount, Configuration, DeltaSink
from supervisor.tree.model import ChildSpec, Kind

Section = BaseModel | tuple[DeltaSink, ...]
SecretFingerprints = Mapping[str, str]
"""A fingerprint of each literal secret, by ``account.key``: it shows whether the secret has changed, and not its value.
"""

IDENTITY = frozenset({"broker", "simulator", "account_id", "user_id", "login", "environment"})
"""The keys of an account that identify it at the broker: when one changes, its books are another account's."""


class How(StrEnum):
    """What happened to a row."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


# What differs


@across_versions
@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key that differs. Its values as text, ``None`` where it is not set; ``default`` then applies."""

    key: str
    before: str | None
    after: str | None
    secret: bool = False
    default: str | None = None

    def __str__(self) -> str:
        if self.secret:
            return f"{self.key} changed"
        if self.before is None:
            return f"{self.key} {self.after}"
        default = "default" if self.default is None else f"default ({self.default})"
        return f"{self.key} {self.before} → {default if self.after is None else self.after}"

    def to_json(self) -> dict[str, Json]:
        """The form for the journal and for display."""
        if self.secret:
            return {"key": self.key, "changed": True}
        return {"key": self.key, "before": self.before, "after": self.after}


@across_versions
@dataclass(frozen=True, slots=True)
class Row:
    """One account, instrument or section that differs. ``kind`` is which of the three."""

    kind: str
    name: str
    how: How
    keys: tuple[KeyChange, ...] = ()

    def __str__(self) -> str:
        detail = f": {self.details}" if self.keys else ""
        return f"{self.kind} {self.name} {self.how}{detail}"

    @property
    def details(self) -> str:
        """The keys that differ, as text."""
        return ", ".join(map(str, self.keys))

    def to_json(self) -> dict[str, Json]:
        """The form for the journal and for display."""
        keys: list[Json] = [key.to_json() for key in self.keys]
        return {"kind": self.kind, "name": self.name, "how": self.how.value, "keys": keys}


@dataclass(frozen=True, slots=True)
class ConfigurationDifference:
    """The difference from one configuration to another. ``rows`` describe it; the rest is what :func:`applied` needs:
    the new ``accounts``, the ``removed`` names, all names in their ``order``, and the ``sections`` that differ."""

    rows: tuple[Row, ...]
    accounts: tuple[AnyAccount, ...] = ()
    removed: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    sections: Mapping[str, Section] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether it changes anything that runs."""
        return bool(self.rows)


def difference(
    old: Configuration,
    new: Configuration,
    old_marks: SecretFingerprints | None = None,
    new_marks: SecretFingerprints | None = None,
) -> ConfigurationDifference:
    """The difference between two configurations, without the sections that cannot change while a supervisor runs. A
    literal secret counts as changed where its mark differs."""
    marks = (old_marks or {}, new_marks or {})
    before = {account.name: account for account in old.accounts}
    after = {account.name: account for account in new.accounts}
    rows: list[Row] = []
    sections: dict[str, Section] = {}
    pairs: dict[str, tuple[Any, Any]] = {
        "defaults": (old.defaults, new.defaults),
        "supervision": (old.supervision, new.supervision),
        "breaks": (old.breaks, new.breaks),
        "alerts": (old.alerts, new.alerts),
    }
    for name, (was, becomes) in pairs.items():
        keys = key_changes(said_by(was), said_by(becomes), "", *marks)
        if keys:
            rows.append(Row("section", name, How.CHANGED, keys))
            sections[name] = becomes
    if old.sinks != new.sinks:
        rows.append(Row("section", "sinks", How.CHANGED, (KeyChange("sinks", _shown(old.sinks), _shown(new.sinks)),)))
        sections["sinks"] = new.sinks
    touched: list[AnyAccount] = []
    for name in dict.fromkeys((*before, *after)):
        of_account = tuple(_with_defaults(row, new) for row in _account_rows(before.get(name), after.get(name), marks))
        rows += of_account
        if name in after and (of_account or before.get(name) != after[name]):
            touched.append(after[name])
    removed = tuple(name for name in before if name not in after)
    return ConfigurationDifference(tuple(rows), tuple(touched), removed, tuple(after), sections)


def applied(found: ConfigurationDifference, configuration: Configuration) -> Configuration:
    """The configuration with a difference applied to it."""
    accounts = {one.name: one for one in configuration.accounts if one.name not in found.removed}
    accounts |= {account.name: account for account in found.accounts}
    ordered = tuple(accounts[name] for name in found.order or accounts)
    return configuration.model_copy(update={**found.sections, "accounts": ordered})


def _account_rows(
    old: AnyAccount | None, new: AnyAccount | None, marks: tuple[SecretFingerprints, SecretFingerprints]
) -> Iterable[Row]:
    there = new or old
    assert there is not None  # noqa: S101 - the name is of one of the two
    was, becomes = ({} if one is None else said_by(one) for one in (old, new))
    listed_before, listed_after = ({} if one is None else _entries(one) for one in (old, new))
    if old is not None and new is not None:
        for said, one in ((was, old), (becomes, new)):
            said["instruments"] = "all" if one.instruments is None else "a list"
        keys = key_changes(was, becomes, there.name, *marks)
        if keys:
            yield Row("account", there.name, How.CHANGED, keys)
    else:
        how = How.ADDED if old is None else How.REMOVED
        said = becomes or was
        shown = tuple(KeyChange(key, None, _shown(said[key])) for key in ("broker", "simulator") if said.get(key))
        shown += () if there.enabled else (KeyChange("enabled", None, "false"),)
        shown += () if there.instruments is not None else (KeyChange("instruments", None, "all"),)
        yield Row("account", there.name, how, shown if how is How.ADDED else ())
    for symbol in dict.fromkeys((*listed_before, *listed_after)):
        name = f"{there.name}/{symbol}"
        if symbol not in listed_after:
            yield Row("instrument", name, How.REMOVED)
            continue
        keys = key_changes(listed_before.get(symbol, {}), listed_after[symbol], name, {}, {})
        if symbol not in listed_before:
            yield Row("instrument", name, How.ADDED, keys)
        elif keys:
            yield Row("instrument", name, How.CHANGED, keys)


def _with_defaults(row: Row, configuration: Configuration) -> Row:
    """The row with the value that applies for each key that is no longer set."""
    if row.how is not How.CHANGED:
        return row
    account, symbol = split_name(row.name)
    applies = configuration.instrument_keys(account, symbol)

    def default(key: str) -> str | None:
        in_seconds = applies.get(f"{key.removesuffix('_ms')}_s") if key.endswith("_ms") else None
        found = in_seconds * 1000 if in_seconds is not None else applies.get(key)
        return None if found is None else _shown(found)

    keys = tuple(replace(one, default=default(one.key)) if one.after is None else one for one in row.keys)
    return replace(row, keys=keys)


def _entries(account: AnyAccount) -> dict[str, dict[str, Any]]:
    said = {one.symbol: said_by(one) for one in account.instruments or ()}
    for entry in said.values():
        del entry["symbol"]
    return said


def said_by(model: BaseModel) -> dict[str, Any]:
    """The keys that a model sets; a null that has a meaning of its own counts as set."""
    fields = type(model).model_fields
    defaults = {key: one.get_default(call_default_factory=True) for key, one in fields.items()}
    values = {key: getattr(model, key) for key in sorted(model.model_fields_set, key=list(defaults).index)}
    return {key: value for key, value in values.items() if value != defaults[key] or key in NULL_COUNTS}


def all_of(model: BaseModel) -> dict[str, Any]:
    """Every key of a model with its value."""
    return {key: getattr(model, key) for key in type(model).model_fields}


def key_changes(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    account: str,
    old_marks: SecretFingerprints,
    new_marks: SecretFingerprints,
) -> tuple[KeyChange, ...]:
    """The keys of an account or a section whose values differ; secrets are compared by reference, or by mark."""
    found = []
    for key in dict.fromkeys((*old, *new)):
        was, becomes = old.get(key), new.get(key)
        if isinstance(was, SecretRef) or isinstance(becomes, SecretRef):
            place = f"{account}.{key}"
            if not _same_secret(was, becomes, old_marks.get(place), new_marks.get(place)):
                found.append(KeyChange(key, None, None, secret=True))
        elif key not in old or key not in new or was != becomes:
            before = _shown(was) if key in old else None
            found.append(KeyChange(key, before, _shown(becomes) if key in new else None))
    return tuple(found)


def _same_secret(was: object, becomes: object, mark: str | None, new_mark: str | None) -> bool:
    if not (isinstance(was, SecretRef) and isinstance(becomes, SecretRef)) or was.source is not becomes.source:
        return False
    if was.source in READ_FROM_FILES and None not in (mark, new_mark):
        return mark == new_mark  # whichever file it is in
    return was.place == becomes.place


def _shown(value: object) -> str:
    if isinstance(value, SecretRef):
        return "…"
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in said_by(value).items()) + "}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(one)}" for key, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Decimal):
        return to_text(value) or "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


# Effects on running actors


@across_versions
@dataclass(frozen=True, slots=True)
class Effects:
    """The actors that a change starts, restarts and stops, by name; no others are affected. ``notified`` are the
    accounts that receive another list of instruments and continue."""

    started: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    notified: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All actors whose process starts or ends."""
        return (*self.started, *self.restarted, *self.stopped)

    def to_json(self) -> dict[str, Json]:
        """The form for the journal and for display."""
        return {"started": [*self.started], "restarted": [*self.restarted], "stopped": [*self.stopped]}


def effects(old: Iterable[ChildSpec], new: Iterable[ChildSpec]) -> Effects:
    """The effects on the actors of replacing the desired children."""
    before, after = ({spec.key: spec for spec in specs} for specs in (old, new))
    started = [key.name for key in after if key not in before]
    restarted = [key.name for key, spec in after.items() if key in before and before[key] != spec]
    stopped = [key.name for key in before if key not in after]
    moved = (key for key in (*before, *after) if (key in before) != (key in after))
    concerned = {key.account for key in moved if key.kind is Kind.INSTRUMENT}
    touched = {*started, *restarted, *stopped}
    return Effects(tuple(started), tuple(restarted), tuple(stopped), tuple(sorted(concerned - touched)))


def of_other_accounts(old: Configuration, new: Configuration) -> tuple[str, ...]:
    """The accounts that keep their name, and whose books would now be compared with another account of the broker."""
    return tuple(
        account.name
        for account in new.enabled_accounts
        for was in old.accounts
        if was.name == account.name and any(_identity(was, key) != _identity(account, key) for key in IDENTITY)
    )


def _identity(account: AnyAccount, key: str) -> object:
    return getattr(account, key, None)
