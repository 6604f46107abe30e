import pytest
import torch
import torch.nn.functional as F

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, gather_tubelets

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def clip_and_index(B=2, T=4, H=48, W=64, V=7, tubelet=2, patch=16):
    clip = torch.randint(256, (B, T, H, W, 3), dtype=torch.uint8)
    tokens = (T // tubelet) * (H // patch) * (W // patch)
    return clip, torch.stack([torch.randperm(tokens)[:V].sort().values for _ in range(B)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tubelet", "patch"), [(2, 16), (1, 16), (4, 8), (2, 4), (1, 1)])
def test_error_is_at_most_twice_that_of_the_reference(dtype, tubelet, patch, isa, poisoned):
    clip, index = clip_and_index(tubelet=tubelet, patch=patch)
    for rows in (index, None):
        options = {"tubelet": tubelet, "patch": patch}
        gold = gather_tubelets(clip, rows, dtype=torch.float64, **options)
        reference = gather_tubelets(clip, rows, dtype=dtype, backend="reference", **options)
        native = gather_tubelets(clip, rows, dtype=dtype, backend="native", **options)
        assert native.shape == gold.shape == (2, gold.shape[1], 3 * tubelet * patch**2)
        assert native.dtype == dtype
        worst = (native - gold).abs().max()
        assert worst <= 2 * (reference - gold).abs().max() + torch.finfo(dtype).eps * 0.5


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_on_tubelets_is_the_conv3d_patch_embedding(bias):
    clip, index = clip_and_index(T=8, H=64, W=64, V=20)
    conv = torch.nn.Conv3d(3, 24, (2, 16, 16), (2, 16, 16), bias=bias)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    pixels = ((clip / 255 - mean) / std).permute(0, 4, 1, 2, 3)
    expected = torch.take_along_dim(conv(pixels).flatten(2).mT, index[..., None], 1)
    got = F.linear(gather_tubelets(clip, index), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_slices_of_clips(poisoned):
    clip, _ = clip_and_index(B=4, T=8, H=96, W=128)
    _, index = clip_and_index(B=2)
    views = [clip[::2, ::2, 16:64, 32:96], clip[1:3, :4, :48, :64], clip[:2, :4, 1::2, 1::2], clip.flip(3)[:2, :4]]
    for view in views:
        assert torch.equal(gather_tubelets(view, index), gather_tubelets(view.contiguous(), index))


def test_all_values_and_custom_statistics():
    clip = torch.arange(256, dtype=torch.uint8).repeat(3).view(3, 256).T.reshape(1, 1, 16, 16, 3)
    out = gather_tubelets(clip, tubelet=1, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    values = torch.arange(256) / 255
    expected = torch.cat([values, (values - 0.5) / 0.5, (values - 1.0) / 0.25])
    torch.testing.assert_close(out[0, 0], expected, rtol=1e-6, atol=1e-6)


def test_empty_index_and_batch():
    clip, index = clip_and_index()
    assert gather_tubelets(clip, index[:, :0]).shape == (2, 0, 1536)
    assert gather_tubelets(clip[:0], index[:0]).shape == (0, 7, 1536)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"clip": torch.zeros(2, 4, 48, 64, 3)}, TypeError, "clip must be uint8"),
        ({"clip": torch.zeros(2, 4, 48, 64, dtype=torch.uint8)}, ValueError, r"must be \[B, T, H, W, 3\]"),
        ({"clip": torch.zeros(2, 3, 48, 64, 3, dtype=torch.uint8)}, ValueError, "3 x 48 x 64 does not divide"),
        ({"index": torch.zeros(2, 7, dtype=torch.int32)}, TypeError, "index must be int64"),
        ({"index": torch.zeros(3, 7, dtype=torch.int64)}, ValueError, "with B=2"),
        ({"index": torch.full((2, 7), 24)}, IndexError, r"index\[0, 0\] is 24, outside \[0, 24\)"),
        ({"std": (0.0, 1.0, 1.0)}, ValueError, "std positive"),
        ({"dtype": torch.int32}, TypeError, "floating point"),
        ({"dtype": torch.float64, "backend": "native"}, TypeError, "not torch.float64"),
    ],
)
def test_refusals_are_sentences(change, error, words):
    clip, index = clip_and_index()
    with pytest.raises(error, match=words):
        gather_tubelets(**{"clip": clip, "index": index, **change})
