"""The package uses PyTorch's public interface only: private names change without notice."""

import ast
from pathlib import Path

import pytest

import fastvid

PACKAGE = Path(fastvid.__file__).parent

# Where torch has no public way, with the reason.
EXCEPTIONS = {
    # The share of activations that a compiled step keeps. torch 2.11 has no other setting; the public
    # torch.autograd.graph.region_activation_memory_budget came with 2.14, as a prototype.
    ("train/session.py", "torch._functorch.config.activation_memory_budget"),
}


def private_names(source: str) -> set[str]:
    """Dotted names under torch that a module imports or reads, of which a part begins with an underscore."""
    tree = ast.parse(source)
    meaning = {}  # of a name in the module
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "torch":
                    used.add(alias.name)
                    meaning[alias.asname or "torch"] = alias.name if alias.asname else "torch"
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "torch":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                used.add(full)
                meaning[alias.asname or alias.name] = full
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in meaning:
            used.add(".".join([meaning[node.id], *reversed(parts)]))
        used |= {f"torch.{part}" for part in parts if part.startswith(("_dynamo", "_torchdynamo"))}  # set on functions
    return {
        name
        for name in used
        if name.split(".")[0] == "torch"
        and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch._dynamo", "torch._dynamo"),
        ("import torch\nkeys = torch._C.DispatchKeySet", "torch._C.DispatchKeySet"),
        ("import torch as t\nt._C", "torch._C"),
        ("from torch._C import DispatchKeySet", "torch._C.DispatchKeySet"),
        ("from torch import _C", "torch._C"),
        (
            "from torch.autograd import forward_ad as f\nf._current_level",
            "torch.autograd.forward_ad._current_level",
        ),
        ("def f(): ...\nf._dynamo_marked_constant = True", "torch._dynamo_marked_constant"),
    ],
)
def test_private_names_are_found(source, found):
    assert found in private_names(source)


def test_public_names_are_left_alone():
    source = "import torch, numpy as np\nfrom torch import nn\ntorch.__version__, nn.Linear, np._core, self._x"
    assert private_names(source) == set()


def test_no_module_uses_private_torch_names():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    used = {(path.relative_to(PACKAGE).as_posix(), name) for path in files for name in private_names(path.read_text())}
    leads_to = {(path, name[:end]) for path, name in EXCEPTIONS for end in range(len(name) + 1)}
    assert used - leads_to == set()
    assert used >= EXCEPTIONS
