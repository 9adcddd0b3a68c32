"""A configuration as the journal may keep it: every key that was set, and the place of each secret only. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel

from actors.events import Json
from brokers.spec import SecretRef, SecretSource
from supervisor.config.models import Account, Configuration

_CREDENTIALS: Final = re.compile(r"//[^/@\s]*@")


def shown(configuration: Configuration) -> dict[str, Json]:
    """The keys that a configuration sets. Numbers that are not integers are text; addresses have no credentials."""
    found = _shown(configuration)
    assert isinstance(found, dict)  # noqa: S101 - a model becomes one
    return found


def _shown(value: Any) -> Json:
    match value:
        case BaseModel():
            said = {key: _shown(getattr(value, key)) for key in sorted(value.model_fields_set)}
            if isinstance(value, Account) and value.instruments is None:
                said["instruments"] = "all"
            return said
        case SecretRef():
            found: dict[str, Json] = {"secret": value.source.value}
            return found if value.source is SecretSource.FILE else {**found, "name": value.place}
        case None | bool() | int():
            return value
        case Decimal() | float():
            return str(value)
        case str():
            return _without_credentials(str(value))
        case Mapping():
            return {str(key): _shown(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_shown(one) for one in value]
    return _without_credentials(str(value))


def _without_credentials(text: str) -> str:
    if "://" not in text:
        return text
    bare = _CREDENTIALS.sub("//", text)
    # The query of a web address may hold a token; that of a mail address holds sender and recipient.
    return bare.partition("?")[0] if urlsplit(bare).scheme in {"http", "https"} else bare
