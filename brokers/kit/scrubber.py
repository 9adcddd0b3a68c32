"""Keeps credentials out of everything that people can read: errors, rows, logs.

A secret shorter than ``SHORTEST_SECRET`` characters is left alone: masking it would tear holes into honest data (a
token of ``1`` is in every price), and such a secret keeps nobody out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

SHORTEST_SECRET = 6
MASK = "***"


class Scrubber:
    """Removes its secrets, plain or as JSON writes them. Its own repr shows none of them."""

    __slots__ = ("_bytes", "_forms")

    def __init__(self, secrets: Iterable[str]) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= SHORTEST_SECRET:
                quoted = json.dumps(secret)[1:-1]
                forms |= {secret, quoted, quoted.replace("/", "\\/")}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._bytes = tuple(form.encode() for form in self._forms)

    def text(self, text: str) -> str:
        """The text with every secret masked."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def body(self, body: bytes) -> bytes:
        """The bytes of an answer with every secret masked, before anything decodes them."""
        for form in self._bytes:
            body = body.replace(form, MASK.encode())
        return body

    def json(self, value: Any) -> Any:
        """A decoded JSON value with every secret masked, however the wire had escaped it."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.json(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.json(item) for key, item in value.items()}
        return value

    def __repr__(self) -> str:
        return f"Scrubber({len(self._forms)} forms)"
