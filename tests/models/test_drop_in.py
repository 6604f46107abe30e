"""The examples of the ops inside other people's models: the variants agree, and the ops keep less."""

import pytest

from benchmarks.training.drop_in import EXAMPLES, Scale, measure


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_the_same_gradients_and_keeps_less(name):
    row = measure(name, Scale(batch=2, side=48, width=48, depth=1, heads=3), "cpu", rounds=1)
    assert row["saved_bytes"]["fastvid"] < row["saved_bytes"]["plain"]
