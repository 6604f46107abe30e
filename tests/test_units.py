"""Sizes and times as people read them."""

import pytest

from fastvid.units import duration, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (24_576, "24.6 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),  # and not 1e+03 kB
        (999_999_999, "1 GB"),
        (51_600_000_000, "51.6 GB"),
        (999_400_000_000_000, "999 TB"),
        (1 << 50, "1,126 TB"),
    ],
)
def test_a_size_has_three_digits_and_the_unit_that_fits(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (5400, "1.5 h")])
def test_a_duration_is_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text
