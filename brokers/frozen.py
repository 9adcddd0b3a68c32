"""``dataclass`` for what is frozen and slotted, at a third of its cost to a process that starts.

Every process of an actor imports some ninety such classes. :func:`dataclasses.dataclass` compiles six functions for
each of them at import, which took more than half of all the time that our modules took there. This one
compiles ``__init__``, and ``__eq__`` and ``__hash__`` when they are first called; all classes share the rest.

A frozen class of the standard library's also calls ``object.__setattr__`` for each field of a new object, which for the
23 and 30 fields of a fill and its order took a quarter of all the time of deciding on that fill. Here a new object of
many fields belongs to a mutable twin of its class, of the same slots, until its fields are stored.

What a class promises is as it was: its fields, signature, equality, hash, ``repr``, pickled form, and ``replace``. Only
subclasses are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # to a type checker it is no other
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, **further: bool) -> Callable[[type], Any]:
        """As :func:`dataclasses.dataclass`, which makes what is not both frozen and slotted, or is ordered."""
        if frozen and slots and not further:
            return _made
        return dataclasses.dataclass(frozen=frozen, slots=slots, **further)


MANY_FIELDS = 6
"""From so many fields on the twin pays. With fewer it saves no time, and it is one more class in each process."""


def _made(cls: type) -> Any:
    for name, method in _SHARED.items():
        if cls.__dict__.get(name) is None:  # a class that has an ``__eq__`` of its own has the ``__hash__`` None
            setattr(cls, name, method)
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    for kept in ("init", "repr", "eq", "frozen"):
        setattr(made.__dataclass_params__, kept, True)
    made.__init__ = _init(made)
    made.__init_subclass__ = classmethod(_refuse_subclass)
    return made


def _init(cls: Any) -> Any:
    own = dataclasses.fields(cls)
    assert all(one.init and not one.kw_only for one in own), cls  # noqa: S101 - at import
    names = tuple(one.name for one in own)
    known: dict[str, Any] = {}
    parameters, values, defaults = ["self"], [], []
    for one in own:
        value, default = one.name, one.default
        if one.default_factory is not MISSING:
            known[f"make_{one.name}"] = one.default_factory
            value, default = f"make_{one.name}() if {one.name} is FACTORY else {one.name}", _FACTORY
        if default is not MISSING:
            defaults.append(default)
        parameters.append(one.name if default is MISSING else f"{one.name}=FACTORY")
        values.append(value)
    if len(own) < MANY_FIELDS:
        lines = [f"put(self, {name!r}, {value})" for name, value in zip(names, values, strict=True)]
    else:
        # Of a generic class typing refuses a twin that does not name any base of its own.
        space = {"__slots__": names, "__orig_bases__": ()}
        known |= {"cls": cls, "twin": type(cls.__name__, cls.__bases__, space)}
        stored = (f"self.{name} = {value}" for name, value in zip(names, values, strict=True))
        lines = ["put(self, '__class__', twin)", *stored, "self.__class__ = cls"]
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    made = _written(cls, "__init__", parameters, lines or ["pass"], known)
    made.__defaults__ = tuple(defaults)
    made.__annotations__ = {**cls.__annotations__, "return": None}
    return made


def _written(
    cls: Any, name: str, parameters: Iterable[str], lines: Iterable[str], known: dict[str, Any] | None = None
) -> Any:
    text = "\n    ".join([f"def {name}({', '.join(parameters)}):", *lines])
    written: dict[str, Any] = {}
    # All share the names that they know, as far as these are not their own: there are many of them in each process.
    exec(text, {**_KNOWN, **known} if known else _KNOWN, written)  # noqa: S102 - names of fields alone  # nosec B102
    made = written[name]
    made.__module__, made.__qualname__ = cls.__module__, f"{cls.__qualname__}.{name}"
    return made


class _Factory:
    """Stands in a signature for a default that is made for each object."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()
_KNOWN: dict[str, Any] = {"put": object.__setattr__, "FACTORY": _FACTORY}


def _refuse_subclass(cls: type) -> NoReturn:
    raise TypeError(f"{cls.__name__}: {cls.__bases__[0].__name__} has no subclasses: its objects are of one class")


def _values(holder: str, names: Iterable[str]) -> str:
    return "".join(["(", *(f"{holder}.{name}, " for name in names), ")"])


# What all classes share. The first two replace themselves.


def __eq__(self: Any, other: object) -> Any:  # noqa: N807 - of each class
    names = [one.name for one in dataclasses.fields(self) if one.compare]
    lines = [
        "if other.__class__ is self.__class__:",
        f"    return {_values('self', names)} == {_values('other', names)}",
        "return NotImplemented",
    ]
    self.__class__.__eq__ = _written(self.__class__, "__eq__", ("self", "other"), lines)
    return self.__class__.__eq__(self, other)


def __hash__(self: Any) -> int:  # noqa: N807 - as above
    names = [one.name for one in dataclasses.fields(self) if (one.compare if one.hash is None else one.hash)]
    self.__class__.__hash__ = _written(
        self.__class__, "__hash__", ("self",), [f"return hash({_values('self', names)})"], {}
    )
    return hash(self)


def __repr__(self: Any) -> str:  # noqa: N807 - as above
    shown = (f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def __setattr__(self: object, name: str, value: object) -> NoReturn:  # noqa: ARG001, N807 - as above
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def __delattr__(self: object, name: str) -> NoReturn:  # noqa: ARG001, N807 - as above
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def __getstate__(self: Any) -> list[Any]:  # noqa: N807 - as above
    return [getattr(self, name) for name in self.__slots__]


def __setstate__(self: Any, state: list[Any]) -> None:  # noqa: N807 - as above
    for name, value in zip(self.__slots__, state, strict=False):
        object.__setattr__(self, name, value)


_SHARED: dict[str, Any] = {
    one.__name__: one for one in (__eq__, __hash__, __repr__, __setattr__, __delattr__, __getstate__, __setstate__)
}
