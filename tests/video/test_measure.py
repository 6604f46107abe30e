"""The choice of a decoder is measured, said, and never made in silence."""

import functools
import subprocess
import sys

import pytest
import torch

from fastvid import info
from fastvid.video import ViewSpec, probe
from fastvid.video import measure_decoders as measure
from fastvid.video.decoders import DECODERS, DecoderUnavailable, require, why_not
from fastvid.video.measure_decoders import Measured, choose, resolve, table
from tests.video.clips import encode

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def sample(video: bytes):
    table_of_frames = probe(video)
    return video, ViewSpec(frames=4, size=32).center("a", table_of_frames), table_of_frames


@no_gpu
def test_every_candidate_has_a_row_with_its_speed_or_the_reason():
    rows = measure.measure([sample(encode(12)), sample(encode(12, "libvpx-vp9", "webm"))], seconds=0.1, threads=2)
    assert [row.decoder for row in rows] == list(DECODERS)
    for row in rows:
        assert (row.clips_per_s is None) == bool(row.reason) == (why_not(row.decoder) is not None)
        assert row.reason == (why_not(row.decoder) or "")
        assert row.decoder in table(rows)
    assert rows[0].clips_per_s > 1
    assert (rows[0].device, rows[0].threads) == ("cpu", 2)
    assert "it needs an NVIDIA GPU" in rows[2].reason or "not installed" in rows[2].reason


def test_a_decoder_that_loses_samples_is_not_usable(monkeypatch):
    """Both candidates run; one of them does not take VP9."""
    plain = measure._decode_one

    def picky(decoder, sample):
        if decoder == "torchcodec" and sample[2].codec == "vp9":
            return measure.DecodeError("unsupported", "no VP9")
        return plain("pyav", sample)

    monkeypatch.setattr(measure, "why_not", lambda name: None)
    monkeypatch.setattr(measure, "_decode_one", picky)
    samples = [(b"damaged", *sample(encode(12))[1:]), sample(encode(12)), sample(encode(12, "libvpx-vp9", "webm"))]
    pyav, other = measure.measure(samples, ["pyav", "torchcodec"], seconds=0.05)
    assert pyav.clips_per_s > 0  # what nobody decodes is held against nobody
    assert other.clips_per_s is None
    assert other.reason == "it cannot decode 1 of 2 samples; the first: unsupported: no VP9"
    with pytest.raises(ValueError, match=r"none of the 1 samples .*container"):
        measure.measure(samples[:1], ["pyav"], seconds=0.05)


def test_a_device_that_fails_is_a_reason(monkeypatch):
    def broken(decoder, samples):
        raise RuntimeError("CUDA error: no kernel image\nand more")

    monkeypatch.setattr(measure, "why_not", lambda name: None)
    monkeypatch.setattr(measure, "_decode_batch", broken)
    rows = measure.measure([sample(encode(12))], ["dali", "pyav"], seconds=0.05)
    assert rows[0].reason == "it failed: CUDA error: no kernel image"
    assert choose(rows).decoder == "pyav"


def test_the_fastest_usable_one_is_chosen():
    rows = [
        Measured("pyav", "cpu", 2, 20.0),
        Measured("torchcodec", "cpu", 2, 25.0),
        Measured("dali", "cuda", 1, None, "it needs an NVIDIA GPU"),
    ]
    assert choose(rows).decoder == "torchcodec"
    with pytest.raises(DecoderUnavailable, match=r"dali: .*GPU"):
        choose(rows[2:])


def test_only_auto_chooses(monkeypatch):
    rows = [Measured("pyav", "cpu", 2, 20.0), Measured("torchcodec", "cpu", 2, None, "it finds no FFmpeg")]
    monkeypatch.setattr(measure, "measure", lambda samples, seconds: rows)
    assert resolve("auto", []) == (
        "pyav",
        "decoding with pyav, the fastest here at 20.0 clips/s (torchcodec: it finds no FFmpeg)",
    )
    assert resolve("pyav", []) == ("pyav", "decoding with pyav, as asked")
    with pytest.raises(ValueError, match="no decoder 'opencv'"):
        resolve("opencv", [])


@no_gpu
@pytest.mark.parametrize("decoder", ["dali", "torchcodec-cuda"])
def test_a_named_decoder_that_cannot_run_is_refused(decoder):
    with pytest.raises(DecoderUnavailable, match=f"decoder '{decoder}' cannot be used: "):
        resolve(decoder, [sample(encode(3))])


def test_what_is_not_installed_is_named_with_what_to_install():
    code = """
import sys
for name in ("torchcodec", "nvidia", "nvidia.dali"):
    sys.modules[name] = None
from fastvid.video.decoders import why_not
for name in ("torchcodec", "dali", "torchcodec-cuda"):
    print(why_not(name))
print('torch' in sys.modules)
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "pip install torchcodec" in lines[0]
    assert "pip install nvidia-dali-cuda130" in lines[1]
    assert lines[2:] == [lines[0], "False"]


def test_pyav_is_always_there():
    require("pyav")


def test_the_command_prints_the_table_and_the_choice(tmp_path, monkeypatch, capsys):
    for name, codec, container in (("a.mp4", "libx264", "mp4"), ("b.webm", "libvpx-vp9", "webm")):
        (tmp_path / name).write_bytes(encode(20, codec, container))
    (tmp_path / "c.mp4").write_bytes(b"nothing of the kind")
    monkeypatch.setattr(measure, "measure", functools.partial(measure.measure, seconds=0.1))
    assert info.main(["--decode", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"2 of 3 video files in {tmp_path}, 16 frames of each cut to 224 x 224")
    assert lines[1].startswith("left out c.mp4: container: ")
    assert [line.split()[0] for line in lines[3:7]] == list(DECODERS)
    assert lines[-1].split()[-1] in DECODERS
    for arguments, words in (
        (["/nowhere"], "no data at /nowhere"),
        ([str(tmp_path / "c.mp4")], "none of the videos"),
        ([], "give one folder"),
    ):
        assert info.main(["--decode", *arguments]) == 2
        assert words in capsys.readouterr().err
