"""The standing configuration: what shall run after changes at run time, kept beside the journal over a crash of the
supervisor, which comes back with the configuration it was first given.

The laws of this module: the file is whole before the journal names it, and it goes only after the journal names
another one; a file that the journal does not name has no effect; no file holds a secret, only where each is found, and
marks that tell whether a literal one is still the one it was.

====================  ====================================================================================
a crash               what the next incarnation finds
====================  ====================================================================================
before the file       the journal names the former one (or none): that one stands
before the record     a file that nobody names, beside the former one: that one stands
after the record      the new one stands, whether or not it was carried out; actors that run otherwise restart
before the tidying    the new one stands, and the former file goes with the next change
====================  ====================================================================================
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from brokers.errors import Refused
from brokers.kit.whole_file import write_whole
from brokers.spec import READ_FROM_FILES, SecretRef, SecretSource
from supervisor.changes.diff import SecretFingerprints
from supervisor.changes.requests import FIXED
from supervisor.config.models import Account, Configuration

_REFERENCE = "$secret"
_DECIMAL = "$decimal"


@dataclass(frozen=True, slots=True)
class Run:
    """One `start`, over every crash of its supervisor. ``marks`` are those of the configuration it was given,
    ``began_at`` is when that was, ``door`` the :class:`~supervisor.supervision.local_door.Door` of its supervisor."""

    identity: str = ""
    marks: SecretFingerprints = field(default_factory=dict, repr=False)
    began_at: datetime | None = None
    door: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AppliedConfiguration:
    """A standing configuration with the marks of its literal secrets, and the SHA-256 of its file."""

    configuration: Configuration
    marks: SecretFingerprints = field(repr=False)
    sha256: str


class Unusable(Exception):
    """A standing file that is not what the journal names. ``found`` is why."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(path, found)
        self.path = path
        self.found = found

    def __str__(self) -> str:
        return f"the standing configuration {self.path} cannot be used: {self.found}"


def new_run(configuration: Configuration, door: object = None) -> Run:
    """A run of its own for a `start` with this configuration. A literal secret that cannot be read now has no mark;
    its account's actor will say why."""
    identity = os.urandom(8).hex()
    return Run(identity, marks_of(configuration, identity)[0], datetime.now(UTC), door)


def marks_of(configuration: Configuration, salt: str) -> tuple[dict[str, str], dict[str, Refused]]:
    """The marks of the secrets that stand in files, the configuration's own among them, by ``account.key``, and why
    those that cannot be read cannot."""
    marks, problems = {}, {}
    for place, ref in _literals(configuration):
        try:
            marks[place] = _mark(ref, salt)
        except Refused as error:
            problems[place] = error
    return marks, problems


def _literals(configuration: Configuration) -> Iterator[tuple[str, SecretRef]]:
    refs = [(f"{one.name}.{key}", ref) for one in configuration.accounts for key, ref in one.secrets().items()]
    url = configuration.journal.url
    refs += [("journal.url", url)] if isinstance(url, SecretRef) else []
    return ((place, ref) for place, ref in refs if ref.source in READ_FROM_FILES)


def _mark(ref: SecretRef, salt: str) -> str:
    """Tells two secrets of one place apart, and is made slowly, so that none can be guessed from it."""
    salted = f"{salt}/{ref.account}.{ref.key}".encode()
    return hashlib.scrypt(ref.resolve().encode(), salt=salted, n=2**14, r=8, p=1, dklen=16).hex()


def write(configuration: Configuration, marks: SecretFingerprints, run: str) -> AppliedConfiguration:
    """Keep it beside the journal, readable by its owner alone, whole or not at all. Raises ``OSError``."""
    document = {"run": run, "marks": dict(marks), "configuration": _encoded(configuration)}
    content = json.dumps(document, indent=1, sort_keys=True).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    path = path_of(configuration, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return AppliedConfiguration(configuration, dict(marks), sha256)


def read(given: Configuration, sha256: str) -> AppliedConfiguration:
    """The standing configuration of that SHA-256, beside the journal of the one that was given, with that one's
    sections that cannot change. Raises :class:`Unusable`."""
    path = path_of(given, sha256)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unusable(str(path), error.strerror or "it cannot be read") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unusable(str(path), "it is not the one that the journal names")
    try:
        document = json.loads(content)
        decoded = _decoded(document["configuration"])
        found = Configuration.model_validate({**decoded, **{one: getattr(given, one) for one in FIXED}})
        return AppliedConfiguration(found, dict(document["marks"]), sha256)
    except (ValueError, KeyError, TypeError, ValidationError):
        # Its cause would quote what it stumbled over.
        raise Unusable(str(path), "this version of the program does not understand it") from None


def files(configuration: Configuration) -> tuple[Path, ...]:
    """Every standing file beside the journal, drafts included."""
    pattern = f"{glob.escape(path_of(configuration, '').stem)}*.json*"
    return tuple(sorted(configuration.state_dir.glob(pattern)))


def any_of(configuration: Configuration, run: str) -> bool:
    """Whether there is one of this run, named by the journal or not."""
    for path in files(configuration):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_bytes()).get("run") == run:
                return True
    return False


def keep_only(configuration: Configuration, sha256: str | None) -> None:
    """Take every other standing file away. Nothing happens when one cannot be."""
    kept = None if sha256 is None else path_of(configuration, sha256)
    for path in files(configuration):
        if path != kept:
            with contextlib.suppress(OSError):
                path.unlink()


def path_of(configuration: Configuration, sha256: str) -> Path:
    """Where the standing configuration of a SHA-256 lies."""
    url = configuration.journal.url
    name = Path(url).name if isinstance(url, str) else "journal"
    return configuration.state_dir / f"{name}.standing-{sha256[:16]}.json"


def _encoded(value: Any) -> Any:
    match value:
        case BaseModel():
            said = {key: _encoded(getattr(value, key)) for key in value.model_fields_set}
            if isinstance(value, Configuration):
                return {key: one for key, one in said.items() if key not in FIXED}
            if isinstance(value, Account) and value.instruments is None:
                said["instruments"] = "all"
            return said
        case SecretRef():
            return {_REFERENCE: [value.source.value, value.account, value.key, value.place]}
        case Decimal():
            return {_DECIMAL: str(value)}
        case Mapping():
            return {key: _encoded(one) for key, one in value.items()}
        case list() | tuple():
            return [_encoded(one) for one in value]
        case _:
            return value


def _decoded(value: Any) -> Any:
    match value:
        case {"$secret": [source, account, key, place]}:
            return SecretRef(SecretSource(source), account, key, place)
        case {"$decimal": text}:
            return Decimal(text)
        case dict():
            return {key: _decoded(one) for key, one in value.items()}
        case list():
            return [_decoded(one) for one in value]
        case _:
            return value
