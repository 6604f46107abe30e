"""What the README and the docs say is so."""

import ast
import builtins
import re
from pathlib import Path

import pytest
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


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_an_example_imports_or_makes_every_name_it_uses(page):
    given = {"data", "keys", "ids", "view_hashes", "tokens"}  # by whoever reads
    for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL):
        tree, names = ast.parse(code), {}
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page, "exec"), names)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        made = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        assert used <= names.keys() | made | given | vars(builtins).keys()


def test_the_presets_named_are_those_there_are():
    (line,) = re.findall(r"^Presets of SALT: (.*?)\.", README, flags=re.MULTILINE)
    assert re.findall("`(.*?)`", line) == list(PRESETS)


def test_links_lead_somewhere_and_no_number_is_missing():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text()
        assert "@@" not in text, page
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("http") or (page.parent / target).exists(), (page, target)


def test_the_files_that_the_walks_pass_are_there():
    rows = re.findall(r"^\| (`[^|]*\.py`.*?) \|", (ROOT / "docs" / "contributing.md").read_text(), flags=re.MULTILINE)
    files = [name for row in rows for name in re.findall(r"`(\w+/[\w/]+\.py)`", row)]
    assert len(files) > 30
    assert [name for name in files if not (ROOT / "fastvid" / name).is_file()] == []
