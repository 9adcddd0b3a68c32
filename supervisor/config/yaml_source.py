"""YAML with the line of every key and item.

The text is composed into nodes and turned into plain data here, so that a number keeps its text (``0.00001`` never
passes through a float, ``000660`` keeps its zeros), a duplicate key is found, and every key and item has a line.
Scalars are read as in YAML 1.2: ``NO`` and ``on`` are text.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from brokers.frozen import dataclass

Path = tuple[str | int, ...]

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_STANDARD = "tag:yaml.org,2002:"
_TAGS = frozenset(_STANDARD + name for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp"))


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written, not yet of any type."""

    text: str


DEEPEST = 50
"""How many levels of a file may be inside each other."""

Data = None | bool | str | Number | list["Data"] | dict[str, "Data"]


@dataclass(frozen=True, slots=True)
class Finding:
    """An error in the YAML itself. ``line`` counts from 1, 0 is the whole file."""

    line: int
    path: Path
    found: str
    expected: str


@dataclass(slots=True)
class Document:
    """The data of a file, the line of every key and item, and the errors in the YAML."""

    data: Data = None
    lines: dict[Path, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def line_of(self, path: Path) -> int:
        """The line of the value at ``path``, or of the nearest one that contains it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


def scalar(text: str) -> Data:
    """The meaning of a plain (unquoted) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    return Number(text) if _NUMBER.fullmatch(text) else text


class _Composer(Composer):
    """Gives up at what is nested deeper than any configuration: reading it to its end takes time without bound."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As ruamel's."""
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, f"more than {DEEPEST} levels inside each other", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def read(text: str) -> Document:
    """Read one YAML document. Never raises for its content: errors are in ``findings``."""
    document = Document()
    try:
        reader = YAML(typ="safe", pure=True)
        reader.Composer = _Composer
        root = reader.compose(text)
    except MarkedYAMLError as error:
        document.findings.append(_syntax(error))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.findings.append(Finding(line, (), f"the character {error.character!r}", "printable text"))
    except (YAMLError, ValueError, RecursionError):
        document.findings.append(Finding(1, (), "text that is not YAML", "YAML"))
    else:
        if root is not None:
            document.data = _Builder(document).build(root, (), ())
    return document


def _syntax(error: MarkedYAMLError) -> Finding:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem = error.problem or "text that cannot be read"
    if "\\t" in problem:
        return Finding(line, (), "a tab", "spaces: YAML does not allow tabs for indentation")
    # What a parser quotes may be part of a secret; a single character is the punctuation it failed at.
    quoted = re.sub(r"(['\"])([^'\"]{4,})\1", "…", problem)
    context = f" {error.context}" if error.context else ""
    return Finding(line, (), f"a syntax error{context}: {quoted}", "YAML")


class _Builder:
    def __init__(self, document: Document) -> None:
        self._document = document

    def build(self, node: Node, path: Path, around: tuple[int, ...]) -> Data:
        """The data of a node; ``around`` are the nodes that contain it, since an alias may refer to one of them."""
        self._document.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in around:
            self._wrong(path, node, "an alias to something that contains it", "values written out")
            return None
        tag = str(node.tag)
        if tag not in _TAGS:
            self._wrong(path, node, "a tag", "a value without one")
            return None
        inner = (*around, id(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, path, inner)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, place), inner) for place, item in enumerate(node.value)]
        plain = isinstance(node, ScalarNode) and node.style is None
        return scalar(node.value) if plain else str(node.value)

    def _mapping(self, node: MappingNode, path: Path, around: tuple[int, ...]) -> dict[str, Data]:
        data: dict[str, Data] = {}
        for key, value in node.value:
            name = self._key(key, path)
            if name is None:
                continue
            here = (*path, name)
            if name in data:
                first = self._document.lines[here]
                self._wrong(here, key, f"the key a second time (first on line {first})", "each key once")
                continue
            self._document.lines[here] = key.start_mark.line + 1
            data[name] = self.build(value, here, around)
        return data

    def _key(self, key: Any, path: Path) -> str | None:
        if not isinstance(key, ScalarNode):
            self._wrong(path, key, "a key that is not a word", "a word as the key")
            return None
        if key.value == "<<" and key.style is None:
            self._wrong((*path, "<<"), key, "a merge key", "keys written out; common ones belong under defaults")
            return None
        return str(key.value)

    def _wrong(self, path: Path, node: Node, found: str, expected: str) -> None:
        self._document.findings.append(Finding(node.start_mark.line + 1, path, found, expected))
