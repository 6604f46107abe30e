"""The numbers of blocks as an option, in a file of options and in a run's config.json."""

import json

import pytest

from fastvid.models.block_numbers import name_blocks, parse_blocks
from fastvid.projects.salt.presets import PRESETS
from fastvid.train.config import from_dict, parse, to_dict


def parsed(*arguments: str) -> tuple[int, ...]:
    return parse("salt", PRESETS, "demo", list(arguments))[0].teacher.layers


@pytest.mark.parametrize(
    ("arguments", "layers"),
    [
        (("--teacher.layers", "3,6,9,12"), (3, 6, 9, 12)),
        (("--teacher.layers", "3", "6"), (3, 6)),
        (("--teacher.layers=2",), (2,)),
        (("--teacher.layers", "last"), ()),
        ((), ()),
    ],
)
def test_on_the_command_line(arguments, layers):
    assert parsed(*arguments) == layers


@pytest.mark.parametrize("value", [[1, 2], "1,2"])
def test_in_a_file_of_options(tmp_path, value):
    (tmp_path / "options.json").write_text(json.dumps({"teacher": {"layers": value}}))
    assert parsed("--config", str(tmp_path / "options.json")) == (1, 2)


def test_in_the_configuration_of_a_run():
    config = parse("salt", PRESETS, "demo", ["--teacher.layers", "1,3"])[0]
    assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))).teacher.layers == (1, 3)


def test_names():
    assert [name_blocks(layers) for layers in ((), (4,), (3, 6))] == ["last", "4", "3,6"]
    assert parse_blocks(name_blocks((3, 6))) == (3, 6)
    with pytest.raises(ValueError, match="'3;6' is not a list of block numbers such as 3,6,9,12"):
        parse_blocks("3;6")
