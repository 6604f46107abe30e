"""``fastvid.load(RUN).encode(...)`` and ``python -m fastvid.encode``: features of videos, in memory and as files."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

import fastvid
from fastvid.data import ShardWriter
from fastvid.data.sources.folder import FolderSource
from fastvid.encode import main
from fastvid.latents import feature_files, read_features
from fastvid.models import VideoViT, VideoViTConfig, save_encoder
from fastvid.random import sample_id
from fastvid.video import decode_view, probe
from tests.video.clips import encode

SHAPE = {"frames": 4, "size": 32, "width": 48, "depth": 1, "heads": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    save_encoder(VideoViT(VideoViTConfig("vit_tiny_patch16_224", **SHAPE)), folder / "student")
    (folder / "config.json").write_text(json.dumps({"data": {"sampling": "stride", "stride": 3, "fps": 4.0}}))
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five videos of two classes, of which one is damaged."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        (folder / "ab"[number % 2]).mkdir(exist_ok=True)
        data = encode(12 + 6 * number, coloured=True)
        (folder / "ab"[number % 2] / f"{number}.mp4").write_bytes(data[: 900 if number == 3 else None])
    return folder


def expected(model, path, pool="mean"):
    """The features of the centre view, without a loader."""
    data = path.read_bytes()
    info = probe(data)
    clip = torch.from_numpy(decode_view(data, model.views.center("", info), info=info))[None]
    with torch.no_grad():
        tokens = model.encoder(clip)[0]
    return {"mean": tokens.mean(0), "time": tokens.view(2, 4, 48).mean(1), "tokens": tokens}[pool]


@pytest.mark.parametrize("pool", ["mean", "time", "tokens"])
def test_a_folder_is_encoded(run, videos, pool):
    model = fastvid.load(run)
    assert (model.views.sampling, model.views.stride, model.views.frames, model.views.size) == ("stride", 3, 4, 32)
    found = model.encode(videos, pool=pool, batch=2)
    assert found.keys == ["a/0.mp4", "a/2.mp4", "a/4.mp4", "b/1.mp4"]
    assert found.labels == ["a", "a", "a", "b"]
    assert found.ids.tolist() == [sample_id(key) for key in found.keys]
    assert list(found.bad) == ["b/3.mp4"]
    assert "truncated" in found.bad["b/3.mp4"]
    for key, value in zip(found.keys, found.values, strict=True):
        torch.testing.assert_close(value, expected(model, videos / key, pool))


def test_shards_are_encoded_as_their_videos_are(run, videos, tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        for name in ("4", "0"):
            writer.add(name, ".mp4", (videos / "a" / f"{name}.mp4").read_bytes(), label="a")
    model = fastvid.load(run)
    found = model.encode(tmp_path)
    assert (found.keys, found.labels) == (["s-000000/4", "s-000000/0"], ["a", "a"])
    torch.testing.assert_close(found.values[0], expected(model, videos / "a" / "4.mp4"))


def test_listed_files_keep_their_order_and_names(run, videos):
    model = fastvid.load(run)
    listed = [videos / "b" / "1.mp4", str(videos / "a" / "4.mp4"), videos / "a" / "missing.mp4"]
    found = model.encode(listed)
    assert found.keys == [str(videos / "b" / "1.mp4"), str(videos / "a" / "4.mp4")]
    assert list(found.bad) == [str(videos / "a" / "missing.mp4")]
    torch.testing.assert_close(found.values[1], expected(model, videos / "a" / "4.mp4"))
    torch.testing.assert_close(model.encode(listed[0]).values, found.values[:1])
    with pytest.raises(ValueError, match="is a folder: give one folder alone, or a list of video files"):
        model.encode([videos, *listed])
    with pytest.raises(ValueError, match="no videos are given"):
        model.encode([])
    with pytest.raises(FileNotFoundError, match="no data at"):
        model.encode(videos / "elsewhere")


def test_clips_are_encoded(run):
    model = fastvid.load(run)
    clips = torch.randint(256, (5, 4, 32, 32, 3)).to(torch.uint8)
    with torch.no_grad():
        tokens = model(clips)
    torch.testing.assert_close(model.encode(clips, pool="tokens", batch=2), tokens)
    torch.testing.assert_close(model.encode(clips.numpy()), tokens.mean(1))
    assert model.encode(clips, pool="time").shape == (5, 2, 48)
    with pytest.raises(ValueError, match=r"clips are uint8 \[B, T, H, W, 3\]; got torch.float32"):
        model.encode(clips.float())
    with pytest.raises(ValueError, match="no pool 'cls': use mean, time, tokens"):
        model.encode(clips, pool="cls")


def test_a_trained_encoder_stays_as_it_is(run):
    model = fastvid.load(run)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.train().encoder.training


def test_every_video_is_read_once(run, videos, monkeypatch):
    read, taken = FolderSource.read, []
    monkeypatch.setattr(FolderSource, "read", lambda self, index: taken.append(index) or read(self, index))
    fastvid.load(run).encode(videos, clips=2)
    assert sorted(taken) == [0, 1, 2, 3, 4]


def test_several_moments_of_a_video(run, videos):
    model = fastvid.load(run)
    several = model.encode(videos / "a" / "4.mp4", clips=3).values
    assert several.shape == (1, 3, 48)
    torch.testing.assert_close(several[0, 1], expected(model, videos / "a" / "4.mp4"))  # the middle one
    assert not torch.allclose(several[0, 0], several[0, 2])


@pytest.mark.parametrize("form", ["safetensors", "npz"])
def test_the_command_writes_files(run, videos, tmp_path, capsys, form, monkeypatch):
    monkeypatch.setattr(feature_files, "_MOST_VIDEOS", 2)
    out = tmp_path / "features"
    assert main([str(run), str(videos), "--out", str(out), "--form", form, "--batch", "3"]) == 1
    told = capsys.readouterr()
    assert "b/3.mp4: truncated" in told.err
    assert "1 videos could not be used" in told.err
    assert "features of 4 videos in" in told.out
    names = {f"part-{number:05d}.{form}" for number in range(3)} | {"features.json", "index.csv", "bad_samples.jsonl"}
    assert {path.name for path in out.iterdir()} - {".lock"} == names
    in_memory, found = fastvid.load(run).encode(videos), read_features(out)
    assert (found.keys, found.labels, found.bad) == (in_memory.keys, in_memory.labels, in_memory.bad)
    torch.testing.assert_close(found.values, in_memory.values)
    with (out / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["key"], row["label"], row["file"], row["row"]) for row in rows] == [
        ("a/0.mp4", "a", f"part-00000.{form}", "0"), ("a/2.mp4", "a", f"part-00000.{form}", "1"),
        ("a/4.mp4", "a", f"part-00001.{form}", "0"), ("b/1.mp4", "b", f"part-00001.{form}", "1"),
    ]  # fmt: skip
    assert [int(row["id"]) for row in rows] == found.ids.tolist()
    # As another program reads them.
    first = out / f"part-00000.{form}"
    if form == "npz":
        with np.load(first) as arrays:
            assert arrays["keys"].tolist() == ["a/0.mp4", "a/2.mp4"]
            assert np.array_equal(arrays["features"], found.values[:2].numpy())
    else:
        with safe_open(first, "np") as file:
            assert json.loads(file.metadata()["keys"]) == ["a/0.mp4", "a/2.mp4"]
            assert np.array_equal(file.get_tensor("features"), found.values[:2].numpy())


def test_a_stopped_command_goes_on(run, videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(feature_files, "_MOST_VIDEOS", 2)
    out, arguments = tmp_path / "features", [str(run), str(videos), "--out", str(tmp_path / "features")]
    written = []
    write = feature_files.write_whole

    def stopped(path, content):
        written.append(path.name)
        if path.name.startswith("part-00001"):
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(feature_files, "write_whole", stopped)
    assert main([*arguments, "--batch", "1"]) == 130
    assert written[-2:] == ["part-00000.safetensors", "part-00001.safetensors"]
    with pytest.raises(ValueError, match="2 of 3 files of features are missing"):
        read_features(out)
    before = (out / "part-00000.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(feature_files, "write_whole", write)
    assert main(arguments) == 1
    assert (out / "part-00000.safetensors").stat().st_mtime_ns == before
    whole = fastvid.load(run).encode(videos)
    assert read_features(out).keys == whole.keys
    torch.testing.assert_close(read_features(out).values, whole.values)
    capsys.readouterr()
    assert main([*arguments, "--pool", "time"]) == 2
    assert "were made for something else (pool: mean there, time in these options)" in capsys.readouterr().err
    assert main([*arguments[:2], "--out", str(run)]) == 2
    assert "holds other files, such as 'config.json'" in capsys.readouterr().err
    assert not (run / ".lock").exists()


def test_half_precision_files(run, videos, tmp_path):
    assert main([str(run), str(videos / "a"), "--out", str(tmp_path / "out"), "--element", "float16"]) == 0
    found = read_features(tmp_path / "out")
    assert found.values.dtype == torch.float16
    expected = fastvid.load(run).encode(videos / "a").values
    torch.testing.assert_close(found.values.float(), expected, rtol=1e-3, atol=1e-3)


def test_runs_without_an_encoder_and_folders_without_videos(run, tmp_path, capsys):
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "classifier.json").write_text("{}")
    assert main([str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "is of vjepa2, which saves no encoder: give one of salt" in capsys.readouterr().err
    assert main([str(run), str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "no data at" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
