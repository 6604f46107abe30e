"""Surprise at impossible videos, in the layout of IntPhys 2."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fastvid.command import UserError
from fastvid.data.labels.intphys import PhysicsPair, read_intphys
from fastvid.eval.accuracy import wilson_interval
from fastvid.eval.config import EvalConfig, EvalData, IntPhysOptions
from fastvid.eval.intphys import (
    Predicting,
    SavedPredictor,
    context_sizes,
    measure_surprise,
    relative_accuracy,
    surprise_by_context,
)
from fastvid.video import ViewSpec
from tests.eval.made_videos import encode_grey

HEADER = "SceneIndex,name,file_name,game_name,condition,env,type,occluder,Difficulty,Camera"


def line(scene, name, kind, condition="permanence"):
    return f"{scene},{name},Videos/{name}.mp4,Game,{condition},Level,{kind},None,Easy,Fixed"


def write_intphys(folder: Path, scenes: int = 3) -> Path:
    """Scenes of two pairs. What is possible gets brighter or darker steadily, what is impossible jumps back."""
    lines = [HEADER]
    (folder / "Videos").mkdir(parents=True)
    for scene in range(scenes):
        for number, step in ((1, 4.0), (2, -4.0)):
            steady = 128 - 8 * step + step * np.arange(16) + scene
            jumping = np.where(np.arange(16) < 10, steady, steady[::-1])
            for kind, levels in (("Possible", steady), ("Impossible", jumping)):
                name = f"{scene}{number}{kind[0]}"
                (folder / "Videos" / f"{name}.mp4").write_bytes(encode_grey(levels, side=32))
                lines.append(line(scene, name, f"{number}_{kind}", "permanence" if scene else "solidity"))
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def steady_surprise(seen, clips, slots):
    """The mean distance between a clip's brightness and the line through the last two frames that are seen."""
    light, before = clips.float().mean((2, 3, 4)), seen.float().mean((2, 3, 4))
    first = 2 * slots
    step = before[:, first - 1] - before[:, first - 2]
    said = before[:, first - 1, None] + step[:, None] * torch.arange(1, clips.shape[1] - first + 1)
    return (light[:, first:] - said).abs().mean(1)


def measured(folder, windows=2):
    models = [Predicting("student", 8, steady_surprise), Predicting("single frame", 8, steady_surprise, still=True)]
    views = ViewSpec(frames=16, size=32, sampling="stride", stride=1)
    saved = SavedPredictor(models, views, torch.device("cpu"))
    config = EvalConfig(run=Path("run"), data=EvalData(str(folder)), intphys=IntPhysOptions(windows=windows), batch=8)
    return measure_surprise(config, lambda run: saved)


def test_who_extrapolates_is_surprised_by_the_impossible(tmp_path):
    found = measured(write_intphys(tmp_path))
    assert (found["pairs"], found["scenes"], found["chance"]) == (6, 3, 0.5)
    student, still = (row["intphys"] for row in found["rows"])
    assert (student["accuracy"], student["total"]) == (1.0, 6)
    assert student["low"] == wilson_interval(3, 3)[0]  # of three scenes, and not of six pairs
    assert {name: part["total"] for name, part in student["by"]["condition"].items()} == {
        "permanence": 4,
        "solidity": 2,
    }
    assert list(student["by"]["seen"]) == ["0.25", "0.50", "0.75"]
    assert student["by"]["seen"]["0.50"]["accuracy"] == 1.0
    # Who sees one frame expects nothing to change, and what jumps back stays nearer to that.
    assert still["accuracy"] < 0.5


def test_a_video_that_is_missing_or_broken_takes_its_pair_along(tmp_path, caplog):
    folder = write_intphys(tmp_path)
    (folder / "Videos" / "01P.mp4").unlink()
    (folder / "Videos" / "12I.mp4").write_bytes(b"rubbish")
    found = measured(folder)
    assert found["pairs"] == 4
    assert "1 of 6 pairs are left out, since a video of theirs is not there" in caplog.text
    assert "12I.mp4" in caplog.text


def test_a_tie_is_half_right():
    pairs = [PhysicsPair(str(i), f"p{i}", f"i{i}", {}) for i in range(4)]
    surprises = {f"p{i}": torch.tensor([1.0, 1.0]) for i in range(4)}
    surprises |= {"i0": torch.tensor([2.0, 0.0]), "i1": torch.tensor([2.0, 1.0]), "i2": torch.tensor([0.0, 1.0])}
    found = relative_accuracy(pairs, surprises | {"i3": torch.tensor([1.0, 3.0])}, [2, 4], 8)
    assert (found["correct"], found["total"]) == (2.5, 4)  # equal on average, more, less, more
    assert found["by"]["seen"]["0.25"]["accuracy"] == (1 + 1 + 0 + 0.5) / 4


def test_a_single_frame_is_all_that_is_seen():
    clips = torch.arange(8, dtype=torch.uint8).view(1, 8, 1, 1, 1).expand(1, 8, 1, 1, 3)
    shown = []

    def surprise(seen, whole, slots):
        shown.append((slots, seen[0, :, 0, 0, 0].tolist()))
        assert torch.equal(whole, clips)
        return torch.zeros(len(seen))

    assert surprise_by_context(Predicting("x", 4, surprise, still=True), clips).shape == (1, 3)
    assert shown == [
        (1, [1, 1, 2, 3, 4, 5, 6, 7]), (2, [3, 3, 3, 3, 4, 5, 6, 7]), (3, [5, 5, 5, 5, 5, 5, 6, 7])
    ]  # fmt: skip
    assert context_sizes(2) == [1]
    with pytest.raises(UserError, match="at least two time slots"):
        context_sizes(1)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([HEADER, line(0, "a", "1_Possible"), line(0, "b", "possible")], "line 3: the type 'possible' is not like"),
        ([HEADER, line(0, "a", "1_Possible"), line(1, "b", "1_Impossible")], "scene 0 has a video 1_Possible without"),
        ([HEADER, line(0, "a", "1_Possible"), line(0, "b", "1_Possible")], "scene 0 has two videos 1_Possible"),
        (["name,file_name", "a,Videos/a.mp4"], "has no column sceneindex and none type"),
    ],
)
def test_lists_without_pairs_are_refused(tmp_path, lines, words):
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=words):
        read_intphys(tmp_path)


def test_the_part_is_named_where_the_whole_was_given(tmp_path):
    for part in ("Main", "Debug"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "metadata.csv").write_text(HEADER + "\n")
    with pytest.raises(FileNotFoundError, match="give one of its folders Debug, Main"):
        read_intphys(tmp_path)


def test_pairs_are_of_one_number(tmp_path):
    folder = write_intphys(tmp_path, scenes=1)
    one, two = read_intphys(folder)
    assert (one.scene, one.possible, one.impossible) == ("0", "Videos/01P.mp4", "Videos/01I.mp4")
    assert two.impossible == "Videos/02I.mp4"
    assert one.groups == {"condition": "solidity", "difficulty": "easy", "camera": "fixed"}
