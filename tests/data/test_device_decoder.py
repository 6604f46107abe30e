"""The loader with a decoder of whole batches: DALI, which decodes VP9 on the CPU too."""

import pytest
import torch

from fastvid.data import BucketSampler, FrameBuckets, Quarantine, ShardWriter, open_source
from fastvid.video import ViewSpec, probe
from fastvid.video.decoders import why_not
from tests.data.loading import train_loader
from tests.data.talks import take, talk
from tests.video.clips import encode

pytestmark = pytest.mark.skipif(bool(why_not("dali", "cpu")), reason=str(why_not("dali", "cpu")))

SPEC = ViewSpec(frames=4, size=32)


@pytest.fixture
def folder(tmp_path):
    vp9, h264 = encode(12, "libvpx-vp9", "webm"), encode(12)
    for i in range(8):
        (tmp_path / f"{i}.mkv").write_bytes(vp9)
    (tmp_path / "3.mkv").write_bytes(h264)  # which DALI decodes on a GPU only
    (tmp_path / "5.mkv").write_bytes(b"rubbish")
    return tmp_path


def test_batches_are_those_of_the_other_decoders(folder):
    quarantine, made = Quarantine(), {}
    for decoder in ("pyav", "dali"):
        (folder / "3.mkv").write_bytes(b"rubbish" if decoder == "pyav" else encode(12))
        with train_loader(open_source(folder), SPEC, batch=4, seed=0, decoder=decoder, quarantine=quarantine) as loader:
            made[decoder] = [next(loader) for _ in range(4)]
    assert set(quarantine.bad) == {"3.mkv", "5.mkv"}
    for a, b in zip(made["pyav"], made["dali"], strict=True):
        assert (a.keys, a.substitutes, a.repeats) == (b.keys, b.substitutes, b.repeats)
        assert torch.equal(a.view_hashes, b.view_hashes)
        difference = (a.clips.int() - b.clips.int()).abs()
        assert difference.float().mean() <= 1
        assert difference.max() <= 4
    assert any(any(batch.substitutes) for batch in made["dali"])


def test_batches_by_length_with_text_are_those_of_the_other_decoder(tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        for number, frames in enumerate((3, 12, 6, 2, 12)):
            video = b"rubbish" if number == 2 else encode(frames, "libvpx-vp9", "webm")
            info = probe(encode(frames)) if number == 2 else None
            writer.add(str(number), ".webm", video, extra=talk(("what", str(number))), info=info)
    source, made = open_source(tmp_path), {}
    fps = source.samples[0].video.fps
    for decoder in ("pyav", "dali"):
        sampler = BucketSampler(source, FrameBuckets((3, 6), fps, budget=12), seed=0)
        spec = ViewSpec(frames=6, size=32)
        made[decoder] = take(source, sampler, 3, questions=1, spec=spec, fps=fps, decoder=decoder)
    for (a, after), (b, then) in zip(made["pyav"], made["dali"], strict=True):
        assert (a.keys, a.clips.shape, after) == (b.keys, b.clips.shape, then)
        assert [one.conversations for one in a.text] == [one.conversations for one in b.text]
        assert all(torch.equal(a.extra[name], b.extra[name]) for name in a.extra)
        assert (a.clips.int() - b.clips.int()).abs().float().mean() <= 1
    keys = [key for batch, _ in made["dali"] for key in batch.keys]
    assert "" in keys
    assert "s-000000/2" not in keys


@pytest.mark.parametrize("decoder", ["pyav", "dali"])
def test_a_process_without_a_clip_in_a_batch_has_an_empty_one(tmp_path, decoder):
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("0", ".webm", encode(3, "libvpx-vp9", "webm"), extra=talk(("what", "0")))
    source = open_source(tmp_path)
    sampler = BucketSampler(source, FrameBuckets((2, 6), fps=1e-3, budget=12), seed=0, rank=1, world=2)
    ((batch, after),) = take(source, sampler, 1, spec=ViewSpec(frames=6, size=32), fps=1e-3, decoder=decoder)
    assert batch.keys == [""] * 3
    assert batch.clips.shape == (3, 2, 32, 32, 3)
    assert not any(batch.extra[name].any() for name in ("frames", "questions", "after_mask"))
    assert after.epoch == 1


def test_frames_of_the_device_are_not_kept_in_memory(folder):
    with pytest.raises(ValueError, match=r"dali .* cache_bytes to 0"):
        train_loader(open_source(folder), SPEC, batch=4, seed=0, decoder="dali", cache_bytes=1)


def test_a_decoder_that_cannot_run_is_refused_at_once(folder):
    with pytest.raises(ValueError, match="no decoder 'vhs'"):
        train_loader(open_source(folder), SPEC, batch=4, seed=0, decoder="vhs")
