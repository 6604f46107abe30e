import collections
import math

import numpy as np
import pytest
import torch

from fastvid.nn import augment_ops as clip_ops
from fastvid.nn.augment import Augment, beta, mixup
from fastvid.nn.augment_ops import OPS, apply_op
from fastvid.random import SampleRandom, sample_id

ALL = Augment(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, randaugment=(2, 15), seed=3)
OF_PIXELS = ("autocontrast", "equalize", "posterize", "solarize", "color", "contrast", "brightness")
FILL = torch.tensor([124, 116, 104])


def made(b: int = 4, t: int = 3, h: int = 24, w: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    clips = torch.randint(256, (b, t, h, w, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return clips, torch.tensor([sample_id(str(i)) for i in range(b)])


def test_a_clip_does_not_depend_on_its_batch():
    clips, ids = made(6)
    before = clips.clone()
    for draw in range(8):
        together = ALL(clips, ids, draw)
        assert (together.dtype, together.shape) == (torch.uint8, clips.shape)
        order = torch.tensor([4, 0, 5, 2, 1, 3])
        assert torch.equal(ALL(clips[order], ids[order], draw), together[order])
        for i in range(6):
            assert torch.equal(ALL(clips[i : i + 1], ids[i : i + 1], draw)[0], together[i])
    assert torch.equal(clips, before)


def test_ids_seeds_and_draws_make_other_augmentations():
    clips, ids = made(1)
    state = torch.random.get_rng_state()
    out = [
        Augment(0.5, 0.5, 0.5, 0.2, seed=seed)(clips, ids + other, draw)
        for seed, other, draw in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert all(not torch.equal(out[i], out[j]) for i in range(4) for j in range(i))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_all_frames_are_treated_alike():
    clips, ids = made(8, t=1)
    still = clips.expand(-1, 4, -1, -1, -1)
    changed = 0
    for draw in range(6):
        out = ALL(still, ids, draw)
        assert (out == out[:, :1]).all()
        changed += not torch.equal(out, still)
    assert changed == 6


@pytest.mark.parametrize("op", OF_PIXELS)
@pytest.mark.parametrize("sign", [1, -1])
def test_equal_pixels_stay_equal_from_frame_to_frame(op, sign):
    dark, bright = torch.arange(0, 160), torch.arange(96, 256)
    clip = torch.stack([dark, bright]).to(torch.uint8).view(2, 1, 10, 16).expand(-1, 3, -1, -1)
    out = apply_op(clip, op, 0.5, sign).flatten(1)[:, :160]
    assert torch.equal(out[0, 96:], out[1, :64])
    assert not torch.equal(out, clip.flatten(1)[:, :160]) or op in ("autocontrast", "color")  # it is grey, 0 to 255


def test_jitter_has_torchvisions_ranges():
    clips = torch.full((300, 1, 2, 2, 3), 100, dtype=torch.uint8)
    ids = torch.arange(300)
    values = Augment(brightness=0.4)(clips, ids, 0)[:, 0, 0, 0, 0].int()
    assert 60 <= values.min() <= 62
    assert 138 <= values.max() <= 140
    assert values.float().mean() == pytest.approx(100, abs=4)
    values = Augment(brightness=1.5)(clips, ids, 0)[:, 0, 0, 0, 0].int()
    assert values.min() <= 2  # factors from 0, not from -0.5
    assert 245 <= values.max() <= 250
    two = torch.tensor([[[50] * 3, [150] * 3]], dtype=torch.uint8).view(1, 1, 1, 2, 3).expand(300, -1, -1, -1, -1)
    spread = Augment(contrast=0.3)(two, ids, 0)[:, 0, 0, :, 0].int().diff(dim=1)
    assert (69 <= spread.min() <= 72, 128 <= spread.max() <= 131) == (True, True)
    red = torch.tensor([200, 100, 100], dtype=torch.uint8).expand(300, 1, 2, 2, 3)
    chroma = Augment(saturation=0.5)(red, ids, 0)[:, 0, 0, 0].int()
    chroma = chroma[:, 0] - chroma[:, 1]
    assert (49 <= chroma.min() <= 52, 147 <= chroma.max() <= 151) == (True, True)
    turned = Augment(hue=0.5)(red, ids, 0)[:, 0, 0, 0].int()
    assert (turned.max(1).values - turned.min(1).values - 100).abs().max() <= 2  # colours turn, nothing else
    assert all((turned.argmax(1) == channel).sum() > 60 for channel in range(3))
    slight = Augment(hue=1 / 12)(red, ids, 0)[:, 0, 0, 0].int()
    assert (slight[:, 0] >= 199).all()  # within 30 degrees red stays the strongest
    assert slight[:, 1:].max() <= 151


def test_one_jitter_moves_none_of_the_others():
    clips, ids = made(4)
    assert torch.equal(Augment(contrast=0.4, brightness=1e-9)(clips, ids, 0), Augment(contrast=0.4)(clips, ids, 0))
    both = Augment(randaugment=(2, 9), hue=1e-12)(clips[:, :, :1, :1] * 0, ids, 0)
    assert torch.equal(both, Augment(randaugment=(2, 9))(clips[:, :, :1, :1] * 0, ids, 0))


def test_operations_on_pixels_by_hand():
    values = torch.arange(256, dtype=torch.uint8)
    clip = values.view(1, 1, 16, 16).expand(2, 3, -1, -1)

    def of(op, strength, sign=1):
        out = apply_op(clip, op, strength, sign)
        assert (out == out[:1, :1]).all()
        return out[0, 0].flatten().int()

    v = values.int()
    assert torch.equal(of("identity", 1.0), v)
    assert torch.equal(of("posterize", 0.5), v & 0b11111100)
    assert torch.equal(of("posterize", 1.0), v & 0b11110000)
    assert torch.equal(of("solarize", 0.5), torch.where(v >= 128, 255 - v, v))
    assert torch.equal(of("solarize", 1.0), 255 - v)
    assert (of("brightness", 1.0) - (v * 1.9).clamp(max=255)).abs().max() <= 1
    assert (of("brightness", 1.0, -1) - v * 0.1).abs().max() <= 1
    assert (of("contrast", 1.0, -1) - (127.5 + 0.1 * (v - 127.5))).abs().max() <= 2
    assert (of("contrast", 0.5) - (127.5 + 1.45 * (v - 127.5)).clamp(0, 255)).abs().max() <= 2
    assert torch.equal(of("color", 1.0), v)  # grey has none
    half = (values // 2 + 30).view(1, 1, 16, 16).expand(2, 3, -1, -1)
    stretched = apply_op(half, "autocontrast", 0.0)[0, 0].flatten().int()
    assert (stretched - (half[0, 0].flatten().int() - 30) * 255 / 127).abs().max() <= 1.01  # torchvision rounds down
    rare = (values.int() ** 3 // 255**2).to(torch.uint8).view(1, 1, 16, 16).expand(2, 3, -1, -1)
    equal = apply_op(rare, "equalize", 0.0)[0, 0].flatten().int()
    assert (equal.diff() >= 0).all()
    assert (equal[64:] - v[64:]).abs().max() <= 10  # an even histogram again
    vivid = apply_op(torch.tensor([150, 100, 100], dtype=torch.uint8).view(1, 3, 1, 1), "color", 1.0).flatten().int()
    assert vivid[0] - vivid[1] == pytest.approx(95, abs=1)


def test_operations_on_places_by_hand():
    clip = made(1, t=2, h=331, w=331)[0][0].permute(0, 3, 1, 2)
    right = apply_op(clip, "translate_x", 0.1)
    assert torch.equal(right[..., 15:], clip[..., :-15])
    assert (right[..., :15] == FILL[None, :, None, None]).all()
    up = apply_op(clip, "translate_y", 0.1, -1)
    assert torch.equal(up[..., :-15, :], clip[..., 15:, :])
    assert (up[..., -15:, :] == FILL[None, :, None, None]).all()
    line = torch.zeros(1, 3, 100, 100, dtype=torch.uint8)
    line[..., 50] = 255
    brightest = apply_op(line, "shear_x", 1.0)[0, 0].int().argmax(1)
    slope = float(brightest[95] - brightest[5]) / 90
    assert brightest[0] == 50
    assert abs(slope) == pytest.approx(0.3, abs=0.02)
    back = apply_op(line, "shear_x", 1.0, -1)[0, 0].int().argmax(1)
    assert float(back[95] - back[5]) / 90 == pytest.approx(-slope, abs=0.02)
    assert torch.equal(apply_op(line.mT, "shear_y", 1.0), apply_op(line, "shear_x", 1.0).mT)
    dot = torch.zeros(1, 3, 101, 101, dtype=torch.uint8)
    dot[..., 50, 80] = 255  # 30 to the right of the centre
    turned = apply_op(dot, "rotate", 1.0)[0, 0].float()
    x, y = 50 + 30 * math.cos(math.pi / 6), 50 - 30 * math.sin(math.pi / 6)  # a positive angle is to the left
    near = turned[int(y) - 4 : int(y) + 5, int(x) - 4 : int(x) + 5]
    places = torch.arange(-4.0, 5.0)
    assert near.sum() > 200
    assert int(y) + float(near.sum(1) @ places / near.sum()) == pytest.approx(y, abs=0.2)
    assert int(x) + float(near.sum(0) @ places / near.sum()) == pytest.approx(x, abs=0.2)
    white = torch.full((1, 3, 40, 60), 255, dtype=torch.uint8)
    for op in ("rotate", "shear_x", "shear_y"):
        out = apply_op(white, op, 0.7)[0].flatten(1).mT
        assert (out == 255).all(1).sum() > 1500
        assert (out == FILL).all(1).sum() > 20
        assert (out >= FILL).all()  # no seam between the two
    edge = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    edge[..., 4:] = 150
    assert apply_op(edge, "sharpness", 1.0)[0, 0, 4].int().diff().max() > 60
    assert apply_op(edge, "sharpness", 1.0, -1)[0, 0, 4].int().diff().max() < 30


def test_operations_come_equally_often(monkeypatch):
    seen = collections.Counter()

    def record(clip, op, strength, sign):
        seen[op] += 1
        seen[sign] += 1
        seen[strength] += 1
        return clip

    monkeypatch.setattr(clip_ops, "apply_op", record)
    clips = torch.zeros(700, 1, 1, 1, 3, dtype=torch.uint8)
    Augment(randaugment=(2, 9))(clips, torch.arange(700), 0)
    assert seen[0.3] == 1400
    assert all(65 < seen[op] < 140 for op in OPS)  # 100 of each are expected
    assert 630 < seen[1] < 770


def test_nothing_to_do_copies_nothing():
    clips, ids = made()
    assert Augment(seed=5)(clips, ids, 0) is clips
    assert Augment().does_nothing
    assert not ALL.does_nothing


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Augment(brightness=-0.1), "at least 0"),
        (lambda: Augment(hue=0.6), r"hue in \[0, 0.5\]"),
        (lambda: Augment(randaugment=(0, 9)), "at least one operation"),
        (lambda: Augment(randaugment=(2, 31)), r"magnitude in \[0, 30\]"),
        (lambda: ALL(made()[0].float(), made()[1], 0), r"uint8 \[B, T, H, W, 3\]; got torch.float32"),
        (lambda: ALL(made()[0].permute(0, 1, 4, 2, 3), made()[1], 0), "must be uint8"),
        (lambda: ALL(made()[0], made()[1][:3], 0), r"4 clips need int64 ids \[4\]; got torch.int64 \[3\]"),
        (lambda: apply_op(made()[0][0].permute(0, 3, 1, 2), "invert", 0.5), "no operation 'invert'"),
        (lambda: mixup(torch.zeros(2, 3), torch.eye(2), 0.0, 0, 0), "alpha above 0"),
        (lambda: mixup(torch.zeros(2, 3), torch.tensor([0, 1]), 1.0, 0, 0), "floating targets"),
        (lambda: mixup(torch.zeros(2, 3, dtype=torch.int64), torch.eye(2), 1.0, 0, 0), "got torch.int64"),
    ],
)
def test_what_cannot_be_augmented_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_mixup_is_a_weighted_mean_with_the_next_sample():
    torch.manual_seed(0)
    x, targets = torch.randn(5, 7, 4), torch.eye(5)[:, :3] + 0.1
    mixed, soft = mixup(x, targets, 0.8, seed=1, draw=2)
    share = float(mixup(torch.eye(2), torch.eye(2), 0.8, seed=1, draw=2)[0][0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(mixed, share * x + (1 - share) * x[[1, 2, 3, 4, 0]])
    torch.testing.assert_close(soft, share * targets + (1 - share) * targets[[1, 2, 3, 4, 0]])
    assert float(mixup(torch.eye(2), torch.eye(2), 0.8, seed=1, draw=3)[0][0, 0]) != share
    assert float(mixup(torch.eye(2), torch.eye(2), 0.8, seed=2, draw=2)[0][0, 0]) != share
    half, _ = mixup(x.bfloat16(), targets, 0.8, seed=1, draw=2)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), mixed, atol=0.05, rtol=0.02)


def test_mixup_of_clips_is_rounded():
    clips, _ = made(3)
    mixed, soft = mixup(clips, torch.eye(3), 2.0, seed=0, draw=0)
    share = float(soft[0, 0])
    exact = share * clips.double() + (1 - share) * clips[[1, 2, 0]].double()
    assert mixed.dtype == torch.uint8
    assert (mixed.double() - exact).abs().max() <= 0.5001
    one, target = mixup(clips[:1], torch.eye(3)[:1], 2.0, seed=0, draw=0)
    assert torch.equal(one, clips[:1])  # the next one is itself
    torch.testing.assert_close(target, torch.eye(3)[:1])


@pytest.mark.parametrize(
    ("alpha", "cdf"),
    [
        (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
    ],
)
def test_shares_have_a_beta_distribution(alpha, cdf):
    n = 3000
    shares = np.sort([beta(alpha, SampleRandom("test", 0, draw)) for draw in range(n)])
    steps = np.arange(n + 1) / n
    distance = max(np.abs(cdf(shares) - steps[1:]).max(), np.abs(cdf(shares) - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov and Smirnov's bound at 0.1 %


def test_shares_of_extreme_shapes_are_numbers():
    for alpha, nearest in ((1e-4, 0.5), (1000.0, 0.0)):
        shares = np.array([beta(alpha, SampleRandom("test", 0, draw)) for draw in range(200)])
        assert ((shares >= 0) & (shares <= 1)).all()
        assert abs(shares.mean() - 0.5) < 0.15
        assert np.abs(np.abs(shares - 0.5) - nearest).max() < 0.06
