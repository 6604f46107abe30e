"""Packages that load their names when they are first used tell editors and type checkers the same names."""

import ast
import importlib
from pathlib import Path

import pytest

import fastvid

ROOT = Path(fastvid.__file__).parent
LAZY = sorted(
    ".".join(("fastvid", *path.parent.relative_to(ROOT).parts))
    for path in ROOT.rglob("__init__.py")
    if "__getattr__" in path.read_text()
)


def shown_to_type_checkers(package) -> dict[str, str]:
    """Names in the package's ``if TYPE_CHECKING`` block, and the module that each is imported from."""
    tree = ast.parse(Path(package.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [statement for block in blocks for statement in block.body]
    assert all(isinstance(statement, ast.ImportFrom) for statement in imports)
    names = {alias.asname: statement.module for statement in imports for alias in statement.names}
    assert None not in names  # `import x as x`: a name that is handed on
    return names


def test_the_packages_with_lazy_names_are_known():
    assert LAZY == [
        "fastvid", "fastvid.data", "fastvid.eval", "fastvid.latents", "fastvid.models", "fastvid.nn",
        "fastvid.projects.fvlm", "fastvid.projects.salt", "fastvid.projects.trajectory", "fastvid.projects.vjepa2",
    ]  # fmt: skip


@pytest.mark.parametrize("name", LAZY)
def test_type_checkers_see_the_names_that_are_loaded_on_use(name):
    package = importlib.import_module(name)
    if name == "fastvid":
        expected = {**dict.fromkeys(package._PACKAGES, "fastvid"), "load": "fastvid.projects.load"}
    else:
        expected = {lazy: f"{name}.{home}" for lazy, home in package._HOMES.items()}
    assert shown_to_type_checkers(package) == expected


@pytest.mark.parametrize("name", LAZY)
def test_every_lazy_name_is_there(name):
    package = importlib.import_module(name)
    for lazy, home in shown_to_type_checkers(package).items():
        assert getattr(package, lazy) is getattr(importlib.import_module(home), lazy)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
