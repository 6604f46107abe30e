"""The transformer, its loss, and what an untrained one may not reach."""

import math

import numpy as np
import pytest
import torch

from fastvid.eval.attention import log_ratios
from fastvid.projects.trajectory.batches import Draws, TokenLoader, pad
from fastvid.projects.trajectory.config import ModelConfig, StopConfig, SupervisionConfig
from fastvid.projects.trajectory.loss import TrajectoryLoss, attention_hinge, contrastive, log_ratio
from fastvid.projects.trajectory.measures import flat_scores, scores
from fastvid.projects.trajectory.model import TrajectoryModel
from fastvid.projects.trajectory.predictions import Predictor
from fastvid.projects.trajectory.stop import conditions_met, why_stop
from fastvid.projects.trajectory.track_table import TrackTable
from tests.projects.trajectory.token_sets import random_set, token_set

P, T = True, False
SIZES = ModelConfig(width=32, heads=4)


def model(seed=0, features=4, **sizes):
    torch.manual_seed(seed)
    return TrajectoryModel(ModelConfig(width=32, heads=4, **sizes), features, 4).eval()


def loaded():
    """A batch of six videos as a loader yields it."""
    return next(TokenLoader(random_set(6), "motion", Draws(0), batch=6))


def test_attention_sums_to_one_and_padding_has_none():
    batch = pad(token_set([[(P, 0, 7), (T, 1, 1)], [(P, 2, 3)]], 8), [0, 1], "motion")
    out = model()(batch)
    assert out.attention.sum(1).tolist() == pytest.approx([1, 1])
    assert (out.attention[~batch.valid] == 0).all()
    assert out.verdicts.shape == (2, 2)


def test_padding_changes_no_answer():
    tokens = token_set([[(P, 0, 7), (T, 1, 1)], [(P, 2, 3)]], 8)
    both, alone = model()(pad(tokens, [0, 1], "motion")), model()(pad(tokens, [1], "motion"))
    assert torch.allclose(both.target[1], alone.target[0], atol=1e-5)
    assert torch.allclose(both.verdicts[1, :1], alone.verdicts[0], atol=1e-5)


def test_a_video_without_any_token_is_answered_with_numbers():
    tokens = token_set([[(P, 0, 3)], [(T, 3, 3)]], 4)
    out = model()(pad(tokens, [0, 1], "motion", keep=tokens.frame < 2))
    assert torch.isfinite(out.target).all()
    assert out.attention[1].sum() == 0


def test_kept_attention_is_that_of_the_fast_path():
    batch = pad(random_set(5), range(5), "motion")
    kept = []
    assert torch.allclose(model().encode(batch), model().encode(batch, kept), atol=1e-5)
    assert len(kept) == 2
    assert torch.allclose(kept[0].sum(-1), torch.ones(kept[0].shape[:2]), atol=1e-5)
    assert (kept[0][0][:, ~batch.valid[0]] < 1e-6).all()


def test_the_ratio_of_the_loss_is_that_of_the_measure():
    tokens = random_set(6)
    batch = pad(tokens, range(6), "motion")
    out = model()(batch)
    weights = np.zeros(len(tokens.frame))
    weights[batch.rows] = out.attention.detach().flatten()[batch.where]
    measured = log_ratios(weights, tokens.persistent, tokens.offsets)
    assert log_ratio(out.attention, batch.persistent, batch.valid).tolist() == pytest.approx(measured, abs=1e-5)


def test_the_hinge_by_hand():
    """Two persistent tokens with 0.2 each and two transient ones with 0.3: r = 2/3, loss log 2 - log 2/3 = log 3. With
    0.4 and 0.1 r = 4: nothing to gain. A video of one kind does not count."""
    kinds = torch.tensor([[P, P, T, T], [P, P, T, T], [P, P, P, P]])
    attention = torch.tensor([[0.2, 0.2, 0.3, 0.3], [0.4, 0.4, 0.1, 0.1], [0.25] * 4])
    batch = pad(token_set([[(P, 0, 1), (T, 2, 3)]] * 3, 4), range(3), "motion")
    batch.persistent = kinds
    assert float(attention_hinge(attention, batch, 2.0)) == pytest.approx(math.log(3) / 2)
    one = pad(token_set([[(P, 0, 3)]], 4), [0], "motion")
    assert float(attention_hinge(torch.full((1, 4), 0.25), one, 2.0)) == 0.0


def test_the_hinge_does_not_starve_in_long_videos():
    """From uniform attention the gradient by the logits has the same size whatever the number of tokens."""
    norms = []
    for count in (8, 64):
        batch = pad(token_set([[(P, 0, count // 2 - 1), (T, count // 2, count - 1)]], count), [0], "motion")
        logits = torch.zeros(1, count, requires_grad=True)
        attention_hinge(logits.softmax(-1), batch, 2.0).backward()
        norms.append(float(logits.grad.abs().sum()))
    assert norms == pytest.approx([2.0, 2.0])


def test_the_contrastive_loss_by_hand():
    """Two pairs, each of one direction, at right angles: -log(e / (e + 2)) at temperature 1."""
    tracks = torch.tensor([[1.0, 0], [2.0, 0], [0, 1.0], [0, 3.0]])
    found = contrastive(tracks, torch.tensor([P, P, T, T]), 1.0)
    assert float(found) == pytest.approx(math.log((math.e + 2) / math.e), abs=1e-5)
    assert float(contrastive(tracks[:2], torch.tensor([P, T]), 1.0)) == 0.0


@pytest.mark.parametrize("term", [None, "attention", "contrastive", "duration"])
def test_every_worker_has_a_finite_loss_and_a_gradient_for_all_weights(term):
    module = model()
    loss, terms = TrajectoryLoss(term, SupervisionConfig(), 2)(module, loaded(), 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert set(terms) == {"target_loss", "verdict_loss", *([f"{term}_loss"] if term else [])}
    assert all(p.grad is not None for p in module.parameters())


def test_the_added_term_warms_up():
    module, batch = model(), loaded()
    first, second, plain = (
        float(TrajectoryLoss(term, SupervisionConfig(), 2)(module, batch, micro)[0].detach())
        for term, micro in (("duration", 0), ("duration", 1), (None, 0))
    )
    assert second - plain == pytest.approx(2 * (first - plain), rel=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_an_untrained_model_meets_no_condition_of_the_early_stop(seed):
    tokens = random_set(64, frames=16, seed=seed)
    table = TrackTable.from_tokens(tokens)
    found = scores(tokens, table, Predictor(model(seed), "motion")(tokens, table), "motion")
    assert conditions_met(StopConfig(), flat_scores(found)) == {
        "accuracy": False, "ratio": False, "consistency": False,
    }  # fmt: skip


def test_all_conditions_are_needed_every_few_epochs_and_by_their_lower_ends():
    good = {"accuracy_low": 0.75, "attention_ratio_low": 1.5, "consistency_low": 0.7}
    config = StopConfig()
    assert "after 5 epochs" in why_stop(config, 160, 32, good)
    assert why_stop(config, 161, 32, good) is None
    assert why_stop(config, 32 * 4, 32, good) is None
    assert why_stop(StopConfig(every=0), 160, 32, good) is None
    for name in good:
        assert why_stop(config, 160, 32, {**good, name: good[name] - 1e-3}) is None
        assert why_stop(config, 160, 32, {k: v for k, v in good.items() if k != name}) is None
