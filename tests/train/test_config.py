import dataclasses
import json

import pytest

from fastvid.command import UserError
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.salt.presets import PRESETS
from fastvid.train.config import DataConfig, RunConfig, differences, from_dict, parse, to_dict


def test_configurations_survive_json():
    for preset in PRESETS.values():
        config = preset()
        assert from_dict(SaltConfig, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ValueError, match="fields this version does not know: colour"):
        from_dict(DataConfig, {"colour": "red"})


def test_the_published_preset_is_the_published_configuration():
    c = PRESETS["seed-vit-base"]()
    o = c.optim
    assert (c.model.name, o.batch, o.lr, o.min_lr, o.warmup) == ("vit_base_patch16_224", 32, 3e-4, 3e-5, 500)
    assert (o.betas, o.weight_decay, o.weight_decay_end, o.clip_grad) == ((0.9, 0.95), 0.04, 0.4, 0.02)
    assert (c.mask.ratio, c.mask.specs, c.predictor.width, c.predictor.depth) == (0.75, ("salt",), 384, 12)


def test_options_change_a_preset(capsys):
    config, launch = parse("salt", PRESETS, "demo", ["--preset", "vit-base", "--optim.lr", "1e-3", "--detach"])
    assert (config.optim.lr, config.model.name, launch.detach) == (1e-3, "vit_base_patch16_224", True)
    assert parse("salt", PRESETS, "demo", [])[0] == PRESETS["demo"]()
    assert parse("salt", PRESETS, "demo", ["--preset=vit-small"])[0] == PRESETS["vit-small"]()
    for arguments in (["--preset", "vit-enormous"], ["--preset"], ["--optim.speed", "9"], ["--resume", "/nowhere"]):
        with pytest.raises((SystemExit, UserError)) as caught:
            parse("salt", PRESETS, "demo", arguments)
        assert getattr(caught.value, "code", 2) == 2


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("salt", PRESETS, "demo", ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option, meaning in (("--optim.lr", "Peak learning rate"), ("--data.path", "A folder of videos")):
        assert option in text
        assert meaning in text

    def leaves(config, prefix=""):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value):
                yield from leaves(value, f"{prefix}{field.name}.")
            else:
                yield f"--{prefix}{field.name}".replace("_", "-")

    missing = [option for option in leaves(PRESETS["demo"]()) if option not in text]
    assert missing == []


def test_what_changed_is_listed():
    a = PRESETS["demo"]()
    b = dataclasses.replace(a, optim=dataclasses.replace(a.optim, lr=0.5))
    assert differences(a, b) == [f"optim.lr: {a.optim.lr} -> 0.5"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"memory_budget": 0.5}, "memory-budget is for compiled steps; add --run.compile True"),
    ],
)
def test_a_memory_budget_is_a_share_and_needs_a_compiled_step(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        RunConfig(**options)
