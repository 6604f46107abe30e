"""Videos that lie on a disk: the original project's files, shards, and any others."""

import json

import numpy as np
import pytest
import torch

from fastvid.data.demo.files import encode_h264
from fastvid.projects.trajectory.config import TokenConfig
from fastvid.projects.trajectory.footage import OwnVideos, open_videos, write_shards
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.tokens import find_tracks, load_tokens, make_tokens
from fastvid.projects.trajectory.user_files import export_files, read_labels, read_pixels
from fastvid.projects.trajectory.videos import GeneratedVideos

PLAIN = TokenConfig(features="pixels")
ALL = np.arange


@pytest.fixture
def files(tmp_path):
    """Forty exported videos: files 0 to 39."""
    export_files(SceneConfig(), np.arange(40), tmp_path / "files")
    return tmp_path / "files"


def at(folder, **options):
    return SceneConfig(path=str(folder), train=20, val=10, test=10, **options)


def test_exported_files_are_read_back(files):
    made, read = GeneratedVideos(SceneConfig(train=20, val=10, test=10)), open_videos(at(files))
    np.testing.assert_array_equal(read.read(ALL(40)).frames, made.read(ALL(40)).frames)
    np.testing.assert_array_equal(read.motion, made.motion)
    np.testing.assert_array_equal(read.noise, made.noise)
    assert read.keys[7] == "augmented_traj_00007"


def test_exported_files_have_the_fields_of_the_original(files):
    pixels = torch.load(files / "augmented_traj_00003.pt", weights_only=True)
    assert (pixels.shape, pixels.dtype) == ((16, 3, 64, 64), torch.float32)
    fields = json.loads((files / "augmented_traj_00003.json").read_text())
    assert fields["class"] == "Parabolic"
    assert np.shape(fields["positions"]) == (16, 3)
    assert fields["num_transients"] == len(fields["transient_details"])
    first = fields["transient_details"][0]
    assert set(first) == {"start_frame", "duration", "trajectory_type", "start_position"}
    assert first["start_frame"] in fields["transient_frames"]


def test_imported_objects_are_persistent_by_their_colour(files, caplog):
    videos = open_videos(at(files))
    assert "boxes cannot be rebuilt" in caplog.text
    known = GeneratedVideos(SceneConfig(train=20, val=10, test=10))
    extractor_free = [make_tokens(v, ALL(40), PLAIN, _Nothing()) for v in (videos, known)]
    agree = extractor_free[0].persistent == extractor_free[1].persistent
    assert agree.mean() > 0.97


class _Nothing:
    """An extractor without features."""

    size, dim, normalisation, facts = 2, 0, ((0.5,) * 3, (0.5,) * 3), {}

    def __call__(self, crops):
        return crops.new_zeros(len(crops), 0)


def test_the_first_frames_of_imported_files_have_a_label_of_their_own(files):
    labels = read_labels(files / "augmented_traj_00001.pt")
    short = open_videos(at(files, frames=8))
    assert short.read(ALL(2)).frames.shape == (2, 8, 64, 64, 3)
    few = sum(frame < 8 for frame in labels.transient) / 8 < 0.2
    assert short.noise[1] == int(few)
    with pytest.raises(ValueError, match=r"frames is 20, and the videos in .* have 16"):
        open_videos(at(files, frames=20))


@pytest.mark.parametrize("shape", [(5, 3, 8, 9), (5, 8, 9, 3), (3, 5, 8, 9)])
def test_the_axis_of_size_three_says_how_pixels_lie(tmp_path, shape):
    video = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), np.uint8)
    axes = {(5, 3, 8, 9): (0, 3, 1, 2), (5, 8, 9, 3): (0, 1, 2, 3), (3, 5, 8, 9): (3, 0, 1, 2)}[shape]
    path = tmp_path / "augmented_traj_00000.pt"
    torch.save(torch.from_numpy(video.transpose(axes).copy()), path)
    np.testing.assert_array_equal(read_pixels(path), video)
    torch.save(torch.from_numpy(video.transpose(axes).copy()).float() / 255, path)
    np.testing.assert_array_equal(read_pixels(path), video)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3, 3, 8, 8), r"shape \(3, 3, 8, 8\): axes 0 and 1 may each be the colours"),
        (torch.zeros(16, 4, 8, 8), r"shape \(16, 4, 8, 8\): no axis of size 3"),
        (torch.zeros(16, 8, 8), r"shape \(16, 8, 8\): a video has four axes"),
        (torch.zeros(4, 32, 3, 64, 64), r"shape \(4, 32, 3, 64, 64\).*several cameras"),
        (torch.full((5, 3, 8, 8), 200.0), "values from 200 to 200"),
        (torch.full((5, 3, 8, 8), float("nan")), "values from nan"),
        (torch.zeros(5, 3, 8, 8, dtype=torch.int64), "torch.int64 values"),
        ({"video": torch.zeros(5, 3, 8, 8)}, "holds a dict, not one tensor"),
        (GeneratedVideos, "no file of torch.save with a tensor alone"),
    ],
)
def test_files_of_another_content_are_refused(tmp_path, content, said):
    path = tmp_path / "augmented_traj_00000.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=said):
        read_pixels(path)


