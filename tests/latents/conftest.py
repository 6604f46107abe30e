"""Small videos in tar shards and a tiny random teacher, for tests of latent caches."""

from pathlib import Path

import pytest
import torch

from fastvid.cache.__main__ import main
from fastvid.data import ShardWriter
from fastvid.models import VideoViT, VideoViTConfig, save_encoder
from tests.video.clips import encode

FRAMES, SIZE = 4, 64  # 2 x 4 x 4 = 32 tokens of 32 elements
PER_SHARD = 4


@pytest.fixture(scope="session")
def videos() -> list[bytes]:
    """Twelve different videos."""
    return [encode(10 + k) for k in range(12)]


@pytest.fixture(scope="session")
def shards(videos, tmp_path_factory) -> Path:
    """The videos in three tar shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, videos)
    return folder


def write_shards(folder: Path, videos: list[bytes]) -> None:
    for first in range(0, len(videos), PER_SHARD):
        with ShardWriter(folder, f"s{first // PER_SHARD}") as writer:
            for k, video in enumerate(videos[first : first + PER_SHARD], first):
                writer.add(f"v{k:02d}", ".mp4", video, label="ab"[k % 2])


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> str:
    """A random encoder on the disk, as a teacher source."""
    return save_teacher(tmp_path_factory.mktemp("teacher"), seed=0)


def save_teacher(folder: Path, seed: int) -> str:
    torch.manual_seed(seed)
    config = VideoViTConfig(
        name="vit_tiny_patch16_224", frames=FRAMES, size=SIZE, width=32, depth=1, heads=2, init="mimetic"
    )
    save_encoder(VideoViT(config), folder)
    return f"checkpoint:{folder}"


@pytest.fixture
def cache(shards, teacher, tmp_path, capsys):
    """Makes a cache: ``cache(*options)`` returns (exit code, folder, what was said)."""

    def make(*options, out=None, source=teacher, data=shards):
        folder = out or tmp_path / "latents"
        code = main(["--teacher", source, "--data.path", str(data), "--out", str(folder), "--batch", "3", *options])
        said = capsys.readouterr()
        return code, folder, said.out + said.err

    return make
