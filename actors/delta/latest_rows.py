"""The newest row of each leg among many rows, by arrays: a million rows take tens of milliseconds.

The law of this module: of rows of one time the one that came last counts, and where they differ that is told with it
(``tied``), as a table that was rewritten no longer has the order in which its rows came.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

KEY, LEG, TIME, ORDER, TIED = "key", "leg", "time", "order", "tied"
COMPARED = ("quantity", "price")

Numbers = npt.NDArray[np.int64]


def latest(rows: pa.Table) -> pa.Table:
    """The newest row of each key and leg. ``rows`` are in the order in which they came; keys and times are not null,
    times are whole numbers. The answer has no key and leg twice, and is in the order of ``rows``."""
    if not rows.num_rows:
        return rows
    subjects, how_many = _subjects(rows)
    place = np.arange(rows.num_rows)
    for column in (TIME, ORDER):
        if column in rows.column_names:
            values = rows[column].to_numpy()
            best = np.full(how_many, np.iinfo(np.int64).min)
            np.maximum.at(best, subjects[place], values[place])
            place = place[values[place] == best[subjects[place]]]
    winner = np.full(how_many, -1)
    winner[subjects[place]] = place  # of several the last one stays
    tied = rows[TIED].to_numpy(zero_copy_only=False).copy()
    losers = place[winner[subjects[place]] != place]
    if len(losers):
        won = winner[subjects[losers]]
        differ = np.zeros(len(losers), dtype=bool)
        for column in COMPARED:
            differ |= _differ(rows[column].take(losers), rows[column].take(won))
        tied[won[differ | tied[losers]]] = True
    found = np.sort(winner[winner >= 0])
    made = rows.take(found)
    return made.set_column(made.column_names.index(TIED), TIED, pa.array(tied[found]))


def _subjects(rows: pa.Table) -> tuple[Numbers, int]:
    """A number for each key and leg, and how many numbers there are."""
    keys, names = _codes(rows[KEY])
    legs, sides = _codes(rows[LEG])
    both = keys.astype(np.int64) * sides + legs
    if names * sides <= 4 * rows.num_rows + 1024:
        return both, names * sides
    _, dense = np.unique(both, return_inverse=True)
    return dense.astype(np.int64), int(dense.max()) + 1


def _codes(column: pa.ChunkedArray) -> tuple[Numbers, int]:
    encoded = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    return whole.indices.to_numpy(zero_copy_only=False), max(1, len(whole.dictionary))


def _differ(one: pa.ChunkedArray, other: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Where two columns differ; null equals null, and nothing else."""
    unequal = pc.fill_null(pc.not_equal(one, other), False)
    lacking = pc.not_equal(pc.is_null(one), pc.is_null(other))
    either: npt.NDArray[np.bool_] = pc.or_(unequal, lacking).to_numpy(zero_copy_only=False)
    return either
