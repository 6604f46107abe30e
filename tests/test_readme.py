"""What the README and the docs say is so."""

import re
from pathlib import Path

import torch

from fastvid.projects.salt.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["tubelets"].shape == (2, 392, 1536)
    assert torch.isfinite(names["pred"].grad).all()


def test_the_presets_named_are_those_there_are():
    (line,) = re.findall(r"^Presets of SALT: (.*?)\.", README, flags=re.MULTILINE)
    assert re.findall("`(.*?)`", line) == list(PRESETS)


def test_links_lead_somewhere_and_no_number_is_missing():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text()
        assert "@@" not in text, page
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)
