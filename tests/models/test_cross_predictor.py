"""The predictor whose masked tokens attend to the visible ones only."""

import pytest
import torch

from fastvid.nn import Predictor, PredictorConfig
from fastvid.ops import multiblock_mask

GRID = (2, 4, 4)


@pytest.fixture
def predictor():
    return Predictor(24, 10, GRID, PredictorConfig(width=16, depth=2, heads=2, layout="cross"), mask_tokens=2)


@pytest.fixture
def inputs():
    visible, masked = multiblock_mask(torch.arange(2), GRID, masked=20, visible=12, seed=0, draw=0)
    return torch.randn(2, 12, 24), visible, masked


def test_a_prediction_does_not_depend_on_what_else_is_predicted(predictor, inputs):
    z, visible, masked = inputs
    whole = predictor(z, visible, masked)
    assert whole.shape == (2, 20, 10)
    torch.testing.assert_close(predictor(z, visible, masked[:, 3:7]), whole[:, 3:7], rtol=1e-4, atol=1e-5)


def test_the_order_of_visible_tokens_does_not_matter(predictor, inputs):
    z, visible, masked = inputs
    order = torch.randperm(12)
    torch.testing.assert_close(
        predictor(z[:, order], visible[:, order], masked), predictor(z, visible, masked), rtol=1e-4, atol=1e-5
    )


def test_predictions_depend_on_the_visible_tokens_and_on_the_mask_token(predictor, inputs):
    z, visible, masked = inputs
    whole = predictor(z, visible, masked)
    assert not torch.allclose(predictor(z.roll(1, 0), visible, masked), whole)
    assert not torch.allclose(predictor(z, visible, masked, which=1), whole)


def test_every_parameter_learns_and_checkpointing_changes_nothing(predictor, inputs):
    z, visible, masked = inputs
    z.requires_grad_()
    predictor(z, visible, masked).square().sum().backward()
    plain = {name: parameter.grad.clone() for name, parameter in predictor.named_parameters()}
    assert z.grad is not None
    assert all(grad.any() for grad in plain.values())
    predictor.zero_grad()
    predictor.checkpointing = True
    predictor(z, visible, masked).square().sum().backward()
    for name, parameter in predictor.named_parameters():
        torch.testing.assert_close(parameter.grad, plain[name])


def test_what_is_predicted_for_masked_tokens_does_not_depend_on_the_visible_ones_being_predicted(predictor, inputs):
    z, visible, masked = inputs
    whole = predictor(z, visible, masked)
    predictor.context_head = torch.nn.Linear(16, 10)
    both = predictor(z, visible, masked)
    assert both.shape == (2, 32, 10)
    torch.testing.assert_close(both[:, :20], whole, rtol=1e-4, atol=1e-5)


def test_mimetic_initialisation_ties_query_and_key():
    tied = Predictor(24, 10, GRID, PredictorConfig(width=16, depth=1, heads=2, layout="cross"), init="mimetic").blocks[
        0
    ]
    key, value = tied.key_value.weight.chunk(2)
    assert torch.equal(tied.query.weight, key)
    assert not torch.equal(key, value)
