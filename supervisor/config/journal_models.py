"""The sections ``journal`` and ``log`` of a configuration."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from actors.journal.token_key import PKCS11, TokenUri
from brokers.spec import SecretRef
from supervisor.config.errors import expected
from supervisor.config.values import FilePath, Labels, Model, Raw, duration, file_path, whole

SQLITE = "sqlite:///"
DEFAULT_JOURNAL_URL = "sqlite:///var/journal.db"
_JOURNAL_URL = "sqlite:///PATH of a file, or postgresql://…"


def _timestamp_url(value: Raw) -> str:
    # The answer is signed and only a hash is sent: plain http is usual and reveals nothing.
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s@]+", value):
        raise expected("http(s)://host[:port]/path")
    return value


class LogSettings(Model):
    """The log of ``start``. ``file``, absolute, receives it beside standard error (``None``: nowhere else). It is
    rotated when it is ``rotate_mb`` (of 10^6 bytes) long or a new period of ``rotate_h`` hours begins, and ``keep`` old
    files are kept. With ``format`` json, each line is a JSON document, except on a terminal."""

    file: FilePath = None
    format: Literal["text", "json"] = "text"
    rotate_mb: Annotated[
        float, duration("a number of megabytes from 0.01 to 10000", lambda n: 1 <= 100 * n <= 10**6)
    ] = 10.0
    rotate_h: Annotated[float, duration("a number of hours from 1 to 8784", lambda n: 1 <= n <= 8784)] = 24.0
    keep: Annotated[int, whole("a whole number from 0 to 10000", 0, 10_000)] = 14


class TimestampSettings(Model):
    """A time-stamp server (RFC 3161) for one head an hour, and the PEM file of the roots that its answers lead to."""

    url: Annotated[str, BeforeValidator(_timestamp_url)]
    roots: Annotated[str, file_path("the path of a PEM file with the roots of the time-stamp server")]


class JournalSettings(Model):
    """Where the journal is. An SQLite URL is absolute; a PostgreSQL one may hold a password and is a reference.

    ``head_file``, absolute, is where the end of the journal is noted from time to time (``None``: nowhere).
    ``state_dir``, absolute, is the directory for the files beside a journal that is no file itself (the run file, the
    venues of paper accounts); beside an SQLite file it is that file's own.
    ``key`` signs the heads: a path, ``keyring:SERVICE/NAME`` or ``pkcs11:…`` (``None``: beside the journal). ``heads``
    are the places that receive signed heads, as written: a ``${NAME}`` in them is replaced where they are used.
    ``place`` are the labels of the nodes that its actor may run on, and with it the supervisor, the sinks and the
    alerts, which read the journal or the files beside it.
    ``timestamp`` is the server that stamps heads. With ``keep_slices``, the grounds of each decision are kept beside
    the journal.
    """

    url: str | SecretRef = Field(default=DEFAULT_JOURNAL_URL, validate_default=True)
    head_file: FilePath = None
    state_dir: str | None = None
    key: str | None = None
    heads: tuple[str, ...] = ()
    timestamp: TimestampSettings | None = None
    keep_slices: bool = False
    place: Labels = None

    @field_validator("url", mode="before")
    @classmethod
    def _absolute(cls, value: Raw) -> str | SecretRef:
        if isinstance(value, SecretRef):
            return value
        path = value.removeprefix(SQLITE) if isinstance(value, str) else ""
        if not path or path == value or path.startswith(":") or path.endswith("/") or "?" in path:
            raise expected(_JOURNAL_URL)
        return f"{SQLITE}{os.path.abspath(os.path.expanduser(path))}"

    @field_validator("state_dir", mode="before")
    @classmethod
    def _absolute_directory(cls, value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise expected("the path of a directory, or null")
        return os.path.abspath(os.path.expanduser(value))

    @field_validator("key", mode="before")
    @classmethod
    def _absolute_key(cls, value: Raw) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or value.endswith("/"):
            raise expected("the path of a file, keyring:SERVICE/NAME, pkcs11:…, or null")
        if value.startswith(PKCS11):
            try:
                TokenUri.parse(value)
            except ValueError as error:
                raise expected(str(error)) from None
            return value
        if value.startswith("keyring:"):
            return value
        return os.path.abspath(os.path.expanduser(value))

    @field_validator("heads", mode="before")
    @classmethod
    def _places(cls, value: Raw) -> tuple[str, ...]:
        wanted = "a list of paths of files, https:// (http:// on loopback only) and smtp(s)://host/?from=A&to=B"
        if not isinstance(value, list | tuple):
            raise expected(wanted)
        return tuple(_head_place(one, wanted) for one in value)


def _head_place(value: Raw, wanted: str) -> str:
    if not isinstance(value, str) or not value:
        raise expected(wanted)
    scheme, separator, rest = value.partition("://")
    if not separator:
        if value.endswith("/") or "${" in value:
            raise expected(wanted)
        return os.path.abspath(os.path.expanduser(value))
    loopback = re.match(r"([^@/]*@)?(127\.|localhost|\[::1\])", rest) is not None
    mail = scheme in {"smtp", "smtps"} and "from=" in rest and "to=" in rest
    if not (scheme == "https" or mail or (scheme == "http" and loopback)):
        raise expected(wanted)
    return value
