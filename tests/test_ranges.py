"""Numbers that options take: each is finite and in its range, whatever the command."""

import dataclasses
import math
from pathlib import Path

import pytest

from fastvid.command import UserError
from fastvid.data.demo.files import DemoSize
from fastvid.eval.config import EvalConfig, EvalData
from fastvid.latents.config import CacheConfig, CacheData, VerifyConfig
from fastvid.projects.salt import presets as salt_presets
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.vjepa2 import presets as vjepa2_presets
from fastvid.projects.vjepa2.config import VJepa2Config
from fastvid.ranges import Range, check_numbers
from fastvid.train.config import parse

CONFIGS = [
    SaltConfig(), VJepa2Config(), DemoSize(), CacheConfig("hf:x", CacheData("x"), Path("out")),
    VerifyConfig(Path("x"), "hf:x", CacheData("x")), EvalConfig(run=Path("x"), data=EvalData("x")),
]  # fmt: skip


def numbers(config, prefix="--"):
    """(option, a function that makes the configuration with another value) of each number with a fraction."""
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            for name, change in numbers(value, f"{option}."):
                yield name, lambda v, change=change, f=field.name: _replace(config, f, change(v))
        elif isinstance(value, float):
            yield option, lambda v, f=field.name: _replace(config, f, v)
        elif isinstance(value, tuple) and value and isinstance(value[0], float):
            yield option, lambda v, f=field.name, rest=value[1:]: _replace(config, f, (v, *rest))


def _replace(config, name, value):
    """Without the checks of the class, which may refuse it as well."""
    made = object.__new__(type(config))
    for field in dataclasses.fields(config):
        object.__setattr__(made, field.name, value if field.name == name else getattr(config, field.name))
    return made


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_number_of_every_command_must_be_finite(config):
    check_numbers(config)
    found = list(numbers(config))
    assert found
    for option, change in found:
        for value in (math.nan, math.inf, -math.inf):
            with pytest.raises(UserError, match=f"{option} must be a finite number; got {value}$"):
                check_numbers(change(value))


@pytest.mark.parametrize("presets", [salt_presets.PRESETS, vjepa2_presets.PRESETS])
def test_the_presets_are_in_range(presets):
    for preset in presets.values():
        check_numbers(preset())


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--optim.lr", "0", "--optim.lr must be above 0; got 0.0"),
        ("--teacher.optim.lr", "-1", "--teacher.optim.lr must be above 0; got -1.0"),
        ("--optim.lr", "nan", "--optim.lr must be a finite number; got nan"),
        ("--optim.clip-grad", "-0.5", "--optim.clip-grad must be at least 0; got -0.5"),
        ("--data.flip", "2", "--data.flip must be at least 0 and at most 1; got 2.0"),
        ("--data.fps", "0", "--data.fps must be above 0; got 0.0"),
        ("--data.frames", "0", "--data.frames must be at least 1; got 0"),
        ("--run.seed", "-1", "--run.seed must be at least 0; got -1"),
        ("--health.every", "-1", "--health.every must be at least 0; got -1"),
        ("--optim.batch", "0", "--optim.batch must be at least 1; got 0"),
        ("--teacher.optim.accumulate", "0", "--teacher.optim.accumulate must be at least 1; got 0"),
        ("--data.prefetch", "0", "--data.prefetch must be at least 1; got 0"),
        ("--run.keep", "0", "--run.keep must be at least 1; got 0"),
        ("--run.memory-budget", "0", "--run.memory-budget must be above 0 and at most 1; got 0.0"),
        ("--mask.ratio", "1", "--mask.ratio must be above 0 and below 1; got 1.0"),
        ("--predictor.heads", "0", "--predictor.heads must be at least 1; got 0"),
        ("--predictor.tokens", "0", "--predictor.tokens must be at least 1; got 0"),
        ("--latent-window.echo", "0", "--latent-window.echo must be at least 1; got 0"),
    ],
)
def test_options_out_of_range_are_named(option, value, words):
    with pytest.raises(UserError, match=f"^{words}$"):
        parse("salt", salt_presets.PRESETS, "demo", [option, value])
    assert parse("salt", salt_presets.PRESETS, "demo", ["--optim.clip-grad", "0"])[0].optim.clip_grad == 0


def test_elements_of_tuples_are_compared():
    with pytest.raises(UserError, match=r"^--optim.betas must be at least 0 and below 1; got 1.0$"):
        parse("salt", salt_presets.PRESETS, "demo", ["--optim.betas", "0.9", "1"])


def test_a_range_says_what_is_in_it():
    assert [x in Range(0, 1, open=True) for x in (0, 0.5, 1, 1.1)] == [False, True, True, False]
    assert [x in Range(0, 1, open_high=True) for x in (-1, 0, 1)] == [False, True, False]
    assert str(Range(0, 1, open=True)) == "above 0 and at most 1"
