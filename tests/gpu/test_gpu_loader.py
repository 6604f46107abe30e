"""Batches that the loader puts on the GPU, by a stream of its own; skipped without one."""

import pytest
import torch

pytest.importorskip("av")

from fastvid.data import open_source
from fastvid.video import ViewSpec
from fastvid.video.decoders import GPU_DECODERS, why_not
from tests.data.loading import train_loader
from tests.video.clips import encode

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

SPEC = ViewSpec(frames=8, size=112)


@pytest.fixture
def source(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02d}.mp4").write_bytes(encode(24, height=256, wide=2))
    (tmp_path / "05.mp4").write_bytes(b"rubbish")
    return open_source(tmp_path)


def batches(source, **options):
    with train_loader(source, SPEC, batch=4, seed=0, **options) as loader:
        return [next(loader) for _ in range(9)]


def test_they_are_those_of_the_cpu(source):
    made, expected = batches(source, device="cuda"), batches(source)
    for a, b in zip(made, expected, strict=True):
        assert (a.keys, a.substitutes) == (b.keys, b.substitutes)
        assert torch.equal(a.view_hashes, b.view_hashes)
        for name in ("clips", "ids"):
            assert getattr(a, name).is_cuda
            assert torch.equal(getattr(a, name).cpu(), getattr(b, name))


def test_a_batch_stays_as_it_is_while_later_ones_arrive(source):
    with train_loader(source, SPEC, batch=4, seed=0, device="cuda") as loader:
        kept = next(loader)
        before = kept.clips.clone()
        for _ in range(20):
            next(loader).clips.float().mean()  # work in flight on the current stream, memory handed back and forth
        assert torch.equal(kept.clips, before)


@pytest.mark.parametrize("decoder", GPU_DECODERS)
def test_batches_decoded_on_the_device_hold_the_same_samples(source, decoder):
    if why_not(decoder):
        pytest.skip(str(why_not(decoder)))
    for a, b in zip(batches(source, device="cuda", decoder=decoder), batches(source), strict=True):
        assert (a.keys, a.substitutes) == (b.keys, b.substitutes)
        assert torch.equal(a.view_hashes, b.view_hashes)
        assert (a.clips.cpu().int() - b.clips.int()).abs().float().mean() <= 1
