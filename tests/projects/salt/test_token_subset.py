import pytest
import torch

from fastvid.ops import MaskSpec, multiblock_mask
from fastvid.projects.salt.config import MaskConfig
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.token_subset import TokenSubset

GRID, TOKENS = (8, 4, 4), 128
IDS = torch.arange(500)


def cached_tokens(count: int) -> torch.Tensor:
    line = (1, 1, TOKENS)
    return multiblock_mask(IDS, line, masked=count, visible=0, spec=MaskSpec.random(), seed=5, draw=0)[1]


def sampler(ratio=0.375) -> MaskSampler:
    return MaskSampler(MaskConfig(specs=("multiblock", "random"), ratio=ratio), GRID, None, 0, "salt")


def test_predicted_tokens_are_masked_and_cached_and_always_as_many():
    masks, cached = sampler(), cached_tokens(32)
    subset = TokenSubset(masks.counts, TOKENS, 32, None, seed=0)
    assert subset.predicted == [9, 9]  # 32 * 48 / 128 = 12 on average, less a standard deviation of 2.4
    for draw in range(3):
        drawn = masks(IDS, draw)
        picked, repeated = subset(drawn, cached, IDS, draw)
        repeats = 0
        for (visible, tokens), (same, masked) in zip(picked, drawn, strict=True):
            assert torch.equal(visible, same)
            assert tokens.shape == (500, 9)
            assert (tokens.diff() >= 0).all()
            for row, some, there in zip(tokens.tolist(), masked.tolist(), cached.tolist(), strict=True):
                eligible = set(some) & set(there)
                assert set(row) <= eligible
                assert len(set(row)) == min(9, len(eligible))
                repeats += 9 - len(set(row))
        assert float(repeated) == pytest.approx(repeats / (2 * 500 * 9))
        assert 0 < float(repeated) < 0.03


def test_which_are_predicted_changes_with_the_step_and_not_with_the_batch():
    masks, cached = sampler(), cached_tokens(64)
    subset = TokenSubset(masks.counts, TOKENS, 64, 8, seed=0)
    drawn = masks(IDS, 0)
    (_, first), _ = subset(drawn, cached, IDS, 0)[0]
    (_, again), _ = subset(drawn, cached, IDS, 1)[0]
    assert first.shape == (500, 8)
    assert (first != again).any(1).float().mean() > 0.99
    some = [(visible[7:9], masked[7:9]) for visible, masked in drawn]
    (_, alone), _ = subset(some, cached[7:9], IDS[7:9], 0)[0]
    assert torch.equal(alone, first[7:9])


def test_all_eligible_tokens_are_equally_likely():
    masks = sampler()
    cached = cached_tokens(64)[:1].expand(500, -1)
    drawn = [(v[:1].expand(500, -1), m[:1].expand(500, -1)) for v, m in masks(IDS, 0)]
    (_, tokens), _ = TokenSubset(masks.counts, TOKENS, 64, 5, seed=0)(drawn, cached, IDS, 0)[0]
    eligible = sorted(set(drawn[0][1][0].tolist()) & set(cached[0].tolist()))
    counts = torch.bincount(tokens.flatten(), minlength=TOKENS)[eligible].float()
    assert counts.sum() == 2500
    expected = 2500 / len(eligible)
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_a_clip_without_any_masked_token_in_the_cache_is_filled_up_and_counted():
    subset = TokenSubset([(48, 80)], TOKENS, 32, None, seed=0)
    visible, masked = torch.arange(80)[None], torch.arange(80, 128)[None]
    cached = torch.arange(32)[None]
    [(_, tokens)], repeated = subset([(visible, masked)], cached, IDS[:1], 0)
    assert tokens.shape == (1, 9)
    assert len(set(tokens[0].tolist())) == 1
    assert int(tokens[0, 0]) in range(32)
    assert float(repeated) == 1.0


def test_too_few_cached_tokens_are_refused():
    with pytest.raises(ValueError, match=r"4 of 128 tokens .* 14\.83%"):
        TokenSubset([(48, 80)], TOKENS, 4, None, seed=0)
    assert TokenSubset([(128, 0)], TOKENS, 4, None, seed=0).predicted == [4]
