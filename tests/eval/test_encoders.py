"""``python -m fastvid.eval RUN --data.path ... --probe ...`` of a folder with an encoder."""

import json

import numpy as np
import pytest
import torch

from fastvid.eval import __main__ as door
from fastvid.eval.accuracy import wilson_interval
from fastvid.models import VideoViT, VideoViTConfig, save_encoder
from tests.data.test_hmdb51 import CLASSES, NAMES, write_hmdb
from tests.eval.made_videos import brightening


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny encoder that has seen nothing, of clips of 8 frames in 4 slots."""
    torch.manual_seed(0)
    config = VideoViTConfig("vit_tiny_patch16_224", width=32, depth=1, heads=2, frames=8, size=32)
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(VideoViT(config), folder)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two classes of HMDB-51 with its lists: dark and light videos that get brighter."""
    root = tmp_path_factory.mktemp("hmdb")
    for name in NAMES:
        path = root / "videos" / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        dark = name.startswith(CLASSES[0])
        path.write_bytes(brightening((20 if dark else 140) + 2 * int(name[-1]), step=4))
    write_hmdb(root / "lists")
    return root / "videos"


def probed(encoder, videos, *options):
    out = encoder / "out.json"
    out.unlink(missing_ok=True)
    code = door.main([str(encoder), "--data.path", str(videos), "--out", str(out), "--attentive-epochs", "1", *options])
    return json.loads(out.read_text()) if code == 0 else code


def test_official_protocols_are_the_mean_over_three_splits(encoder, videos):
    found = probed(
        encoder, videos, "--data.protocol", "hmdb51", "--data.clips", "2", "--neighbours", "1",
        "--probe", "knn", "retrieval",
    )  # fmt: skip
    assert (found["train"], found["test"], found["classes"]) == ([6, 6, 8], [4, 4, 2], list(CLASSES))
    assert [row["encoder"] for row in found["rows"]] == [
        "encoder", "random initialisation", "encoder, single frame",
    ]  # fmt: skip
    row = found["rows"][0]
    assert row["knn"]["accuracy"] == 1.0
    assert row["knn"]["splits"] == [1.0, 1.0, 1.0]
    assert row["retrieval"]["accuracy"] == 1.0
    assert row["retrieval"]["chance"] == found["splits"][0][0]["retrieval"]["chance"] == 0.5
    assert row["knn"]["low"] < 1
    assert len(found["splits"]) == 3
    assert found["splits"][0][0]["knn"]["total"] == 4


def test_the_interval_of_an_official_protocol_counts_pairs(encoder, videos, tmp_path):
    # Videos of a number are of one scene: two scenes, two and one are tested by the splits, each by two videos.
    (tmp_path / "pairs.csv").write_text("path,label\n" + "".join(f'"{name}.avi",{name[-1]}\n' for name in NAMES))
    found = probed(
        encoder, videos, "--data.protocol", "hmdb51", "--probe", "retrieval", "--retrieval.pairs",
        str(tmp_path / "pairs.csv"),
    )  # fmt: skip
    splits = [split[0]["retrieval"] for split in found["splits"]]
    assert [(split["total"], split["independent"]) for split in splits] == [(4, 2), (4, 2), (2, 1)]
    mean = found["rows"][0]["retrieval"]
    assert (mean["low"], mean["high"]) == wilson_interval(mean["accuracy"] * 5, 5)


def test_clips_of_an_official_split_are_shown_backwards(encoder, videos):
    found = probed(encoder, videos, "--data.protocol", "hmdb51", "--probe", "reversed")
    assert [row["reversed"]["total"] for row in found["splits"][0]] == [4, 4, 4]
    assert found["rows"][2]["reversed"]["accuracy"] == 1.0  # dark or light, whatever the direction


