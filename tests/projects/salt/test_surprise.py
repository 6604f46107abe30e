"""The surprise of a saved run's predictor."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fastvid.models import save_encoder
from fastvid.models.teachers import EncoderTeacher, with_layers
from fastvid.models.vit import VideoViT
from fastvid.projects.salt.config import LossConfig, ModelConfig, PredictorConfig, SaltConfig, TeacherConfig
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.recipe import with_predictor
from fastvid.projects.salt.saved import save_predictor
from fastvid.projects.salt.surprise import load
from fastvid.projects.salt.targets import TeacherTargets
from fastvid.train.config import DataConfig, to_dict

CPU = torch.device("cpu")
TINY = SaltConfig(
    data=DataConfig(frames=8, size=32),
    model=ModelConfig("vit_tiny_patch16_224", width=32, depth=2, heads=2),
    predictor=PredictorConfig(32, 1, 2),
)


def saved_run(folder, config: SaltConfig):
    """A run's directory as the recipe leaves it, of models that have learnt nothing."""
    torch.manual_seed(3)
    student, teacher = (VideoViT(config.model.for_clips(frames=8, size=32)) for _ in range(2))
    for name, encoder in (("student", student), ("teacher", teacher)):
        save_encoder(encoder, folder / name)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    targets = TeacherTargets(with_layers(EncoderTeacher(teacher), config.teacher.layers), CPU)
    masks = MaskSampler(config.mask, student.grid, config.predictor.tokens, 0, "salt")
    module = with_predictor(student, targets, masks, config.predictor, config.loss, config.model).eval()
    save_predictor(module, folder / "student")
    return module, targets.teacher


def clips():
    return torch.randint(256, (2, 8, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_surprise_is_the_loss_of_the_tokens_that_come_later(tmp_path):
    module, teacher = saved_run(tmp_path, TINY)
    found = load(tmp_path)
    student, untrained, still = found.models
    assert [model.name for model in found.models] == ["student", "random initialisation", "student, single frame"]
    assert (student.slots, found.views.frames, found.views.sampling) == (4, 8, "stride")
    assert (still.still, still.surprise is student.surprise) == (True, True)
    shown = clips()
    surprise = student.surprise(shown, shown, 1)
    tokens = torch.arange(4 * 4).expand(2, -1)  # 2 x 2 tokens a slot
    visible, masked = tokens.split([4, 12], 1)
    with torch.no_grad():
        (said,) = module(shown, [(visible, masked)])
        true = F.layer_norm(teacher(shown)[:, 4:], (32,))
    torch.testing.assert_close(surprise, (said - true).square().mean((1, 2)), rtol=1e-4, atol=1e-5)
    assert not torch.equal(surprise, untrained.surprise(shown, shown, 1))
    # What is seen matters, and what comes later in it does not.
    changed = shown.clone()
    changed[:, 2:] = 0
    torch.testing.assert_close(student.surprise(changed, shown, 1), surprise)
    assert not torch.equal(student.surprise(changed, shown, 2), student.surprise(shown, shown, 2))


def test_predictors_of_several_layers_and_of_visible_tokens(tmp_path):
    deep = replace(TINY, teacher=TeacherConfig(layers=(1, 2)), loss=LossConfig(kind="l1", context=0.5))
    module, teacher = saved_run(tmp_path, deep)
    shown = clips()
    surprise = load(tmp_path).models[0].surprise(shown, shown, 2)
    tokens = torch.arange(4 * 4).expand(2, -1)
    visible, masked = tokens.split([8, 8], 1)
    with torch.no_grad():
        (said,) = module(shown, [(visible, masked)])
        assert said.shape == (2, 16, 64)  # masked tokens first, two latents of each
        true = F.layer_norm(teacher(shown).unflatten(1, (16, 2))[:, 8:], (32,))
    said = said[:, :8].unflatten(-1, (2, 32))
    torch.testing.assert_close(surprise, (said - true).abs().mean((1, 2, 3)), rtol=1e-4, atol=1e-5)


def test_a_run_without_its_predictor_says_how_to_get_it(tmp_path):
    saved_run(tmp_path, TINY)
    (tmp_path / "student" / "predictor.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=f"salt --resume {tmp_path}` writes it from the last checkpoint"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="give its directory"):
        load(tmp_path / "student")


def test_a_predictor_of_another_run_is_refused(tmp_path):
    saved_run(tmp_path / "a", TINY)
    saved_run(tmp_path / "b", replace(TINY, predictor=PredictorConfig(64, 1, 2)))
    (tmp_path / "a" / "student" / "predictor.safetensors").write_bytes(
        (tmp_path / "b" / "student" / "predictor.safetensors").read_bytes()
    )
    with pytest.raises(ValueError, match=r"predictor\.safetensors"):
        load(tmp_path / "a")


def test_a_run_that_cached_latents_taught_has_no_teacher(tmp_path):
    saved_run(tmp_path, TINY)
    (tmp_path / "teacher").rename(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"names no teacher: train with --teacher\.source beside --latents"):
        load(tmp_path)
