from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastvid.command import UserError
from fastvid.data import EvaluationDraws, Quarantine, eval_batches, open_source
from fastvid.eval import Accuracy, attentive_probe, knn_probe, linear_probe, rank_me, wilson_interval
from fastvid.eval.attentive import AttentiveClassifier
from fastvid.eval.features import Features, ProbeEntry, extract
from fastvid.eval.health import FeatureHealth, mean_predictor_loss
from fastvid.eval.options import ProbeOptions
from fastvid.eval.suite import ProbeData, run_probes
from fastvid.ops import masked_latent_loss, sample_id
from fastvid.video import ViewSpec
from tests.video.clips import encode


def test_wilson_intervals_are_the_published_ones():
    low, high = wilson_interval(10, 20)
    assert (low, high) == pytest.approx((0.2993, 0.7007), abs=1e-4)
    for total in range(1, 1000):  # rounding leaves neither end outside
        assert wilson_interval(0, total)[0] == 0.0
        assert wilson_interval(total, total)[1] == 1.0
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_the_interval_covers_as_often_as_it_says():
    torch.manual_seed(0)
    counts = torch.binomial(torch.full((4000,), 50.0), torch.tensor(0.3))
    covered = [wilson_interval(int(c), 50)[0] <= 0.3 <= wilson_interval(int(c), 50)[1] for c in counts]
    assert 0.93 < sum(covered) / 4000 < 0.97


def made_features(signal: float, n: int = 400, classes: int = 3, seed: int = 0) -> Features:
    """Tokens in which one of eight tokens carries the class, with the given strength."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, 32, generator=torch.Generator().manual_seed(9))
    tokens = torch.randn(n, 8, 32, generator=g)
    where = torch.randint(8, (n,), generator=g)
    tokens[torch.arange(n), where] += signal * centres[labels]
    return Features(tokens.mean(1), tokens.half(), labels)


PROBES = {
    "knn": lambda a, b: knn_probe(a, b),
    "linear": lambda a, b: linear_probe(a, b),
    "attentive": lambda a, b: attentive_probe(a, b, epochs=10, device=torch.device("cpu")),
}


@pytest.mark.parametrize("probe", PROBES)
def test_probes_find_what_is_there_and_nothing_else(probe):
    found = PROBES[probe](made_features(8.0), made_features(8.0, seed=1))
    assert found.value > 0.85
    assert found.total == 400
    absent = PROBES[probe](made_features(0.0), made_features(0.0, seed=1))
    low, high = absent.interval
    assert low - 0.03 < 1 / 3 < high + 0.03


@pytest.mark.parametrize("probe", PROBES)
def test_probes_are_deterministic_and_leave_randomness_alone(probe):
    a, b = made_features(1.0), made_features(1.0, seed=1)
    state = torch.random.get_rng_state()
    assert PROBES[probe](a, b) == PROBES[probe](a, b)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_accuracy_prints_with_its_interval():
    assert str(Accuracy(10, 20)) == "50.0 % [29.9, 70.1]"
    assert Accuracy.from_predictions(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 0])) == Accuracy(2, 3)


def test_rank_me_counts_dimensions():
    torch.manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(500, 16))
    assert rank_me(q) == pytest.approx(16, rel=1e-3)
    assert rank_me(q[:, :4] @ torch.randn(4, 16)) < 4.1
    assert rank_me(torch.ones(100, 8)) == pytest.approx(1, abs=1e-3)


def test_collapse_is_noticed():
    torch.manual_seed(0)
    healthy = FeatureHealth.from_tokens(torch.randn(16, 32, 24))
    assert healthy.problems("student") == []
    assert healthy.rank > 20
    constant = FeatureHealth.from_tokens(torch.randn(1, 1, 24).expand(16, 32, 24))
    assert any("complete collapse" in p for p in constant.problems("student"))
    line = FeatureHealth.from_tokens(torch.randn(16, 32, 1) * torch.randn(24))
    assert any("dimensional collapse" in p for p in line.problems("student"))
    positions_only = FeatureHealth.from_tokens(torch.randn(1, 32, 24).expand(16, 32, 24))
    assert any("no difference between clips" in p for p in positions_only.problems("student"))


@pytest.mark.parametrize("kind", ["mse", "l1", "smooth_l1", "cosine"])
def test_no_constant_beats_the_mean_predictor(kind):
    torch.manual_seed(0)
    targets = torch.randn(300, 12) * 2 + 1
    bound = mean_predictor_loss(targets, kind)
    rows = torch.arange(300)[None]
    for offset in (0.0, 0.3, -0.5):
        guess = (targets.mean(0) + offset).expand(1, 300, 12)
        reached = float(masked_latent_loss(guess, targets[None], rows, kind=kind))
        assert reached >= bound * (1 - 0.02)


class Statistics(nn.Module):
    """An "encoder" of a clip's mean colour, per time slot and corner."""

    def forward(self, clip):
        x = clip.float().unflatten(3, (2, -1)).unflatten(2, (2, -1)).unflatten(1, (2, -1))
        return x.mean((2, 4, 6)).flatten(1, 3) / 255  # [B, 8, 3]