def test_unlabelled_videos_are_asked_for_direction_and_order(encoder, videos, capsys):
    only = videos / CLASSES[0]
    found = probed(encoder, only, "--probe", "arrow", "order", "--data.holdout", "0.5")
    assert (found["classes"], found["chance"]) == ([], None)
    assert found["train"] + found["test"] == 6
    assert found["rows"][0]["arrow"]["total"] == 2 * found["test"]
    assert probed(encoder, only, "--probe", "linear") == 2
    assert "has 0 classes; probes need at least two" in capsys.readouterr().err


def test_texts_and_pairs(encoder, videos, tmp_path):
    ids = [f"{name}.avi" for name in NAMES]
    texts = np.eye(2, dtype=np.float32)[[CLASSES.index(name.partition("/")[0]) for name in NAMES]]
    np.savez(tmp_path / "texts.npz", keys=np.array(ids), features=texts)
    (tmp_path / "pairs.csv").write_text("path,label\n" + "".join(f'"{key}",{key[-5]}\n' for key in ids))
    found = probed(
        encoder, videos, "--probe", "retrieval", "--retrieval.captions", str(tmp_path / "texts.npz"),
        "--retrieval.pairs", str(tmp_path / "pairs.csv"),
    )  # fmt: skip
    by = found["rows"][0]["retrieval"]["by"]
    assert list(by) == ["pairs", "text to video", "video to text"]
    assert by["text to video"]["R@1"]["total"] == 2  # videos of a class share a caption
    assert by["video to text"]["R@1"]["accuracy"] == 1.0
    assert by["pairs"]["R@1"]["total"] == found["test"] == 4


def test_pairs_of_unlabelled_videos_are_tested(encoder, tmp_path):
    folder = tmp_path / "videos"
    names = [f"{label}{i}" for label in ("a/", "b/", "") for i in range(4)]  # a third has no label
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.mp4").write_bytes(brightening(10 * number, frames=8))
    (tmp_path / "pairs.csv").write_text(
        "path,label\n" + "".join(f"{name}.mp4,x\n" for name in names if "/" not in name)
    )
    found = probed(
        encoder, folder, "--probe", "retrieval", "--retrieval.pairs", str(tmp_path / "pairs.csv"),
        "--data.holdout", "0.8",
    )  # fmt: skip
    assert found["train"] + found["test"] == 12
    assert found["rows"][0]["retrieval"]["total"] >= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--probe", "arrow", "arrow"), "--probe takes one probe or several, each once"),
        (("--probe", "intphys", "arrow"), "run it alone"),
        (("--probe", "intphys"), "surprise is measured of a whole run, give its directory"),
        (("--retrieval.pairs", "x.csv"), "--retrieval.pairs is for --probe retrieval"),
        (("--retrieval.captions", "x.npz"), "--retrieval.captions is for --probe retrieval"),
        (("--intphys.windows", "2"), "--intphys.windows is for --probe intphys"),
        (("--probe", "intphys", "--data.crops", "3"), "--data.crops is for probes of encoders"),
        (("--probe", "intphys", "--data.labels", "x.csv"), "--data.labels is for probes of encoders"),
        (("--data.lists", "x"), "--data.lists is for official protocols"),
        (("--data.protocol", "ucf101"), "there is no trainlist01.txt"),
        (("--probe", "retrieval", "--retrieval.captions", "/nowhere.npz"), "there is no file /nowhere.npz"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(encoder, videos, capsys, options, words):
    assert probed(encoder, videos, *options) == 2
    assert words in capsys.readouterr().err


def test_other_probes_have_a_file_of_their_own(encoder, videos, capsys, monkeypatch):
    monkeypatch.setattr(door, "evaluate", lambda config: {"rows": list(config.probe)})
    for options, name in (((), "eval-videos.json"), (("--probe", "arrow", "order"), "eval-videos-arrow-order.json")):
        assert door.main([str(encoder), "--data.path", str(videos), *options]) == 0
        assert name in capsys.readouterr().out
        (encoder / name).unlink()
