import pytest
import torch

from fastvid.projects.salt.config import MaskConfig
from fastvid.projects.salt.masks import MaskSampler


@pytest.mark.parametrize("specs", [("multiblock",), ("salt",), ("vjepa_short", "vjepa_long"), ("tube",), ("random",)])
def test_masks_of_a_step(specs):
    sampler = MaskSampler(MaskConfig(specs=specs, ratio=0.75), (4, 6, 6), 20, seed=0, stage="salt")
    ids = torch.arange(5)
    masks = sampler(ids, 3)
    assert len(masks) == len(specs)
    for (visible, masked), (n_masked, n_visible) in zip(masks, sampler.counts, strict=True):
        assert visible.shape == (5, n_visible)
        assert masked.shape == (5, min(20, n_masked))
        assert bool((masked.diff(dim=1) > 0).all())
        assert not set(visible[0].tolist()) & set(masked[0].tolist())
    again, other = sampler(ids, 3), sampler(ids, 4)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(masks, again, strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(masks, other, strict=True))
    whole = sampler.whole(ids, 3)[1]
    assert all(set(row.tolist()) <= set(all_.tolist()) for row, all_ in zip(masks[0][1], whole, strict=True))
    apart = MaskSampler(MaskConfig(specs=specs, ratio=0.75), (4, 6, 6), 20, seed=0, stage="pixel")(ids, 3)
    assert not torch.equal(apart[0][1], masks[0][1])


def test_a_predicted_subset_is_drawn_evenly():
    sampler = MaskSampler(MaskConfig(specs=("tube",), ratio=0.5), (4, 4, 4), 8, seed=0, stage="salt")
    whole, chosen = torch.zeros(64), torch.zeros(64)
    for draw in range(300):
        ids = torch.arange(16)
        chosen += torch.bincount(sampler(ids, draw)[0][1].flatten(), minlength=64)
        whole += torch.bincount(sampler.whole(ids, draw)[1].flatten(), minlength=64)
    assert (chosen / whole).std() < 0.02


def test_masks_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"mask ratio 0\.99 leaves 0 visible"):
        MaskSampler(MaskConfig(ratio=0.99), (2, 2, 2), None, 0, "salt")
