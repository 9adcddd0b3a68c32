"""The standing configuration: what should run after changes at run time. It is kept beside the journal, since after a
crash Ray restarts the supervisor with its original configuration.

The laws of this module: the file is complete before the journal names it, and is removed only after the journal names
another; a file that the journal does not name has no effect; no file holds a secret, only the place of each and a
salted fingerprint (a mark) that shows whether a literal secret has changed.

====================  ====================================================================================
a crash               what the next incarnation finds
====================  ====================================================================================
before the file       the journal names the former one (or none): that one stands
before the record     a file that no record names, beside the former one: the former one stands
after the record      the new one stands, whether or not it was carried out; actors that run otherwise restart
before the tidying    the new one stands, and the former file is removed with the next change
====================  ====================================================================================
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from brokers.errors import Refused
from brokers.frozen import dataclass
from brokers.kit.foreign_row import read_json
from brokers.kit.whole_file import write_whole
from brokers.spec import READ_FROM_FILES, SecretRef, SecretSource
from brokers.versions import across_versions
from supervisor.changes.diff import SecretFingerprints
from supervisor.changes.requests import FIXED
from supervisor.config.models import Account, Configuration

_REFERENCE = "$secret"
_DECIMAL = "$decimal"


@across_versions
@dataclass(frozen=True, slots=True)
class Run:
    """One `start`, through every crash of its supervisor. ``marks`` are those of its original configuration,
    ``began_at`` is when it began, ``door`` the :class:`~supervisor.supervision.local_door.Door` of its supervisor."""

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
    """A standing file that is not the one the journal names. ``found`` is the reason."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(path, found)
        self.path = path
        self.found = found

    def __str__(self) -> str:
        return f"the standing configuration {self.path} cannot be used: {self.found}"


def new_run(configuration: Configuration, door: object = None) -> Run:
    """A new run for a `start` with this configuration. A literal secret that cannot be read now has no mark; the actor
    of its account reports the reason."""
    identity = os.urandom(8).hex()
    return Run(identity, marks_of(configuration, identity)[0], datetime.now(UTC), door)


def marks_of(configuration: Configuration, salt: str) -> tuple[dict[str, str], dict[str, Refused]]:
    """The marks of the secrets that stand in files, including the configuration file, by ``account.key``; and the
    reasons for those that cannot be read."""
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
    """A fingerprint that distinguishes two secrets of one place. It is slow to compute, against guessing."""
    salted = f"{salt}/{ref.account}.{ref.key}".encode()
    return hashlib.scrypt(ref.resolve().encode(), salt=salted, n=2**14, r=8, p=1, dklen=16).hex()


def write(configuration: Configuration, marks: SecretFingerprints, run: str) -> AppliedConfiguration:
    """Write it beside the journal, readable by its owner alone, as a whole or not at all. Raises ``OSError``."""
    document = {"run": run, "marks": dict(marks), "configuration": _encoded(configuration)}
    content = json.dumps(document, indent=1, sort_keys=True).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    path = path_of(configuration, sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    return AppliedConfiguration(configuration, dict(marks), sha256)


def read(given: Configuration, sha256: str) -> AppliedConfiguration:
    """The standing configuration with that SHA-256 from beside the journal of ``given``, with the sections that cannot
    change taken from ``given``. Raises :class:`Unusable`."""
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
        # The cause could quote a part of the file.
        raise Unusable(str(path), "this version of the program does not understand it") from None


def files(configuration: Configuration) -> tuple[Path, ...]:
    """Every standing file beside the journal, drafts included."""
    pattern = f"{glob.escape(path_of(configuration, '').stem)}*.json*"
    return tuple(sorted(configuration.state_dir.glob(pattern)))


def any_of(configuration: Configuration, run: str) -> bool:
    """Whether a standing file of this run exists, named by the journal or not."""
    for path in files(configuration):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if read_json(path.read_bytes()).get("run") == run:
                return True
    return False


def keep_only(configuration: Configuration, sha256: str | None) -> None:
    """Remove every other standing file. A file that cannot be removed is left."""
    kept = None if sha256 is None else path_of(configuration, sha256)
    for path in files(configuration):
        if path != kept:
            with contextlib.suppress(OSError):
                path.unlink()


def path_of(configuration: Configuration, sha256: str) -> Path:
    """The path of the standing configuration with a SHA-256."""
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