def test_features_of_videos(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(3):
            (tmp_path / label / f"{i}.mp4").write_bytes(encode(6))
    (tmp_path / "a" / "bad.mp4").write_bytes(b"rubbish")
    source = open_source(tmp_path)
    grid, views = (2, 2, 2), ViewSpec(frames=4, size=32)
    who = [ProbeEntry("moving", Statistics(), grid), ProbeEntry("still", Statistics(), grid, still=True)]
    device = torch.device("cpu")

    def batches(rows):
        return eval_batches(source, rows, EvaluationDraws(views), batch=2, quarantine=Quarantine())

    moving, still = extract(who, batches(range(7)), ["a", "b"], device=device)
    assert moving.pooled.shape == (6, 6)
    assert moving.tokens.shape == (6, 8, 3)
    assert moving.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(still.pooled[:, :3], still.pooled[:, 3:])  # every moment is the same
    assert not torch.equal(moving.pooled[:, :3], moving.pooled[:, 3:])
    few = extract(who, batches(range(7)), ["a", "b"], device=device, token_bytes=250)
    assert len(few[0].tokens) == 2
    assert len(few[0].pooled) == 6
    bad = [i for i, s in enumerate(source.samples) if "bad" in s.key]
    with pytest.raises(UserError, match="no video could be decoded"):
        extract(who, batches(bad), ["a", "b"], device=device)


def test_the_suite_makes_a_table(tmp_path, caplog):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(8):
            (tmp_path / label / f"{i}.mp4").write_bytes(encode(6 if label == "a" else 40))
    source = open_source(tmp_path)
    who = [ProbeEntry("statistics", Statistics(), (2, 2, 2))]
    views, cpu = ViewSpec(frames=4, size=32, sampling="stride", stride=1), torch.device("cpu")
    data, options = ProbeData(source, source, ["a", "b"], views), ProbeOptions(attentive_epochs=1, neighbours=3)
    result = run_probes(who, data, options, device=cpu)
    assert (result["train"], result["test"], result["chance"]) == (16, 16, 0.5)
    fewer = run_probes(who, data, replace(options, test=10), device=cpu)
    (few,) = fewer["rows"]
    assert few["knn"]["total"] == 10
    # Were they the first ten in the order of the folders, a constant answer would score 80 %.
    chosen = sorted(source.samples, key=lambda sample: sample_id(sample.key))[:10]
    assert {sample.label for sample in chosen[:4]} == {"a", "b"}
    assert "classes have no video" not in caplog.text
    broken = tmp_path / "c" / "0.mp4"
    broken.parent.mkdir()
    broken.write_bytes(b"rubbish")
    run_probes(who, ProbeData(source, open_source(tmp_path), ["a", "b", "c"], views), options, device=cpu)
    for purpose in ("to fit on", "to test on"):
        assert f"1 of 3 classes have no video {purpose} that can be used: c" in caplog.text
    (row,) = result["rows"]
    assert row["encoder"] == "statistics"
    assert row["knn"]["accuracy"] == 1.0
    assert 0 < row["linear"]["low"] < row["linear"]["accuracy"] <= row["linear"]["high"] <= 1


def test_the_attentive_probe_is_attention_with_a_learnt_query():
    torch.manual_seed(0)
    x = F.layer_norm(torch.randn(3, 10, 12), (12,))
    query, key, value = torch.randn(2, 6), torch.randn(2, 6, 12), torch.randn(2, 6, 12)
    k, v = (torch.einsum("bne,hde->bhnd", x, w) for w in (key, value))
    expected = F.scaled_dot_product_attention(query[None, :, None].expand(3, -1, -1, -1), k, v).flatten(1)
    probe = AttentiveClassifier(12, 4, heads=2)
    with torch.no_grad():
        probe.query.copy_(torch.einsum("hd,hde->he", query, key) / 6**0.5)
        probe.value.copy_(value)
        probe.out, probe.mlp, probe.classifier = nn.Identity(), nn.Linear(12, 12), nn.Identity()
        probe.mlp.weight.zero_(), probe.mlp.bias.zero_()
        torch.testing.assert_close(probe(x), expected, rtol=1e-4, atol=1e-5)
