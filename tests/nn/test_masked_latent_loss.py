import pytest
import torch

from fastvid.nn import MaskedLatentLoss
from fastvid.ops import masked_latent_loss, quantize_tokens


def test_it_is_the_function():
    pred, target = torch.randn(2, 3, 8, requires_grad=True), torch.randn(2, 6, 8)
    masked = torch.tensor([[0, 2, 5], [1, 3, 4]])
    module = MaskedLatentLoss("smooth_l1", normalize_target=False)
    assert torch.equal(module(pred, target, masked), masked_latent_loss(pred, target, masked, kind="smooth_l1"))
    values, scale = quantize_tokens(target)
    expected = masked_latent_loss(pred, values, masked, kind="smooth_l1", target_scale=scale)
    assert torch.equal(module(pred, values, masked, scale), expected)
    weight = torch.tensor([[1.0, 0.0, 2.0], [0.5, 3.0, 0.0]])
    expected = masked_latent_loss(pred, target, masked, kind="smooth_l1", weight=weight)
    assert torch.equal(module(pred, target, masked, weight=weight), expected)
    assert str(module) == "MaskedLatentLoss(kind='smooth_l1', normalize_target=False)"


def test_an_unknown_kind_is_refused_when_it_is_made():
    with pytest.raises(ValueError, match="kind must be one of mse, l1, smooth_l1, cosine; got 'huber'"):
        MaskedLatentLoss("huber")
