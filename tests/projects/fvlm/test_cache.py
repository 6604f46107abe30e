"""The cache of keys and values: what it returns, what a token costs, and that a fork goes on by itself."""

import torch

from fastvid.projects.fvlm.cache import GrowingLayer, fork, new_cache


def tokens(count, seed=0):
    """Keys and values [2, 3, count, 4]."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, count, 4, generator=random), torch.randn(2, 3, count, 4, generator=random)


@torch.no_grad()
def test_a_thousand_tokens_move_a_few_times_only():
    layer, (keys, values) = GrowingLayer(), tokens(1000)
    places = set()
    for t in range(1000):
        kept = layer.update(keys[:, :, t : t + 1], values[:, :, t : t + 1])
        places.add(kept[0].data_ptr())
    assert len(places) <= 6  # the first token itself, and memory for 64, 130, ...
    assert torch.equal(kept[0], keys)
    assert torch.equal(kept[1], values)
    assert layer.get_seq_length() == 1000


@torch.no_grad()
def test_a_fork_and_its_origin_do_not_see_each_other():
    cache, first = new_cache(), tokens(3)
    cache.update(*first, 0)
    cache.update(*tokens(2, seed=1), 0)  # in memory that has room for more
    other = fork(cache)
    one, two = cache.update(*tokens(1, seed=2), 0)[0], other.update(*tokens(1, seed=3), 0)[0]
    front = torch.cat([first[0], tokens(2, seed=1)[0]], 2)
    assert torch.equal(one, torch.cat([front, tokens(1, seed=2)[0]], 2))
    assert torch.equal(two, torch.cat([front, tokens(1, seed=3)[0]], 2))
    assert torch.equal(cache.update(*tokens(1, seed=4), 0)[0][:, :, :6], one)


def test_gradients_reach_every_token():
    layer, parts = GrowingLayer(), [tokens(2, seed)[0].requires_grad_() for seed in range(3)]
    for part in parts:
        keys, _ = layer.update(part, part)
    weight = torch.arange(keys.numel()).view_as(keys).float()
    (keys * weight).sum().backward()
    assert torch.equal(torch.cat([part.grad for part in parts], 2), weight)


def test_what_was_read_without_a_gradient_can_be_gone_on_from_with_one():
    layer, front, new = GrowingLayer(), tokens(3), tokens(2, seed=1)
    with torch.no_grad():
        layer.update(*front)
        layer.update(*tokens(1, seed=2))
    key = new[0].requires_grad_()
    keys, _ = layer.update(key, new[1])
    assert torch.equal(keys.detach(), torch.cat([front[0], tokens(1, seed=2)[0], new[0].detach()], 2))
    keys.sum().backward()
    assert torch.equal(key.grad, torch.ones_like(key))
