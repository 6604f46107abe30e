"""``python -m fastvid.predict RUN VIDEO`` with a model of tracks."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from fastvid.data.demo.files import encode_h264
from fastvid.predict import main
from fastvid.projects.trajectory.config import ModelConfig, TokenConfig
from fastvid.projects.trajectory.model import TrajectoryModel
from fastvid.projects.trajectory.saved import Metadata, load, save
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.videos import GeneratedVideos, class_names
from fastvid.video import decode, probe

SCENES = SceneConfig(train=8, val=4, test=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run as far as this command looks at it; its model holds every object to be persistent."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    sizes = ModelConfig(layers=1, width=16, heads=2)
    model = TrajectoryModel(sizes, 192, 4)
    torch.nn.init.constant_(model.verdict[-1].bias, 5.0)
    about = Metadata(
        worker="attention", task="motion", classes=class_names("motion"), features="pixels", features_dim=192,
        tracker="hungarian", frames=16, temperatures=[1.0] * 16, confidence=0.9, model=dataclasses.asdict(sizes),
        data=dataclasses.asdict(SCENES), tokens=dataclasses.asdict(TokenConfig("hungarian", features="pixels")),
    )  # fmt: skip
    save(folder / "model", model, about)
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Video 0 of the generator as an mp4."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    path.write_bytes(encode_h264(GeneratedVideos(SCENES).read(np.array([0])).frames[0], 8))
    return path


def test_a_model_that_was_saved_is_loaded_as_it_was(run):
    model = load(run / "model")
    assert model.about.data == dataclasses.asdict(SCENES)
    assert not model.training
    with pytest.raises(FileNotFoundError, match=r"model\.json"):
        load(run)
    damaged = run / "damaged"
    damaged.mkdir()
    (damaged / "model.json").write_text('{"worker": "attention"}')
    with pytest.raises(ValueError, match="damaged, or of another version"):
        load(damaged)


def test_tracks_are_printed_and_written(run, video, tmp_path, capsys):
    assert main([str(run), str(video), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "16 frames" in said
    assert "persistent" in said
    assert "frame 0" in said
    assert f"written: {tmp_path / 'out' / 'clip'}.mp4, .json, .npz" in said
    found = json.loads((tmp_path / "out" / "clip.json").read_text())
    longest = max(found["tracks"], key=lambda track: len(track["frames"]))
    assert longest["verdict"] == "persistent"
    assert longest["confidence"] > 0.9
    assert longest["decided_at"] == longest["frames"][0]
    truth = GeneratedVideos(SCENES).read(np.array([0])).truth
    boxes = truth.boxes[0][truth.persistent[0]][0] * 64
    found_boxes = np.array(longest["boxes"])
    assert np.abs(found_boxes - boxes[longest["frames"]]).max() < 2.5  # pixels, after H.264
    with np.load(tmp_path / "out" / "clip.npz") as npz:
        assert set(npz.files) == {"track", "frame", "centre", "box"}
        assert len(npz["track"]) == sum(len(track["frames"]) for track in found["tracks"])
        assert npz["centre"] == pytest.approx((npz["box"][:, :2] + npz["box"][:, 2:]) / 2)
    drawn = (tmp_path / "out" / "clip.mp4").read_bytes()
    info = probe(drawn)
    assert (info.frames, info.width, info.height) == (16, 384, 384)
    assert (decode(drawn, [0])[0] == np.array([46, 204, 113])).any()  # some green


def test_json_on_a_line(run, video, tmp_path, capsys):
    assert main([str(run / "model"), str(video), "--json", "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == class_names("motion")
    assert sum(found["probabilities"]) == pytest.approx(1)


def test_a_longer_video_is_read_over_its_whole_length_and_says_so(run, video, tmp_path, capsys):
    frames = GeneratedVideos(SCENES).read(np.array([0])).frames[0].repeat(3, axis=0)
    (tmp_path / "long.mp4").write_bytes(encode_h264(frames, 24))
    assert main([str(run), str(tmp_path / "long.mp4"), "--out", str(tmp_path)]) == 0
    assert "16 of 48 frames" in capsys.readouterr().out
    found = json.loads((tmp_path / "long.json").read_text())
    assert found["frames_read"][-1] == 47
    assert max(track["frames"][-1] for track in found["tracks"]) == 47


def test_videos_of_one_name_do_not_overwrite_each_other(run, video, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "clip.mp4").write_bytes(video.read_bytes())
    for _ in range(2):
        assert main([str(run), str(video), str(tmp_path / "other" / "clip.mp4"), "--out", str(tmp_path / "out")]) == 0
    found = sorted((tmp_path / "out").glob("*.json"))
    assert {json.loads(path.read_text())["video"] for path in found} == {
        str(video), str(tmp_path / "other" / "clip.mp4"),
    }  # fmt: skip
    assert len(found) == 2


def test_a_video_without_objects_is_one_sentence(run, tmp_path, capsys):
    (tmp_path / "dark.mp4").write_bytes(encode_h264(np.zeros((8, 64, 64, 3), np.uint8), 8))
    assert main([str(run), str(tmp_path / "dark.mp4"), "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "dark.mp4: no object was found in 8 frames" in said
    assert said.count("\n") == 1
