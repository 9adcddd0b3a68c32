"""Times as an operator writes them: exact, in UTC, and refused where they could mean two things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.time_text import NoMoment, moment

NOW = datetime(2026, 1, 31, 9, 30, 15, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-30T14:32:05Z", datetime(2026, 1, 30, 14, 32, 5, tzinfo=UTC)),
        ("2026-01-30T14:32:05.000001+02:00", datetime(2026, 1, 30, 12, 32, 5, 1, tzinfo=UTC)),
        ("2026-01-30 14:32", datetime(2026, 1, 30, 14, 32, tzinfo=UTC)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("20260130", datetime(2026, 1, 30, tzinfo=UTC)),
        ("14:32", datetime(2026, 1, 31, 14, 32, tzinfo=UTC)),
        ("14:32:05Z", datetime(2026, 1, 31, 14, 32, 5, tzinfo=UTC)),
        ("01:00+05:30", datetime(2026, 1, 30, 19, 30, tzinfo=UTC)),
        ("2h", NOW - timedelta(hours=2)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("15min ago", NOW - timedelta(minutes=15)),
        ("2w1d", NOW - timedelta(days=15)),
        ("0s", NOW),
        ("now", NOW),
        (" Today ", datetime(2026, 1, 31, tzinfo=UTC)),
        ("yesterday", datetime(2026, 1, 30, tzinfo=UTC)),
    ],
)
def test_each_form_names_its_moment(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected
    assert moment(text, NOW).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "1432",
        "2026",
        "14",
        "25:00",
        "2026-02-30",
        "2 hours",
        "-2h",
        "h",
        "9999999999d",
        "0001-01-01T00:00+01:00",
    ],
)
def test_what_names_no_moment_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(NoMoment) as caught:
        moment(text, NOW)
    assert repr(text) in str(caught.value)
    assert "2026-01-31T14:32:05Z" in str(caught.value)
    assert "UTC" in str(caught.value)


def test_a_time_of_day_is_that_of_the_day_where_its_zone_is() -> None:
    late = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)

    assert moment("08:00+09:00", late) == datetime(2026, 2, 1, 8, tzinfo=timezone(timedelta(hours=9)))


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_what_is_printed_is_read_back(at: datetime) -> None:
    assert moment(at.isoformat(), NOW) == at
