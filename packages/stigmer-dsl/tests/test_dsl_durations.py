# ruff: noqa: E501 - tables, one row to a line

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stigmer_dsl import DurationError, durations
from stigmer_dsl.model import Duration


@pytest.mark.requirement("duration")
@pytest.mark.parametrize(
    ("value", "length"),
    [
        ({"seconds": 5}, timedelta(seconds=5)),
        ({"days": 1, "hours": 2, "minutes": 3, "seconds": 4, "milliseconds": 5}, timedelta(1, 7384, milliseconds=5)),
        ({"seconds": 5.0}, timedelta(seconds=5)),
        (Duration(minutes=2), timedelta(minutes=2)),
        (timedelta(hours=1), timedelta(hours=1)),
        ("PT15S", timedelta(seconds=15)),
        (" PT0.25S ", timedelta(milliseconds=250)),
        ("PT1,5H", timedelta(minutes=90)),
        ("P3DT4H5M6S", timedelta(days=3, hours=4, minutes=5, seconds=6)),
        ("P2W", timedelta(weeks=2)),
        ("P1Y2M", timedelta(days=425)),
        ("PT0S", timedelta(0)),
    ],
)
def test_a_duration_has_its_length(value: object, length: timedelta) -> None:
    assert durations.parse(value) == length


@pytest.mark.requirement("duration")
@pytest.mark.parametrize(
    "value",
    [
        "", "P", "PT", "P1DT", "5", "5s", "PT5", "-PT5S", "P-1D", "P1S", "PT1D", "P٣D", "P1D ago", "P" + "9" * 400 + "Y",
        "P999999999999D", {}, {"second": 1}, {"seconds": -1}, {"seconds": "1"}, {"seconds": True}, {"seconds": 1.5},
        {"days": 10**12}, {"days": 10**400}, 5, None, [1],
    ],
)  # fmt: skip
def test_anything_else_is_an_error(value: object) -> None:
    with pytest.raises(DurationError):
        durations.parse(value)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3000)))
def test_a_length_written_as_text_is_read_back(length: timedelta) -> None:
    assert durations.parse(durations.to_text(length)) == length


@given(st.text(alphabet="PTYMWDHS0123456789.,- ", max_size=15))
def test_any_text_is_a_duration_or_an_error(text: str) -> None:
    with contextlib.suppress(DurationError):
        assert durations.parse(text) >= timedelta(0)
