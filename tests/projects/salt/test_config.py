"""The options of a run and of its encoder: declared once, with the names that older files have."""

import dataclasses
import json
from pathlib import Path

from fastvid.models import VideoViTConfig
from fastvid.projects.salt.config import ModelConfig, SaltConfig
from fastvid.train.config import to_dict

OLD = Path(__file__).parents[2] / "old_runs" / "salt"


def test_every_option_of_the_model_is_the_encoders():
    options = {
        "name": "vit_small_patch16_224", "width": 96, "depth": 3, "heads": 6, "patch": 8, "tubelet": 4,
        "positions": "learned", "init": "mimetic", "drop_path": 0.25, "pretrained": True,
    }  # fmt: skip
    config = ModelConfig(**options, checkpointing=True)
    assert list(dataclasses.asdict(config)) == [*options, "checkpointing"]
    assert config.for_clips(frames=8, size=64) == VideoViTConfig(**options, frames=8, size=64)


def test_the_files_of_a_run_have_the_names_that_older_ones_have():
    before = json.loads((OLD / "config.json").read_text())
    assert list(to_dict(SaltConfig())["model"]) == list(before["model"])
    encoder = json.loads((OLD / "student" / "encoder.json").read_text())
    assert {field.name for field in dataclasses.fields(VideoViTConfig)} == encoder.keys()
