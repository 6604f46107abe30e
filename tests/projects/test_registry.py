"""Every project of the table offers what the commands ask of it, and a list of them loads no code of theirs."""

import inspect
import json
import subprocess
import sys
from pkgutil import resolve_name

import pytest

from fastvid.projects import registry
from fastvid.projects.sweep import SweepPlan
from fastvid.train.config import from_dict, to_dict
from tests.waiting import HANG


@pytest.mark.parametrize("name", registry.names())
def test_what_a_project_names_is_there(name):
    project = registry.find(name)
    assert project.name == name
    assert project.summary
    presets = resolve_name(project.presets)
    assert type(presets["demo"]()).__module__ == f"fastvid.projects.{name}.config"
    assert list(inspect.signature(resolve_name(project.run)).parameters) == ["session", "config"]
    assert "source" in inspect.signature(resolve_name(project.load)).parameters
    assert project.export is None or callable(resolve_name(project.export))
    assert project.report is None or callable(resolve_name(project.report))
    assert project.sweep is None or isinstance(resolve_name(project.sweep), SweepPlan)


@pytest.mark.parametrize("name", registry.names())
def test_a_run_of_every_preset_can_be_resumed(name):
    """Its configuration is rebuilt from what config.json holds, beginning with the defaults of its class."""
    for preset in resolve_name(registry.find(name).presets).values():
        config = preset()
        assert from_dict(type(config), json.loads(json.dumps(to_dict(config)))) == config


def test_a_name_that_is_none_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="salt, vjepa2"):
        registry.find("nothing")


def test_listing_the_projects_loads_none_of_their_code():
    code = (
        "import sys; from fastvid.projects import registry; registry.projects(); "
        "code = [m for m in sys.modules if m == 'torch' or m.startswith('fastvid.projects.') and m.count('.') > 2]; "
        "sys.exit(', '.join(code) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
