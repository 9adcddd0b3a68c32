"""The newest row of each leg, by arrays, against the same in plain words."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.delta.latest_rows import KEY, LEG, ORDER, TIED, TIME, latest, newest_places

Row = tuple[str, str, int, int, int]
ROWS = st.lists(
    st.tuples(st.sampled_from("AB"), st.sampled_from("xy"), st.integers(-2, 2), st.integers(0, 1), st.integers(0, 1)),
    max_size=12,
)


def table(rows: list[Row], *, legs: bool, order: bool, chunk: int = 3) -> pa.Table:
    """A key, a leg, a time, an order and a quantity each, in chunks."""
    kind = pa.decimal128(10, 2)

    def part(of: list[Row]) -> pa.Table:
        columns = {
            KEY: pa.array([row[0] for row in of], pa.string()),
            LEG: pa.array([row[1] if legs else None for row in of], pa.string()),
            TIME: pa.array([row[2] for row in of], pa.int64()),
            "quantity": pa.array([Decimal(row[4]) for row in of], kind),
            "price": pa.nulls(len(of), pa.float64()),
            TIED: pa.array([False] * len(of), pa.bool_()),
        }
        if order:
            columns[ORDER] = pa.array([row[3] for row in of], pa.int64())
        return pa.table(columns)

    return pa.concat_tables([part([]), *(part(rows[at : at + chunk]) for at in range(0, len(rows), chunk))])


def in_words(rows: list[Row], *, legs: bool, order: bool) -> dict[tuple[str, str | None], tuple[int, bool]]:
    """The quantity of the newest row of each key and leg, and whether another of the same time differs."""
    found: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        found.setdefault((row[0], row[1] if legs else None), []).append(row)
    last_of = {}
    for subject, of in found.items():
        newest = max((row[2], row[3] if order else 0) for row in of)
        last = [row[4] for row in of if (row[2], row[3] if order else 0) == newest]
        last_of[subject] = last[-1], any(one != last[-1] for one in last)
    return last_of


def quantities_in(made: pa.Table) -> dict[tuple[str, str | None], tuple[int, bool]]:
    return {(row[KEY], row[LEG]): (int(row["quantity"]), row[TIED]) for row in made.to_pylist()}


@settings(max_examples=40)
@given(ROWS, st.booleans(), st.booleans())
def test_the_newest_row_counts_and_of_one_time_the_last(rows: list[Row], legs: bool, order: bool) -> None:
    made = latest(table(rows, legs=legs, order=order))
    assert quantities_in(made) == in_words(rows, legs=legs, order=order)
    assert made.num_rows == len(quantities_in(made))


@settings(max_examples=40)
@given(ROWS, ROWS, st.booleans(), st.booleans())
def test_what_comes_later_is_taken_in_as_if_all_had_come_at_once(
    before: list[Row], after: list[Row], legs: bool, order: bool
) -> None:
    first = latest(table(before, legs=legs, order=order))
    made = latest(pa.concat_tables([first, table(after, legs=legs, order=order)]))
    quantities, expected = quantities_in(made), in_words(before + after, legs=legs, order=order)
    assert {subject: quantity for subject, (quantity, _) in quantities.items()} == {
        subject: quantity for subject, (quantity, _) in expected.items()
    }
    assert all(quantities[subject][1] for subject, (_, tied) in expected.items() if tied), "no tie is forgotten"


@settings(max_examples=40)
@given(ROWS, st.booleans(), st.booleans())
def test_the_newest_places_have_every_row_that_may_count(rows: list[Row], legs: bool, order: bool) -> None:
    whole = table(rows, legs=legs, order=order)
    places = newest_places(whole)
    assert list(places) == sorted(places)
    assert quantities_in(latest(whole.take(pa.array(places)))) == quantities_in(latest(whole))
