"""``python -m fastvid.predict``: the right frames, the right squares, and a sentence for what cannot be read."""

import json

import numpy as np
import pytest
import torch

from fastvid.command import UserError
from fastvid.data import ShardWriter
from fastvid.data.demo.files import encode_h264
from fastvid.predict import main, predict
from fastvid.projects.vjepa2.approach import apply_approach
from fastvid.projects.vjepa2.checkpoint import TrainedClassifier, load_classifier, save_classifier
from fastvid.projects.vjepa2.load import load_vjepa2
from fastvid.projects.vjepa2.metadata import ClassifierMetadata
from fastvid.video import ViewSpec, decode_view, probe
from tests.video.clips import encode

CLASSES = ("left", "right", "still", "up")


class Brightness:
    """Stands in for a classifier: the probability of the class ``light`` is the mean brightness."""

    def __init__(self, **views):
        self.views = ViewSpec(**{"frames": 4, "size": 16, "sampling": "stride", "stride": 2, **views})
        self.classes = ["dark", "light"]

    def probabilities(self, views):
        light = views.float().mean((1, 2, 3, 4)) / 255
        return torch.stack([1 - light, light], 1)


def shades(values, width=48):
    """An mp4 with 10 frames a second, one of each of these brightnesses; where it is wide, its left third is black."""
    frames = np.repeat(np.array(values, np.uint8), 48 * width * 3).reshape(-1, 48, width, 3)
    if width > 48:
        frames[:, :, : width // 3] = 0
    return encode_h264(frames, 10)


def answer(classifier, data, **options):
    return predict(classifier, "a.mp4", data, probe(data), **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, as far as this command looks at it."""
    folder = tmp_path_factory.mktemp("run")
    model = load_vjepa2(init="tiny", classes=4, frames=4, size=32)
    apply_approach(model, "head")
    about = ClassifierMetadata("tiny", CLASSES, init="tiny", views=ViewSpec(sampling="stride", stride=3))
    save_classifier(folder / "classifier", model, about)
    return folder


def test_clips_cover_the_video_in_order_of_time():
    found = answer(Brightness(), shades(np.linspace(0, 255, 40)))
    windows = found["windows"]
    assert [window["frames"] for window in windows] == [[k, k + 2, k + 4, k + 6] for k in (3, 10, 17, 23, 30)]
    assert [(w["start"], w["end"]) for w in windows] == [
        pytest.approx((k / 10, k / 10 + 0.7)) for k in (3, 10, 17, 23, 30)
    ]
    light = [window["probabilities"][1] for window in windows]
    assert light == pytest.approx([(k + 3) / 39 for k in (3, 10, 17, 23, 30)], abs=0.02)
    assert found["probabilities"] == pytest.approx([1 - np.mean(light), np.mean(light)])
    assert not any(window["repeats_frames"] for window in windows)
    assert (found["seconds"], found["fps"], found["frames"]) == pytest.approx((4, 10, 40))


@pytest.mark.parametrize("sampling", ["stride", "fps", "span"])
def test_one_clip_is_the_one_of_the_evaluation(sampling):
    data = shades(np.linspace(0, 255, 40))
    classifier = Brightness(sampling=sampling, fps=5.0)
    found = answer(classifier, data, windows=1)
    info = probe(data)
    view = classifier.views.center("a.mp4", info)
    assert found["windows"][0]["frames"] == list(view.frames)
    clip = torch.from_numpy(decode_view(data, view, info=info))[None]
    assert found["probabilities"] == pytest.approx(classifier.probabilities(clip)[0].tolist())


@pytest.mark.parametrize(
    ("views", "count"),
    [
        ({"sampling": "span"}, 1),
        ({"sampling": "stride", "stride": 10}, 1),
        ({"sampling": "stride", "stride": 9}, 2),
        ({"sampling": "fps", "fps": 2.0}, 2),
        ({"sampling": "fps", "fps": 1.0}, 1),
        ({"sampling": "fps", "fps": 100.0}, 32),
    ],
)
def test_how_many_clips_are_enough(views, count):
    found = answer(Brightness(**views), shades([9] * 40))
    assert len(found["windows"]) == count


def test_seconds_are_those_of_presentation():
    """20 frames in the first second, then one every half second."""
    times = [50 * k for k in range(20)] + [1000 + 500 * k for k in range(6)]
    data = encode(26, times=times)
    found = answer(Brightness(sampling="fps", fps=2.0), data, windows=2)
    assert [window["frames"] for window in found["windows"]] == [[10, 20, 21, 22], [21, 22, 23, 24]]
    seconds = [second for window in found["windows"] for second in (window["start"], window["end"])]
    assert seconds == pytest.approx([0.5, 2.5, 1.5, 3.5])


def test_a_video_shorter_than_a_clip_says_so():
    found = answer(Brightness(), shades([200] * 3))
    assert [window["frames"] for window in found["windows"]] == [[0, 2, 2, 2]]
    assert found["windows"][0]["repeats_frames"]


def test_three_squares_along_the_longer_side():
    wide = shades([255] * 8, width=144)
    assert answer(Brightness(), wide, windows=1)["probabilities"][1] == pytest.approx(1, abs=0.03)
    three = answer(Brightness(), wide, windows=2, crops=3)
    assert three["probabilities"][1] == pytest.approx(2 / 3, abs=0.03)
    assert [window["probabilities"][1] for window in three["windows"]] == pytest.approx([2 / 3] * 2, abs=0.03)


def test_json_has_everything(run, tmp_path, capsys):
    data = encode(40, coloured=True)
    (tmp_path / "a.mp4").write_bytes(data)
    assert main([str(run), str(tmp_path / "a.mp4"), "--json", "--top", "2", "--windows", "3", "--crops", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    (line,) = captured.out.splitlines()
    found = json.loads(line)
    assert found["video"] == str(tmp_path / "a.mp4")
    assert found["classes"] == list(CLASSES)
    classifier, info = load_classifier(run / "classifier"), probe(data)
    means = []
    for window in found["windows"]:
        side = info.height
        boxes = [(0, left, side, side) for left in (0, (info.width - side) // 2, info.width - side)]
        center = classifier.views.center("", info)
        views = [type(center)("", tuple(window["frames"]), box, False, 32) for box in boxes]
        clips = torch.from_numpy(np.stack([decode_view(data, view, info=info) for view in views]))
        means.append(classifier.probabilities(clips).double().mean(0))
        assert window["probabilities"] == pytest.approx(means[-1].tolist(), abs=1e-6)
        best = int(means[-1].argmax())
        assert window["top"][0] == {"class": CLASSES[best], "probability": window["probabilities"][best]}
        assert len(window["top"]) == 2
    assert found["probabilities"] == pytest.approx(torch.stack(means).mean(0).tolist(), abs=1e-6)
    order = sorted(found["probabilities"], reverse=True)
    assert [row["probability"] for row in found["top"]] == order[:2]
    assert len(found["windows"]) == 3


def test_what_is_printed(run, tmp_path, capsys, monkeypatch):
    classifier = Brightness()
    classifier.to = lambda device: classifier
    monkeypatch.setattr("fastvid.projects.vjepa2.checkpoint.load_classifier", lambda *_, **__: classifier)
    (tmp_path / "dusk.mp4").write_bytes(shades([255] * 9 + [0] * 7))
    (tmp_path / "night.mp4").write_bytes(shades([0] * 3))
    monkeypatch.chdir(tmp_path)
    assert main([str(run), "dusk.mp4", "night.mp4"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "dusk.mp4  (1.6 s, 2 clips)",
        "  light   62.5%  ███████████████",
        "  dark    37.5%  █████████",
        "  0.2 to 0.9 s  light  100.0%  ████████████████████████",
        "  0.7 to 1.4 s  dark    75.0%  ██████████████████",
        "                light   25.0%  ██████",
        "night.mp4  (0.3 s, 1 clip)",
        "  dark   100.0%  ████████████████████████",
        "  light    0.0%",
        "  the video is shorter than a clip: frames are repeated",
    ]
    assert main([str(run), "dusk.mp4", "--top", "1", "--windows", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_classifier_that_diverged_is_no_answer():
    classifier = Brightness()
    classifier.probabilities = lambda views: torch.full((len(views), 2), float("nan"))
    with pytest.raises(UserError, match="finite"):
        answer(classifier, shades([9] * 8))


def test_folders_and_shards_mean_their_videos(run, tmp_path, capsys):
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    data = encode(20)
    (videos / "b.mp4").write_bytes(data)
    (videos / "deep" / "a.mkv").write_bytes(encode(20, container="matroska"))
    (videos / "notes.txt").write_text("not a video")
    with ShardWriter(tmp_path / "shards", "part") as writer:
        writer.add("one", ".mp4", data)
        writer.add("two", ".mp4", data)
    assert main([str(run), str(videos), str(tmp_path / "shards"), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["video"] for row in rows] == [
        *(f"{tmp_path}/videos/{name}" for name in ("b.mp4", "deep/a.mkv")),
        *(f"{tmp_path}/shards/part-000000/{name}" for name in ("one", "two")),
    ]
    assert rows[0]["probabilities"] == rows[2]["probabilities"]


def test_a_broken_video_does_not_stop_the_others(run, tmp_path, capsys):
    data = encode(20)
    (tmp_path / "1.mp4").write_bytes(b"no video" * 9)
    (tmp_path / "2.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "3.mp4").write_bytes(data)
    names = [str(tmp_path), str(tmp_path / "3.mp4")]
    assert main([str(run), *names, "--json"]) == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["video"] for line in captured.out.splitlines()] == [f"{tmp_path}/3.mp4"] * 2
    errors = captured.err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"{tmp_path}/1.mp4: container: not an mp4")
    assert errors[1].startswith(f"{tmp_path}/2.mp4: ")


def test_a_bug_keeps_its_traceback(run, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(encode(8))
    monkeypatch.setattr(TrainedClassifier, "probabilities", lambda *_: [].index(3))
    with pytest.raises(ValueError, match="is not in list"):
        main([str(run), str(tmp_path / "a.mp4")])


def test_what_cannot_be_predicted_is_one_sentence(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "salt" / "student").mkdir(parents=True)
    (tmp_path / "salt" / "student" / "encoder.json").write_text("{}")
    for arguments, complaint in (
        (
            [str(tmp_path / "salt"), "a.mp4"],
            f"no classifier in {tmp_path}/salt: it is of salt (",
        ),
        ([str(tmp_path / "none"), "a.mp4"], f"no run in {tmp_path}/none: there is no such folder"),
        ([str(tmp_path), "a.mp4"], f"no classifier in {tmp_path}: a fine-tuning run saves it at its end"),
        ([str(run)], "no videos are named: give at least one file or folder after the run"),
        ([str(run), "a.mp4"], "no video at a.mp4: give a video file, or a folder of videos"),
        ([str(run), str(tmp_path / "empty")], f"no videos under {tmp_path}/empty"),
        ([str(run), "a.mp4", "--windows", "0"], "--windows must be at least 1; got 0"),
        ([str(run), "a.mp4", "--top", "0"], "--top must be at least 1; got 0"),
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith(complaint)
        assert captured.err.count("\n") == 1
        assert captured.out == ""
