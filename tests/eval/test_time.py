"""Probes of time: an encoder that sees the order of frames passes them, one that averages frames is at chance."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import EvaluationDraws, Quarantine, eval_batches, open_source
from fastvid.eval.accuracy import Accuracy, wilson_interval
from fastvid.eval.clip_versions import ORDERS, show, shuffled
from fastvid.eval.features import Features, ProbeEntry, extract
from fastvid.eval.official import mean_of_splits
from fastvid.eval.options import ProbeOptions
from fastvid.eval.suite import ProbeData, run_probes
from fastvid.eval.temporal import arrow_probe, order_probe
from fastvid.video import ViewSpec
from tests.eval.made_videos import brightening

CPU = torch.device("cpu")


def clips(count, frames, slots=None):
    """uint8 [count, frames, 1, 1, 3]: each frame holds its own number."""
    return torch.arange(frames, dtype=torch.uint8).view(1, -1, 1, 1, 1).expand(count, -1, 1, 1, 3)


def test_versions_of_a_clip():
    numbers = clips(1, 8)
    orders = torch.zeros(1, dtype=torch.int64)
    assert show(numbers, "static", 4, orders)[0, :, 0, 0, 0].tolist() == [4] * 8
    assert show(numbers, "reversed", 4, orders)[0, :, 0, 0, 0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert torch.equal(show(numbers, "shuffled", 4, orders), numbers)  # the first order is the one that was filmed


def test_segments_are_whole_slots_of_equal_length():
    # 16 frames in 8 slots of 2: segments of 2 slots, and 2 slots are left over at the end.
    found = shuffled(clips(6, 16), 8, torch.arange(6))[..., 0, 0, 0]
    segments = torch.arange(12).view(3, 4)
    for row, order in zip(found, ORDERS, strict=True):
        assert row.tolist() == [*segments[list(order)].flatten().tolist(), 12, 13, 14, 15]
    with pytest.raises(ValueError, match="clips of 2 time slots cannot be cut into 3 segments"):
        shuffled(clips(1, 4), 2, torch.zeros(1, dtype=torch.int64))


def test_answers_about_one_video_count_once_in_the_interval():
    assert Accuracy(30, 40, independent=20).interval == wilson_interval(15, 20)
    assert Accuracy(30, 40).interval == wilson_interval(30, 40)
    assert Accuracy(40, 40, independent=20).as_dict()["low"] == wilson_interval(20, 20)[0]


def ramp_features(n: int, seed: int, *, ordered: bool) -> Features:
    """Features of videos that get brighter, six slots of one number: of each slot, or the mean over all slots."""
    g = torch.Generator().manual_seed(seed)
    filmed = torch.arange(6.0) + torch.randn(n, 1, generator=g) + 0.1 * torch.randn(n, 6, generator=g)
    orders = torch.arange(n) % len(ORDERS)
    mixed = shuffled(filmed, 6, orders)

    def seen(x):
        return x if ordered else x.mean(1, keepdim=True).expand(-1, 6)

    versions = {"reversed": seen(filmed.flip(1)), "shuffled": seen(mixed)}
    return Features(
        seen(filmed), torch.empty(0, 0, 0), torch.zeros(n, dtype=torch.int64), orders=orders, versions=versions
    )


def test_an_encoder_that_keeps_time_tells_direction_and_order():
    train, test = ramp_features(120, 0, ordered=True), ramp_features(60, 1, ordered=True)
    arrow, order = arrow_probe(train, test), order_probe(train, test)
    assert (arrow.total, arrow.independent, order.total) == (120, 60, 60)
    assert arrow.value == order.value == 1.0


def test_an_encoder_that_averages_frames_is_at_chance():
    train, test = ramp_features(120, 0, ordered=False), ramp_features(60, 1, ordered=False)
    assert arrow_probe(train, test).value == pytest.approx(0.5, abs=0.05)  # both directions look the same
    low, high = order_probe(train, test).interval
    assert low < 1 / 6 < high


class SlotColours(nn.Module):
    """An "encoder" of the mean colour of each of 4 time slots, and of its change."""

    def forward(self, clip):
        x = clip.float().unflatten(1, (4, -1)).mean((2, 3, 4)) / 255
        return torch.cat([x, x.diff(dim=1, append=x[:, -1:])], -1)  # [B, 4, 6]


class MeanColour(SlotColours):
    """An "encoder" that averages all frames."""

    def forward(self, clip):
        return clip.float().mean((1, 2, 3))[:, None].expand(-1, 4, -1) / 255


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos that get brighter, in two classes: slowly and fast."""
    root = tmp_path_factory.mktemp("videos")
    for label, step in (("slow", 3.0), ("fast", 6.0)):
        (root / label).mkdir()
        for i in range(12):
            (root / label / f"{i}.mp4").write_bytes(brightening(20 + 8 * i, step=step))
    return open_source(root)


