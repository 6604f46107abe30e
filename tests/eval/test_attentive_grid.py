"""V-JEPA 2's attentive probe and its grid."""

import pytest
import torch

from fastvid.command import UserError
from fastvid.eval import attentive_grid
from fastvid.eval.attentive_grid import GRID, AttentiveHead, attentive_grid_probe
from fastvid.eval.features import Features
from tests.eval.test_probes import made_features

CPU = torch.device("cpu")


def narrow(signal: float, n: int, seed: int = 0) -> Features:
    """4 tokens of width 16, one of which carries the class."""
    found = made_features(signal, n=n, seed=seed)
    tokens = found.tokens[:, :4, :16]
    tokens[:, 0] = (found.tokens.float().sum(1)[:, :16]).half()
    return Features(found.pooled, tokens, found.labels)


def test_the_head_is_four_blocks_with_as_many_heads_as_fit():
    head = AttentiveHead(64, 3)
    assert len(head.blocks) + 1 == 4
    assert head.read.heads == head.blocks[0].attn.num_heads == 4  # parts of 16
    assert AttentiveHead(1024, 2).read.heads == 16
    assert AttentiveHead(768, 2).read.heads == 16
    assert AttentiveHead(24, 2).read.heads == 1
    x = torch.randn(2, 10, 64)
    torch.testing.assert_close(head(x), head(x[:, torch.randperm(10)]), rtol=1e-4, atol=1e-5)  # tokens are a set


def test_the_grid_finds_what_is_there(monkeypatch):
    assert GRID[:2] == ((5e-3, 0.01), (5e-3, 0.1))
    assert len(GRID) == 20
    few = ((1e-9, 0.1), (5e-3, 0.01), (3e-3, 0.4))  # the first learns nothing
    monkeypatch.setattr(attentive_grid, "GRID", few)
    train, test = narrow(8.0, 100), narrow(8.0, 60, seed=1)
    state = torch.random.get_rng_state()
    found = attentive_grid_probe(train, test, epochs=12, batch=16, device=CPU)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [(head["lr"], head["weight_decay"]) for head in found.heads] == list(few)
    assert found.accuracy.value > 0.8
    assert found.accuracy.total == 60
    chosen = max(found.heads, key=lambda head: head["held"])
    assert chosen is not found.heads[0]
    assert found.accuracy.value == pytest.approx(chosen["test"])
    assert found.heads[0]["test"] < 0.7
    assert found.as_dict()["heads"] == found.heads


def test_the_views_of_a_video_are_averaged(monkeypatch):
    monkeypatch.setattr(attentive_grid, "GRID", GRID[:2])
    train, test = narrow(8.0, 20), narrow(8.0, 10, seed=1)
    several = Features(test.pooled, test.tokens.repeat_interleave(3, 0), test.labels, views=3)
    one, three = (attentive_grid_probe(train, part, epochs=1, device=CPU) for part in (test, several))
    assert one.accuracy == three.accuracy


def test_it_needs_videos_to_choose_by():
    with pytest.raises(UserError, match="at least 5 training videos"):
        attentive_grid_probe(narrow(1.0, 4), narrow(1.0, 4), device=CPU)
