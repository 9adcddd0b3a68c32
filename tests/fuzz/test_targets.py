"""Each target takes its own samples, and some that were changed: what the fuzzer does for minutes, in a moment."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.mutator import mutated
from tests.fuzz.target import Kind, Target
from tests.fuzz.targets import TARGETS, made

EXAMPLES = 60
REFUSED = {("evidence", "a time stamp")}
"""Whose samples are no whole ones: a server has to sign those."""


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_from_outside_nothing_but_the_declared_errors_comes_out(name: str) -> None:
    target = made(name)
    samples = target.samples()
    read = {sample[0] for sample in samples if target.feed(sample)}
    lacking = {(name, way) for place, way in enumerate(target.kinds) if place not in read}
    assert lacking <= REFUSED, "a way in that takes none of its own samples is hardly tried"
    chance = random.Random(name)  # noqa: S311 - nothing secret rests on it
    for _ in range(EXAMPLES):
        target.feed(mutated(chance.choice(samples), chance))


def test_what_is_none_of_the_declared_errors_is_a_find() -> None:
    def broken(_: bytes) -> None:
        raise KeyError("x")

    target = Target({"broken": Kind(broken, (ValueError,), (b"x",))}, ())
    with pytest.raises(KeyError):
        target.feed(b"\0x")
