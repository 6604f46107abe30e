"""Sweeps of a recipe that trains nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastvid.sweep import grid_command, publish
from fastvid.sweep.__main__ import main

RECIPE = [sys.executable, str(Path(__file__).with_name("fake_recipe.py"))]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweep(tmp_path, capfd, monkeypatch):
    """``sweep(*options)`` runs a sweep in this process: its exit code, and what it printed. Unless asked for, it draws
    no page, which takes longer than everything else."""

    def launch(*options, out=tmp_path / "s", page=False, project="vjepa2", recipe=RECIPE):
        monkeypatch.setattr(grid_command, "publish_page", publish.publish_page if page else lambda *_: None)
        code = main([project, "--out", str(out), *map(str, options)], command=recipe)
        return code, capfd.readouterr()

    return launch


def in_background(out: Path, *options: str, **environment: str) -> subprocess.Popen:
    """The same as a process of its own."""
    line = (
        f"from fastvid.sweep.__main__ import main; sys.exit(main({['vjepa2', '--out', str(out), *options]}, {RECIPE}))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; {line}"], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def starts(out: Path) -> dict[str, list[dict]]:
    """How often each run was started, and how."""
    return {p.parent.name: json.loads(p.read_text())["starts"] for p in sorted(out.glob("runs/*/run.json"))}
