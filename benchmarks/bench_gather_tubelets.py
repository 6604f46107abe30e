"""Patch embedding of the visible quarter of a clip, against the usual way: all of it, then drop three quarters."""

import torch
import torch.nn.functional as F

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, gather_tubelets

B, D, TOKENS, VISIBLE = 16, 768, 1568, 392


def test_patch_embedding_at_a_quarter_visible(record):
    torch.manual_seed(0)
    clip = torch.randint(256, (B, 16, 224, 224, 3), dtype=torch.uint8)
    index = torch.stack([torch.randperm(TOKENS)[:VISIBLE].sort().values for _ in range(B)])
    conv = torch.nn.Conv3d(3, D, (2, 16, 16), (2, 16, 16)).requires_grad_(False)
    mean, std = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1, 1)

    def usual():
        pixels = (clip.permute(0, 4, 1, 2, 3).float() / 255 - mean) / std
        return torch.take_along_dim(conv(pixels).flatten(2).mT, index.unsqueeze(-1), dim=1)

    def unfolded():
        """Without the convolution: reshape and multiply all tokens."""
        x = (clip.float() / 255 - mean.flatten()) / std.flatten()
        x = x.view(B, 8, 2, 14, 16, 14, 16, 3).permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(B, TOKENS, 1536)
        return torch.take_along_dim(F.linear(x, conv.weight.flatten(1), conv.bias), index.unsqueeze(-1), dim=1)

    def fastvid():
        return F.linear(gather_tubelets(clip, index, backend="native"), conv.weight.flatten(1), conv.bias)

    torch.testing.assert_close(fastvid(), usual(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(unfolded(), usual(), rtol=1e-3, atol=1e-3)
    record(
        "gather_tubelets + Linear",
        {"fastvid": fastvid, "float, Conv3d, gather": usual, "float, reshape, Linear, gather": unfolded},
        floors={"float, Conv3d, gather": 3, "float, reshape, Linear, gather": 3},
        rounds=5,
    )


def test_gather_tubelets_alone(record):
    clip = torch.randint(256, (B, 16, 224, 224, 3), dtype=torch.uint8)
    index = torch.stack([torch.randperm(TOKENS)[:VISIBLE].sort().values for _ in range(B)])

    def sides(backend):
        return lambda: gather_tubelets(clip, index, dtype=torch.float32, backend=backend)

    torch.testing.assert_close(sides("native")(), sides("reference")(), rtol=1e-5, atol=1e-5)
    record(
        "gather_tubelets",
        {"fastvid": sides("native"), "eager reference": sides("reference")},
        floors={"eager reference": 10},
        least_bytes=B * VISIBLE * 1536 * (1 + 4),  # pixels read, float32 written
    )