def test_a_missing_or_damaged_json_is_named(files):
    place = files / "augmented_traj_00005.json"
    good = place.read_text()
    place.write_text(good[:30])
    with pytest.raises(ValueError, match=r"augmented_traj_00005.json is damaged"):
        open_videos(at(files))
    place.write_text(json.dumps({**json.loads(good), "class": "Spiral"}))
    with pytest.raises(ValueError, match=r"00005.json lacks what is needed: class, one of Linear"):
        open_videos(at(files))
    place.unlink()
    with pytest.raises(FileNotFoundError, match=r"00005.json is missing"):
        open_videos(at(files))


def test_one_class_is_refused(files, tmp_path):
    for path in files.glob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "class": "Linear"}))
    with pytest.raises(ValueError, match=r"part train are of one class, 'linear'"):
        load_tokens(at(files), PLAIN, "train", folder=tmp_path / "cache")


def test_videos_without_transients_are_refused(files, tmp_path):
    for path in files.glob("*.pt"):
        pixels = torch.load(path, weights_only=True)
        torch.save(pixels * (pixels[:, 2:] > 0.5), path)
    with pytest.raises(ValueError, match=r"no transient object was found in the 20 videos of the part train"):
        load_tokens(at(files), PLAIN, "train", folder=tmp_path / "cache")


def test_the_tracker_truth_needs_a_truth(files, tmp_path):
    with pytest.raises(ValueError, match=r"choose another tracker than truth"):
        load_tokens(at(files), TokenConfig(tracker="truth", features="pixels"), "train", folder=tmp_path / "cache")


@pytest.mark.parametrize("variant", ["seed", "hard"])
def test_shards_hold_the_same_pixels_and_truth(tmp_path, variant):
    config = SceneConfig(variant=variant, train=6, val=3, test=3)
    write_shards(config, tmp_path / "shards")
    made, read = GeneratedVideos(config), open_videos(SceneConfig(path=str(tmp_path / "shards")))
    assert isinstance(read, OwnVideos)
    here, there = read.read(ALL(12)), made.read(ALL(12))
    np.testing.assert_array_equal(here.frames, there.frames)
    np.testing.assert_array_equal(here.truth.boxes, there.truth.boxes)
    np.testing.assert_array_equal(read.motion, made.motion)
    np.testing.assert_array_equal(read.noise, made.noise)
    assert here.detector == there.detector
    with pytest.raises(FileExistsError, match=r"give a new folder"):
        write_shards(config, tmp_path / "shards")


def test_hard_is_not_exported_as_files_of_the_original(tmp_path):
    with pytest.raises(ValueError, match=r"variant seed alone"):
        export_files(SceneConfig(variant="hard"), np.arange(2), tmp_path)


def test_a_folder_of_own_videos_is_tracked_and_not_trained_on(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    frames = np.full((20, 96, 128, 3), 90, np.uint8)
    for t in range(20):
        frames[t, 40:52, 4 * t : 4 * t + 12] = [240, 60, 60]
    (folder / "a.mp4").write_bytes(encode_h264(frames, 10, lossless=True))
    videos = open_videos(SceneConfig(path=str(folder)))
    footage = videos.read(ALL(1))
    assert footage.frames.shape == (1, 16, 64, 64, 3)
    tracks = find_tracks(footage, PLAIN)
    assert tracks.track.max() == 0
    np.testing.assert_allclose(tracks.boxes[3], [4 * 4 / 128, 40 / 96, 28 / 128, 52 / 96], atol=0.03)
    with pytest.raises(ValueError, match=r"predicted on alone"):
        load_tokens(SceneConfig(path=str(folder)), PLAIN, "train", folder=tmp_path / "cache")


def test_an_own_video_that_does_not_decode_is_named(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 1000)
    with pytest.raises(ValueError, match=r"bad.mp4 cannot be decoded"):
        open_videos(SceneConfig(path=str(tmp_path))).read(ALL(1))
