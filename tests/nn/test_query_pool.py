import pytest
import torch
from torch import nn

from fastvid.nn import QueryPool


def test_it_is_multi_head_cross_attention():
    torch.manual_seed(0)
    pool, tokens = QueryPool(32, 4, queries=3), torch.randn(2, 11, 32)
    plain = nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        plain.in_proj_weight.copy_(torch.cat([pool.query.weight, pool.key_value.weight]))
        plain.in_proj_bias.copy_(torch.cat([torch.zeros(32), pool.key_value.bias]))
        plain.out_proj.load_state_dict(pool.out.state_dict())
    learnt = pool.queries.expand(2, -1, -1)
    expected, weights = plain(learnt, tokens, tokens, average_attn_weights=False)
    pooled, entropy, peak = pool(tokens, return_stats=True)
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(pool(tokens), expected)
    torch.testing.assert_close(pool(tokens, learnt), expected)
    torch.testing.assert_close(entropy, -(weights * weights.log()).sum(-1))
    assert torch.equal(peak, weights.argmax(-1))


def test_a_cache_serves_several_query_sets():
    pool, tokens = QueryPool(32, 4, queries=0), torch.randn(2, 11, 32, requires_grad=True)
    coarse, fine = torch.randn(2, 1, 32), torch.randn(2, 5, 2, 32)
    cache = pool.cache(tokens)
    torch.testing.assert_close(pool(cache, coarse), pool(tokens, coarse))
    pooled, entropy, _ = pool(cache, fine, return_stats=True)
    assert pooled.shape == fine.shape
    assert entropy.shape == (2, 5, 4, 2)
    torch.testing.assert_close(pooled[:, 3], pool(tokens, fine[:, 3]))
    (pooled.square().mean() - entropy.mean()).backward()
    assert tokens.grad.abs().sum() > 0


def test_learnt_queries_train():
    """Queries find the one token that says what is asked for, marked by a direction they do not know at first."""
    torch.manual_seed(0)
    pool = QueryPool(16, 2)
    optimizer = torch.optim.Adam(pool.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        tokens = torch.randn(32, 9, 16)
        tokens[..., 0] = 0
        place = torch.randint(9, (32,))
        tokens[torch.arange(32), place, 0] = 4
        loss = (pool(tokens)[:, 0, 1:] - tokens[torch.arange(32), place, 1:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_refusals_are_sentences():
    with pytest.raises(ValueError, match="width 30 is not divisible by 4 heads"):
        QueryPool(30, 4)
    with pytest.raises(ValueError, match="queries must be at least 0; got -1"):
        QueryPool(32, 4, queries=-1)
    pool = QueryPool(32, 4, queries=0)
    with pytest.raises(ValueError, match="learnt queries"):
        pool(torch.randn(2, 5, 32))
    with pytest.raises(ValueError, match=r"expected tokens \[B, N, 32\]; got \(2, 5, 31\)"):
        pool(torch.randn(2, 5, 31))
    with pytest.raises(ValueError, match=r"expected queries \[2, Q, 32\] or \[2, S, Q, 32\]; got \(3, 1, 32\)"):
        pool(torch.randn(2, 5, 32), torch.randn(3, 1, 32))
