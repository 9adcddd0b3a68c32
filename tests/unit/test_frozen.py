"""What brokers.frozen makes is the dataclass that the standard library makes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, is_dataclass, replace
from functools import partial
from inspect import getdoc, signature
from typing import Any, Generic, NamedTuple, TypeVar

import pytest

from actors.book.orders import BookOrder
from actors.book.payloads import BookedFill
from actors.events import Event
from brokers.frozen import MANY_FIELDS, dataclass
from brokers.model import Complete, Fill, Unsupported

Item = TypeVar("Item")


class Both(NamedTuple):
    """The same class, made by each."""

    ours: Any
    plain: Any


def small(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Small:
        """Of few fields."""

        name: str
        parts: tuple[str, ...] = ()
        note: object = field(default=None, compare=False, repr=False)
        owners: dict[str, str] = field(default_factory=dict, hash=False)

    return Small


def large(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Large:
        """Of many fields."""

        name: str
        parts: tuple[str, ...] = ()
        note: object = field(default=None, compare=False, repr=False)
        owners: dict[str, str] = field(default_factory=dict, hash=False)
        left: int = 1
        right: int = 2
        above: str | None = None

    return Large


BOTH = [Both(make(dataclass), make(dataclasses.dataclass)) for make in (small, large)]
SmallHere, LargeHere = (one.ours for one in BOTH)
for name, kind in (("SmallHere", SmallHere), ("LargeHere", LargeHere)):
    kind.__qualname__ = name  # pickle finds them by it


@pytest.fixture(params=[small, large], ids=["few fields", "many fields"])
def both(request: pytest.FixtureRequest) -> Both:
    make: Callable[[Any], Any] = request.param
    return Both(make(dataclass), make(dataclasses.dataclass))


def test_one_of_these_has_few_fields_and_one_has_many() -> None:
    assert len(fields(SmallHere)) < MANY_FIELDS <= len(fields(LargeHere))


def test_an_object_is_made_compared_hashed_and_shown_as_one_of_the_standard_library(both: Both) -> None:
    for kind in both:
        one, other = kind("a", ("b",)), kind(parts=("b",), name="a", note="beside")
        assert type(one) is kind
        assert one == other
        assert hash(one) == hash(other) == hash(kind("a", ("b",), owners={"c": "d"}))
        assert one != kind("a", ("b",), owners={"c": "d"})
        assert one != kind("c", ("b",))
        assert one != ("a", ("b",))
        assert one.owners == {}
        assert one.owners is not other.owners
        assert other.note == "beside"
    assert repr(both.ours("a")) == repr(both.plain("a"))
    assert hash(both.ours("a")) == hash(both.plain("a"))
    assert both.ours("a") != both.plain("a")


def test_its_class_says_of_itself_what_one_of_the_standard_library_says(both: Both) -> None:
    ours, plain = both
    assert str(signature(ours)) == str(signature(plain))
    assert ours.__init__.__annotations__ == plain.__init__.__annotations__
    assert (ours.__init__.__module__, ours.__init__.__qualname__) == (ours.__module__, plain.__init__.__qualname__)
    assert [(one.name, one.type, one.compare) for one in fields(ours)] == [
        (one.name, one.type, one.compare) for one in fields(plain)
    ]
    assert repr(ours.__dataclass_params__) == repr(plain.__dataclass_params__)
    for attribute in ("__slots__", "__match_args__", "__module__", "__qualname__", "__doc__", "__bases__"):
        assert getattr(ours, attribute) == getattr(plain, attribute)
    assert is_dataclass(ours)
    assert getdoc(ours)


def test_it_is_replaced_copied_and_turned_into_a_dict_as_before(both: Both) -> None:
    one = both.ours("a", ("b",), "beside", {"c": "d"})
    assert replace(one, name="e") == both.ours("e", ("b",), "beside", {"c": "d"})
    assert replace(one, name="e").note == "beside"
    assert copy.copy(one) == copy.deepcopy(one) == one
    assert asdict(one) == asdict(both.plain("a", ("b",), "beside", {"c": "d"}))


def test_its_pickled_form_is_that_of_the_standard_library(both: Both) -> None:
    ours, plain = (kind("a", ("b",), "beside").__reduce_ex__(4) for kind in both)
    assert ours[2] == plain[2]
    assert (ours[0], ours[3:]) == (plain[0], plain[3:])
    for kind in (SmallHere, LargeHere):
        again = pickle.loads(pickle.dumps(kind("a", ("b",), "beside")))  # noqa: S301 - our own
        assert (again, again.note, type(again)) == (kind("a", ("b",)), "beside", kind)


def test_it_stays_frozen(both: Both) -> None:
    made = both.ours("a")
    for change in (
        partial(setattr, made, "name", "b"),
        partial(delattr, made, "name"),
        partial(setattr, made, "new", 1),
    ):
        with pytest.raises(FrozenInstanceError):
            change()
    assert made.name == "a"
    assert not hasattr(made, "__dict__")


def test_a_wrong_call_names_what_is_wrong(both: Both) -> None:
    for wrong in ((), range(9)):
        with pytest.raises(TypeError) as ours:
            both.ours(*wrong)
        with pytest.raises(TypeError) as plain:
            both.plain(*wrong)
        assert str(ours.value) == str(plain.value)


def test_a_class_keeps_the_methods_that_it_has() -> None:
    @dataclass(frozen=True, slots=True)
    class Secret:
        """Shows nothing, and refuses nothing at all."""

        word: str

        def __post_init__(self) -> None:
            if not self.word:
                raise ValueError("empty")

        def __repr__(self) -> str:
            return "***"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Secret)

    assert repr(Secret("a")) == "***"
    assert Secret("a") == Secret("b")
    assert hash(Secret("a")) == hash(("a",))
    with pytest.raises(ValueError, match="empty"):
        Secret("")


def test_a_class_without_fields_and_a_generic_one_are_made_too() -> None:
    assert Unsupported() == Unsupported()
    assert hash(Unsupported()) == hash(())
    with pytest.raises(TypeError, match=r"takes 1 positional argument but 2 were given"):
        Unsupported(1)  # type: ignore[call-arg]  # that is the test
    rows: Any = (1,)
    assert Complete(rows) == Complete[Fill](rows)

    @dataclass(frozen=True, slots=True)
    class Wide(Generic[Item]):
        """Generic, and of many fields."""

        a: Item
        b: Item
        c: Item
        d: Item
        e: Item
        f: Item

    assert len(fields(Wide)) >= MANY_FIELDS
    assert Wide[int](1, 2, 3, 4, 5, 6) == Wide(1, 2, 3, 4, 5, 6)
    assert Wide(1, 2, 3, 4, 5, 6).f == 6


def test_a_subclass_is_refused() -> None:
    """The object that its constructor makes would be one of the class above it."""
    with pytest.raises(TypeError, match="has no subclasses"):
        type("More", (Unsupported,), {})


def test_what_is_not_frozen_and_slotted_is_left_to_the_standard_library() -> None:
    @dataclass(slots=True)
    class Mutable:
        """Changes."""

        number: int

    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        """Is sorted."""

        number: int

    made = Mutable(1)
    made.number = 2
    assert made == Mutable(2)
    assert sorted([Ordered(2), Ordered(1)]) == [Ordered(1), Ordered(2)]


@pytest.mark.parametrize("kind", [Event, BookOrder, BookedFill])
def test_each_class_of_the_house_is_made_field_by_field_as_it_declares_them(kind: type) -> None:
    given = {one.name: object() for one in fields(kind)}
    made = kind(**given)
    assert {name: getattr(made, name) for name in given} == given
    assert kind(*given.values()) == made


def test_every_frozen_class_in_the_process_of_an_instrument_is_made_here() -> None:
    """One that the standard library makes costs the start of each process half a millisecond."""
    code = (
        "import dataclasses, sys, actors.instrument.actor\n"
        "own = [one for name, module in sys.modules.items() if name.startswith(('actors.', 'brokers.'))"
        " for one in vars(module).values() if isinstance(one, type) and dataclasses.is_dataclass(one)]\n"
        "assert len(own) > 50\n"
        "print(*{one.__qualname__ for one in own if one.__dataclass_params__.frozen"
        " and not one.__dataclass_params__.order and one.__setattr__.__module__ != 'brokers.frozen'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
