"""What is wrong with a configuration, all of it at once, in the reader's own file, line and key.

No message quotes a secret, the value of an unknown key (which may be a misspelt secret), or what an environment
variable held.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic_core import ErrorDetails, PydanticCustomError

from brokers.frozen import dataclass
from supervisor.config.yaml_source import Data, Document, Finding, Number, Path

SECRET_KEYS = frozenset({"token", "api_key", "access_token"})
_LONGEST_QUOTE = 60
_KEY = "[key]"
"""Where pydantic says that the key of a mapping is wrong, and not its value."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right. ``line`` counts from 1 and is 0 where the whole file is meant; ``key`` is a dotted path
    such as ``accounts[0].instruments[1].interval_s``, empty for the whole file."""

    file: str
    line: int
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key + ': ' if self.key else ''}found {self.found}, expected {self.expected}"


class ConfigurationError(Exception):
    """The configuration cannot be used. ``problems`` are all of them, in the order of the file; ``str`` has one
    line for each."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def expected(text: str) -> PydanticCustomError:
    """The error for a validator to raise; the reader sees ``expected text``."""
    return PydanticCustomError("expected", "expected {expected}", {"expected": text})


def dotted(path: Path) -> str:
    """``("accounts", 0, "name")`` as ``accounts[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def at(data: Data, path: Path) -> Data:
    """The value at a path; raises ``LookupError`` where there is none."""
    for part in path:
        match data, part:
            case list(), int():
                data = data[part]
            case dict(), str():
                data = data[part]
            case _:
                raise LookupError(path)
    return data


def shown(value: Any, path: Path) -> str:
    """A value in words: quoted where it is one harmless scalar, else only what it is."""
    if isinstance(value, dict):
        return "a mapping of keys"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if value is None:
        return "nothing (null)"
    if value == "":
        return "an empty text"
    if path and path[-1] in SECRET_KEYS:
        return "a value that is not shown"
    if isinstance(value, bool):
        return str(value).lower()
    text = value.text if isinstance(value, Number) else repr(value)
    text = re.sub(r"//[^/]*@", "//…@", text)  # a URL may carry a password
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def from_findings(findings: Iterable[Finding], file: str) -> list[Problem]:
    """The problems that the YAML itself had."""
    return [Problem(file, f.line, dotted(f.path), f.found, f.expected) for f in findings]


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns pydantic's errors about a document into problems.

    ``origins`` names the environment variable a value came from, ``known_keys`` returns the keys allowed at a path, and
    ``descriptions`` what a missing one should be.
    """

    file: str
    document: Document
    origins: Mapping[Path, str]
    known_keys: Callable[[Path], frozenset[str]]
    description: Callable[[Path], str]

    def problem(self, error: ErrorDetails) -> tuple[Path, Problem]:
        """The problem, and the path that it is about."""
        path = self._path(error)
        line = self.document.line_of(path)
        return path, Problem(self.file, line, dotted(path), self._found(error, path), self._expected(error, path))

    def _path(self, error: ErrorDetails) -> Path:
        """Where in the file the error is: pydantic's location, cut where the file goes no deeper."""
        location = list(error["loc"])
        if location[:1] == ["accounts"] and len(location) > 2:
            del location[2]  # the broker, by which the kind of account was chosen
        if location[-1:] == [_KEY]:
            del location[-1]
        path: Path = ()
        for part in location:
            if not isinstance(self._value(path), dict | list):
                break
            path = (*path, part)
        return (*path, "broker") if error["type"].startswith("union_tag") else path

    def _value(self, path: Path) -> Data:
        try:
            return at(self.document.data, path)
        except LookupError:
            return None

    def _found(self, error: ErrorDetails, path: Path) -> str:
        if error["type"] == "extra_forbidden":
            return "an unknown key"
        if path in self.origins:
            return f"what {self.origins[path]} holds"
        if error["loc"][-1:] == (_KEY,):
            return f"the key {shown(path[-1], ())}"
        try:
            return shown(at(self.document.data, path), path)
        except LookupError:
            return "nothing"

    def _expected(self, error: ErrorDetails, path: Path) -> str:
        kind, context = error["type"], error.get("ctx", {})
        if kind == "extra_forbidden":
            return self._suggestion(path)
        if kind in {"missing", "union_tag_not_found"}:
            return self.description(path)
        if kind in {"expected", "literal_error"}:
            return str(context["expected"]).replace("'", "")
        if kind == "union_tag_invalid":
            return str(context["expected_tags"]).replace("'", "")
        if kind in {"model_type", "model_attributes_type", "dict_type"}:
            return "a mapping of keys"
        if kind in {"list_type", "tuple_type"}:
            return "a list"
        if kind == "too_short":
            return "at least one"
        if kind == "bool_type":
            return "true or false"
        return error["msg"]

    def _suggestion(self, path: Path) -> str:
        known = sorted(self.known_keys(path[:-1]))
        close = difflib.get_close_matches(str(path[-1]).lower(), known, n=1, cutoff=0.6)
        return f"{close[0]} (did you mean that?)" if close else "one of " + ", ".join(known)