def probed(videos, probes, *, clips=1, entries=None, **options):
    views = ViewSpec(frames=8, size=32, sampling="stride", stride=1)
    who = entries or [
        ProbeEntry("slots", SlotColours(), (4, 1, 1)),
        ProbeEntry("mean", MeanColour(), (4, 1, 1)),
        ProbeEntry("slots, single frame", SlotColours(), (4, 1, 1), still=True),
    ]
    data = ProbeData(videos, videos, ["fast", "slow"], views, clips=clips)
    return run_probes(who, data, ProbeOptions(attentive_epochs=1, **options), probes=probes, device=CPU)


def test_probes_of_time_on_videos(videos):
    result = probed(videos, ("linear", "arrow", "order", "static", "reversed"))
    slots, mean, still = result["rows"]
    assert slots["arrow"]["accuracy"] > 0.9
    assert (slots["arrow"]["chance"], slots["arrow"]["total"], slots["order"]["chance"]) == (0.5, 48, 1 / 6)
    assert mean["arrow"]["accuracy"] == 0.5
    assert slots["order"]["accuracy"] > 0.9
    assert mean["order"]["low"] < 1 / 6 < mean["order"]["high"]
    # The class is how fast it gets brighter: nothing of it is left in a clip that stands still.
    assert slots["linear"]["accuracy"] == 1.0
    assert slots["static"]["low"] < 0.5 < slots["static"]["high"]
    assert slots["reversed"]["accuracy"] < 0.9
    assert mean["reversed"]["accuracy"] == mean["linear"]["accuracy"]
    # One frame is the same in every version: it says nothing of direction and order, and is its own still.
    assert still["arrow"]["accuracy"] == 0.5
    assert still["order"]["low"] < 1 / 6 < still["order"]["high"]
    assert still["static"] == still["reversed"] == still["linear"]


def test_a_single_frame_is_the_same_in_every_version(videos):
    views = ViewSpec(frames=8, size=32, sampling="stride", stride=1)
    batches = eval_batches(
        videos, range(12), EvaluationDraws(views), batch=6, quarantine=Quarantine(), device=CPU
    )  # fmt: skip
    who = ProbeEntry("slots, single frame", SlotColours(), (4, 1, 1), still=True)
    (found,) = extract([who], batches, [], device=CPU, versions=dict.fromkeys(("static", "reversed", "shuffled")))
    assert len(found.pooled.unique(dim=0)) > 1
    for pooled in found.versions.values():
        assert torch.equal(pooled, found.pooled)


def test_some_of_the_videos_are_shown_otherwise(videos):
    few = probed(videos, ("linear", "arrow", "order", "static"), time_videos=10, batch=5)["rows"][0]
    assert [few[name]["total"] for name in ("linear", "arrow", "order", "static")] == [24, 20, 10, 10]
    assert few["arrow"]["accuracy"] == 1.0


def test_views_of_a_test_video_are_averaged(videos):
    result = probed(videos, ("knn", "linear", "attentive", "retrieval"), clips=3, neighbours=3)
    assert result["test"] == 24
    for row in result["rows"][:2]:
        assert row["knn"]["total"] == row["linear"]["total"] == row["attentive"]["total"] == 24
        assert row["retrieval"]["by"]["labels"]["R@5"]["accuracy"] >= row["retrieval"]["accuracy"]


def test_attentive_probes_say_what_memory_left_out(videos, caplog):
    result = probed(videos, ("attentive",), token_gb=2e-6, batch=4)  # 2 kB: a few videos of three encoders
    assert result["rows"][0]["attentive"]["total"] < 24
    assert "attentive probes use these alone" in caplog.text


def test_order_needs_three_time_slots(videos):
    with pytest.raises(UserError, match="--probe order shuffles 3 segments, and the clips of x have 2 time slots"):
        probed(videos, ("order",), entries=[ProbeEntry("x", SlotColours(), (2, 1, 1))])


def test_the_mean_over_splits_counts_each_video_once():
    results = [{"accuracy": share, "chance": 0.5, "independent": 20} for share in (0.6, 0.7, 0.8)]
    found = mean_of_splits(results, 50 / 60)
    assert found["accuracy"] == pytest.approx(0.7)
    assert (found["low"], found["high"]) == wilson_interval(found["accuracy"] * 50, 50)
    assert (found["splits"], found["chance"]) == ([0.6, 0.7, 0.8], 0.5)


def test_some_videos_of_features():
    features = replace(
        ramp_features(5, 0, ordered=True), views=1, keys=list("abcde"), tokens=torch.arange(3.0).view(3, 1, 1)
    )
    some = features.select(torch.tensor([1, 2, 4]))
    assert some.keys == ["b", "c", "e"]
    assert some.tokens.flatten().tolist() == [1.0, 2.0]  # of the first two; the last one's were not kept
    assert torch.equal(some.versions["reversed"], features.versions["reversed"][[1, 2, 4]])
    two = replace(
        features, pooled=torch.arange(10.0).view(10, 1), tokens=torch.arange(6.0).view(6, 1, 1), versions={}, views=2
    )
    some = two.select(torch.tensor([0, 2, 3]))
    assert some.pooled.flatten().tolist() == [0, 1, 4, 5, 6, 7]
    assert some.tokens.flatten().tolist() == [0, 1, 4, 5]
    assert some.with_tokens().tolist() == [0, 0]
