import pytest
import torch

from fastvid.ops import covariance_penalty, variance_penalty


def test_variance_penalty_is_the_mean_hinge_on_deviations():
    x = torch.randn(4, 50, 8, dtype=torch.float64) * torch.linspace(0.1, 2, 8)
    std = x.flatten(0, 1).std(0)
    expected = (1 - std).clamp(min=0).mean()
    assert variance_penalty(x, eps=0.0) == pytest.approx(expected.item())
    assert variance_penalty(10 * x) == pytest.approx(0.0, abs=1e-12) or (10 * std < 1).any()


def test_covariance_penalty_is_zero_for_independent_dimensions_only():
    x = torch.randn(4000, 6, dtype=torch.float64)
    cov = torch.cov(x.T)
    off = cov - cov.diag().diag()
    assert covariance_penalty(x) == pytest.approx((off.square().sum() / 6).item())
    assert covariance_penalty(x[:, :1].expand(-1, 6)) == pytest.approx(5 * cov[0, 0].item() ** 2)


@pytest.mark.parametrize("penalty", [variance_penalty, covariance_penalty])
def test_gradients_and_dtypes(penalty):
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(penalty, (x,))
    assert penalty(torch.randn(3, 4, 5).bfloat16()).dtype == torch.float32
    collapsed = torch.ones(8, 4, requires_grad=True)
    penalty(collapsed).backward()
    assert bool(torch.isfinite(collapsed.grad).all())
    with pytest.raises(ValueError, match="at least two samples"):
        penalty(torch.randn(1, 4))


def test_autocast_does_not_round_the_covariance():
    x = torch.randn(4096, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(covariance_penalty(x), covariance_penalty(x.double()).float(), rtol=1e-4, atol=1e-6)
