"""A quickly made class is the frozen dataclass that it was."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from inspect import signature

import pytest

from actors.book.orders import BookOrder
from actors.book.payloads import BookedFill
from actors.events import Event
from actors.frozen import quickly_made


@dataclass(frozen=True, slots=True)
class Plain:
    """What it is measured by."""

    name: str
    parts: tuple[str, ...] = ()
    note: object = field(default=None, compare=False, repr=False)


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick:
    """The same."""

    name: str
    parts: tuple[str, ...] = ()
    note: object = field(default=None, compare=False, repr=False)


def test_it_is_made_compared_shown_copied_and_pickled_as_before() -> None:
    one, other = Quick("a", ("b",)), Quick(parts=("b",), name="a", note="beside")
    assert type(one) is Quick
    assert (one, hash(one), repr(one)) == (other, hash(other), "Quick(name='a', parts=('b',))")
    assert replace(one, name="c") == Quick("c", ("b",))
    again = pickle.loads(pickle.dumps(other))  # noqa: S301 - our own
    assert (again, again.note, type(again)) == (other, "beside", Quick)
    assert str(signature(Quick)) == str(signature(Plain))


def test_it_stays_frozen() -> None:
    made = Quick("a")
    with pytest.raises(FrozenInstanceError):
        made.name = "b"  # type: ignore[misc]  # that is the test
    with pytest.raises((AttributeError, TypeError)):
        made.more = 1  # type: ignore[attr-defined]  # as above
    assert not hasattr(made, "__dict__")


def test_a_wrong_call_names_what_is_wrong() -> None:
    for wrong in ((), ("a", (), None, 4)):
        with pytest.raises(TypeError) as quick:
            Quick(*wrong)
        with pytest.raises(TypeError) as plain:
            Plain(*wrong)
        assert str(quick.value) == str(plain.value).replace("Plain", "Quick")


@pytest.mark.parametrize("kind", [Event, BookOrder, BookedFill])
def test_each_class_of_the_house_is_made_field_by_field_as_it_declares_them(kind: type) -> None:
    given = {one.name: object() for one in fields(kind)}
    made = kind(**given)
    assert {name: getattr(made, name) for name in given} == given
    assert kind(*given.values()) == made


def test_a_class_with_a_factory_is_refused_at_once() -> None:
    @dataclass(frozen=True, slots=True)
    class Made:
        parts: list[str] = field(default_factory=list)

    with pytest.raises(AssertionError):
        quickly_made(Made)
