"""LeRobot data sets: episodes and cameras as samples, of version 2.1 and 3.0."""

import builtins
import io
import json

import pytest

from fastvid.data import (
    EpochSampler,
    EvaluationDraws,
    LoaderState,
    Quarantine,
    TrainLoader,
    ViewDraws,
    eval_batches,
    hold_out,
    open_parts,
    split_labelled,
)
from fastvid.data.labels.lerobot import episode_of
from fastvid.data.source import origin_of, read_video
from fastvid.video import DecodeError, Limits, ViewSpec, decode, probe
from fastvid.video.cut import cut
from tests.data.robots import CAMERAS, FPS, LENGTHS, first_number, make_2_1, make_3_0, write_info
from tests.video.clips import encode, number_of

MAKERS = {"v2.1": make_2_1, "v3.0": make_3_0}


@pytest.fixture(params=MAKERS)
def robot(request, tmp_path):
    if request.param == "v3.0":
        pytest.importorskip("pyarrow")
    return MAKERS[request.param](tmp_path / "robot")


def numbers(data):
    """The numbers that a video's frames show."""
    info = probe(data)
    return [number_of(frame) for frame in decode(data, range(info.frames), info=info)]


def test_every_camera_of_every_episode_is_a_sample(robot):
    source = open_parts(robot)
    keys = [f"episode_{episode:06d}/{camera}" for camera in CAMERAS for episode in range(4)]
    assert [sample.key for sample in source.samples] == keys
    assert [sample.label for sample in source.samples][:4] == [
        "fold the towel",
        "open the drawer",
        "fold the towel",
        None,
    ]
    assert source.samples[3].caption == "open the drawer; close it"
    assert source.classes() == ["fold the towel", "open the drawer"]
    assert "4 episodes of 2 cameras" in source.description
    assert sum(source.shard_sizes) == 8
    for index in range(8):
        first = first_number(index % 4, index // 4)
        assert numbers(source.read(index)) == list(range(first, first + LENGTHS[index % 4]))
        assert source.size(index) > 0


def test_cameras_are_chosen(robot):
    for name in ("wrist", "observation.images.wrist"):
        source = open_parts(robot, cameras=(name,))
        assert {sample.key.partition("/")[2] for sample in source.samples} == {"observation.images.wrist"}
        assert numbers(source.read(1))[0] == first_number(1, 1)
    with pytest.raises(ValueError, match=r"has no camera 'front': choose from observation\.images\.top, observation"):
        open_parts(robot, cameras=("front",))


def test_clips_lie_within_an_episode(robot):
    """Views longer than an episode repeat its last frame, and none shows the next episode."""
    source = open_parts(robot)
    draws = ViewDraws(ViewSpec(frames=4, size=32, sampling="stride", stride=3, scale=(1, 1), ratio=(1, 1), flip=0), 0)
    for index, sample in enumerate(source.samples):
        data, info = read_video(source, index, Limits())
        for draw in range(6):
            frames = decode(data, draws.view(sample, draw, info).frames, info=info)
            shown = {number_of(frame) for frame in frames}
            first = first_number(index % 4, index // 4)
            assert shown <= set(range(first, first + LENGTHS[index % 4]))


def test_training_and_evaluation_load_it(robot):
    source = open_parts(robot)
    spec = ViewSpec(frames=4, size=32)
    sampler = EpochSampler(source.shard_sizes, batch=4, seed=0, window=16, start=LoaderState())
    with TrainLoader(source, ViewDraws(spec, 0), sampler, quarantine=Quarantine()) as loader:
        keys = [key for _ in range(2) for key in next(loader).keys]
    assert sorted(keys) == sorted(sample.key for sample in source.samples)
    (batch,) = eval_batches(source, range(8), EvaluationDraws(spec), batch=8, quarantine=Quarantine())
    assert batch.clips.shape == (8, 4, 32, 32, 3)


def test_all_cameras_of_an_episode_are_on_one_side(robot):
    train, test, _ = hold_out(open_parts(robot), 0.5)
    sides = [{sample.key.partition("/")[0] for sample in part.samples} for part in (train, test)]
    assert sides[0] | sides[1] == {f"episode_{number:06d}" for number in range(4)}
    # The episode of several tasks has no label, and is trained on whichever side its key is on.
    assert not sides[0] & sides[1] - {"episode_000003"}


def test_its_own_split_is_kept(robot):
    info = json.loads((robot / "meta" / "info.json").read_text())
    info["splits"] = {"train": "0:2", "test": "2:4"}
    (robot / "meta" / "info.json").write_text(json.dumps(info))
    source = open_parts(robot)
    train, test, notes = hold_out(source, 0.5)
    assert {sample.key.partition("/")[0] for sample in train.samples} == {"episode_000000", "episode_000001"}
    assert {sample.key.partition("/")[0] for sample in test.samples} == {"episode_000002"}  # 3 has no single task
    assert any("meta/info.json" in note for note in notes)
    info["splits"] = {"train": "0:2", "val": "2:3"}
    (robot / "meta" / "info.json").write_text(json.dumps(info))
    assert origin_of(open_parts(robot), 3).unlisted


def test_episodes_are_groups_of_supervised_splits(tmp_path):
    robot = make_2_1(tmp_path / "robot")
    lines = [{"episode_index": n, "tasks": [f"task {n % 2}"], "length": LENGTHS[n]} for n in range(4)]
    (robot / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match="protocol hash-group"):  # four episodes are too few for three parts
        split_labelled(open_parts(robot))


def test_version_3_needs_pyarrow(tmp_path, monkeypatch):
    write_info(tmp_path, "v3.0", "videos/{video_key}/file-{file_index:03d}.mp4")
    load = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError("no pyarrow")
        return load(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"in parquet files: pip install 'fastvid\[lerobot\]'"):
        open_parts(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codebase_version": "v1.6"}, "of version v1.6: versions 2 and 3 are read"),
        ({"video_path": None}, "without videos: its cameras are stored as single pictures"),
        ({"features": {"top": {"dtype": "image"}}}, "without videos: its cameras are stored as single pictures"),
        ({"video_path": "../{video_key}.mp4"}, "leads out of the data set's folder"),
        ({"video_path": "{nothing}.mp4"}, r"info\.json is damaged: video_path '{nothing}\.mp4' is no pattern of files"),
        ({"video_path": "{}.mp4"}, r"info\.json is damaged: video_path '{}\.mp4' is no pattern of files"),
        ({"video_path": "{video_key:03d}.mp4"}, "info.json is damaged: video_path .* is no pattern of files"),
        ({"video_path": "{video_key}.mp4"}, "episodes.jsonl, line 2: .*top.mp4 is the video of another episode too"),
        ({"fps": None}, "info.json is damaged: fps is None, and must be a number above 0"),
        ({"fps": 0}, "info.json is damaged: fps is 0, and must be a number above 0"),
        ({"fps": float("nan")}, "info.json is damaged: fps is nan, and must be a number above 0"),
        ({"fps": "fast"}, "info.json is damaged: fps is 'fast', and must be a number above 0"),
        ({"chunks_size": 0}, "info.json is damaged: chunks_size is 0, and must be a whole number of at least 1"),
        ({"features": ["top"]}, "info.json is damaged: features must be an object"),
        ({"features": {"top": {}}}, "info.json is damaged: feature 'top' says no dtype"),
        ({"features": {"top": 3}}, "info.json is damaged: feature 'top' says no dtype"),
        ({"splits": ["train"]}, "info.json is damaged: splits must be an object"),
        ({"splits": {"train": "0:2", "test": "two"}}, "splits: test is 'two', and must be FIRST:END"),
        ({"splits": {"train": "0:3", "test": "2:4"}}, "splits: episode 2 is in two parts"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_said(tmp_path, changes, words):
    robot = make_2_1(tmp_path / "robot")
    good = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    write_info(robot, **{"version": "v2.1", "video_path": good, **changes})
    with pytest.raises(ValueError, match=words):
        open_parts(robot)


def test_an_info_without_frame_rate_or_version_is_said(tmp_path):
    robot = make_2_1(tmp_path / "robot")
    file = robot / "meta" / "info.json"
    info = json.loads(file.read_text())
    for name, words in (("fps", "fps is None"), ("codebase_version", "of version None: versions 2 and 3 are read")):
        file.write_text(json.dumps({key: value for key, value in info.items() if key != name}))
        with pytest.raises(ValueError, match=words):
            open_parts(robot)


@pytest.mark.parametrize("text", ['{"codebase_version": "v3.0", ', "", "[]", "null", "\xff"], ids=repr)
def test_a_damaged_info_does_not_make_it_a_folder_of_videos(tmp_path, text):
    robot = make_2_1(tmp_path / "robot")
    (robot / "meta" / "info.json").write_bytes(text.encode("latin-1"))
    for cameras in ((), ("top",)):
        with pytest.raises(ValueError, match=r"meta/info\.json"):
            open_parts(robot, cameras=cameras)


def test_a_folder_of_videos_may_have_an_info_of_its_own(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text('{"made by": "a camera"}')
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "a.mp4").write_bytes(encode(4))
    assert [sample.label for sample in open_parts(tmp_path).samples] == ["walk"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"episode_index": 4, ', "line 5: not an object of JSON"),
        ("[1]", "line 5: not an object of JSON"),
        ('{"episode_index": 3, "length": 10}', "line 5: episode 3 is listed twice"),
        ('{"length": 10}', "line 5: episode_index is None, and must be a whole number of at least 0"),
        (
            '{"episode_index": -1, "length": 10}',
            "line 5: episode_index is -1, and must be a whole number of at least 0",
        ),
        ('{"episode_index": 4}', "line 5: length is None, and must be a whole number of at least 1"),
        ('{"episode_index": 4, "length": "long"}', "line 5: length is 'long', and must be a whole number"),
        ('{"episode_index": 4, "length": 9, "tasks": "fold"}', "line 5: tasks must be a list of texts"),
    ],
)
def test_a_damaged_line_of_episodes_is_named(tmp_path, line, words):
    robot = make_2_1(tmp_path / "robot")
    with (robot / "meta" / "episodes.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(ValueError, match=rf"episodes\.jsonl, {words}"):
        open_parts(robot)


@pytest.mark.parametrize("name", ["from_timestamp", "to_timestamp", "chunk_index", "file_index"])
@pytest.mark.parametrize("values", [None, [0, None, 0], [0, -1, 0], [0, float("nan"), 0]], ids=str)
def test_an_episode_of_version_3_without_its_place_in_the_file_is_refused(tmp_path, name, values):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    robot = make_3_0(tmp_path / "robot")
    file, column = robot / "meta" / "episodes" / "chunk-000" / "file-000.parquet", f"videos/{CAMERAS[1]}/{name}"
    table = parquet.read_table(file).drop_columns([column])
    parquet.write_table(table if values is None else table.append_column(column, pa.array(values)), file)
    row = 2 if values and name != "to_timestamp" else 1  # an end of 0 is refused in the first row
    with pytest.raises(ValueError, match=rf"file-000\.parquet, row {row}: {column}"):
        open_parts(robot)


def test_an_episode_listed_twice_in_version_3_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    robot = make_3_0(tmp_path / "robot")
    folder = robot / "meta" / "episodes" / "chunk-000"
    (folder / "file-002.parquet").write_bytes((folder / "file-001.parquet").read_bytes())
    with pytest.raises(ValueError, match=r"file-002\.parquet, row 1: episode 3 is listed twice"):
        open_parts(robot)


def test_a_number_of_seven_digits_is_an_episode_too():
    assert episode_of("episode_1000000/observation.images.top") == "episode_1000000"
    assert episode_of("robot/episode_000003/observation.images.top") == "episode_000003"
    assert episode_of("episode_00003/observation.images.top") is None


def test_labels_and_cameras_are_refused_where_they_mean_nothing(tmp_path):
    robot = make_2_1(tmp_path / "robot")
    with pytest.raises(ValueError, match="tasks are labels"):
        open_parts(robot, tmp_path / "labels.csv")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.mp4").write_bytes(encode(4))
    with pytest.raises(ValueError, match=r"--data\.cameras is for LeRobot data sets"):
        open_parts(tmp_path / "plain", cameras=("top",))


def test_a_missing_or_short_file_is_a_bad_sample(tmp_path):
    robot = make_2_1(tmp_path / "robot")
    source = open_parts(robot)
    (robot / "videos" / "chunk-000" / CAMERAS[0] / "episode_000001.mp4").unlink()
    with pytest.raises(DecodeError, match=r"read: .*episode_000001\.mp4: No such file"):
        source.read(1)
    with pytest.raises(DecodeError, match="No such file"):
        source.size(1)


def test_an_episode_of_another_length_is_a_bad_sample(tmp_path):
    pytest.importorskip("pyarrow")
    robot = make_3_0(tmp_path / "robot")
    file = robot / "videos" / CAMERAS[0] / "chunk-000" / "file-001.mp4"
    file.write_bytes(encode(LENGTHS[3] - 2))
    source = open_parts(robot)
    with pytest.raises(DecodeError, match=r"frame_count: .*file-001\.mp4 shows 8 frames of an episode of 10"):
        source.read(3)


@pytest.mark.parametrize("options", [{"g": "2"}, {"g": "250", "bf": "3"}, {"g": "4", "bf": "0"}], ids=str)
def test_episodes_are_cut_out_exactly_however_they_are_coded(tmp_path, options):
    pytest.importorskip("pyarrow")
    source = open_parts(make_3_0(tmp_path / "robot", options))
    for index in range(8):
        first = first_number(index % 4, index // 4)
        assert numbers(source.read(index)) == list(range(first, first + LENGTHS[index % 4]))


def test_a_stretch_may_begin_between_key_frames_but_not_end_inside_what_is_predicted_both_ways():
    data = encode(40, options={"g": "10", "bf": "0"})
    copy, frames = cut(io.BytesIO(data), 13 / FPS, 27 / FPS, slack=0.4 / FPS)
    assert frames == 14
    assert numbers(copy) == list(range(13, 27))
    data = encode(40, options={"g": "40", "bf": "3", "b_strategy": "0"})
    for end in (20, 22, 23):
        with pytest.raises(DecodeError, match="frames reach across it"):
            cut(io.BytesIO(data), 0, end / FPS, slack=0.4 / FPS)
    copy, _ = cut(io.BytesIO(data), 0, 21 / FPS, slack=0.4 / FPS)  # where a group of them ends
    assert numbers(copy) == list(range(21))
    for start, end, what in ((3, 4, "no frame is shown from second 3 to 4"), (0, 1, "mp4 and mov files only")):
        container = "mp4" if start else "matroska"
        with pytest.raises(DecodeError, match=what):
            cut(io.BytesIO(encode(10, container=container)), start, end, slack=0.01)


def test_only_the_stretch_is_read():
    """A long file costs no more than what is cut out of it."""
    data = encode(120, options={"g": "5", "qp": "2"}, coloured=True, height=128)

    class Counting(io.BytesIO):
        taken = 0

        def read(self, size=-1):
            part = super().read(size)
            Counting.taken += len(part)
            return part

    copy, frames = cut(Counting(data), 60 / FPS, 65 / FPS, slack=0.4 / FPS)
    assert frames == 5
    assert len(copy) < 0.1 * len(data)
    assert Counting.taken < 0.3 * len(data)
