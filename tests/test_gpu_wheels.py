"""tools/gpu_wheels.sh with a pip that downloads nothing: what it asks for, what it leaves out, what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Stands where the script calls python: `-m pip` writes small wheels and its arguments, all else is the real one.
PIP = """#!{python}
import os, sys, zipfile
if sys.argv[1:3] != ["-m", "pip"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
open({asked!r}, "w").write("\\n".join(sys.argv[1:]))
wheels = [("av", "", {size}), ("tyro", "Requires-Dist: rich>=11\\n", 9), ("rich", "", 9), ("typing_extensions", "", 9)]
for name, needs, size in wheels:
    path = os.path.join(sys.argv[sys.argv.index("--dest") + 1], f"{{name}}-1.0-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{{name}}-1.0.dist-info/METADATA", f"Name: {{name}}\\n{{needs}}")
        wheel.writestr("data", b"0" * size)
"""


@pytest.fixture
def download(tmp_path):
    def run(*arguments: str, size: int = 10) -> subprocess.CompletedProcess:
        fake = tmp_path / "python"
        fake.write_text(PIP.format(python=sys.executable, asked=str(tmp_path / "asked"), size=size))
        fake.chmod(0o755)
        return subprocess.run(
            [ROOT / "tools/gpu_wheels.sh", *arguments],
            env={**os.environ, "PYTHON": str(fake), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_wheels_that_the_machine_has_are_left_out_and_what_is_needed_of_them_is_said(download, tmp_path):
    done = download(str(tmp_path / "wheels"), "3.12")
    assert done.returncode == 0, done.stderr
    names = {path.name.split("-")[0] for path in (tmp_path / "wheels").iterdir()}
    assert names == {"av", "tyro", "typing_extensions"}
    assert done.stdout.splitlines()[-1] == "the machine itself must have: rich>=11 (by tyro)"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert {"--only-binary=:all:", "cp312", "manylinux_2_28_x86_64", "3.12"} <= set(asked)
    # Of pyproject.toml's, with its bounds, what is not there.
    wanted = {one.partition(">=")[0] for one in asked if ">=" in one}
    assert {"av", "tyro"} <= wanted
    assert not {"torch", "numpy", "scipy", "timm", "transformers"} & wanted
    assert {one for one in asked if ">=" in one} <= set((ROOT / "pyproject.toml").read_text().split('"'))


def test_too_much_is_refused_and_nothing_is_left(download, tmp_path):
    done = download(str(tmp_path / "wheels"), size=61 << 20)
    assert done.returncode != 0
    assert "the wheels take 61.0 MiB and 60 MiB are allowed: av-1.0-py3-none-any.whl (61.0 MiB)" in done.stderr
    assert not (tmp_path / "wheels").exists()


def test_a_folder_with_files_and_a_version_that_is_none_are_refused(download, tmp_path):
    (tmp_path / "file").touch()
    assert f"{tmp_path} is not empty: give a new folder" in download(str(tmp_path)).stderr
    assert "PYTHON_VERSION is 312: give it as 3.12" in download(str(tmp_path / "wheels"), "312").stderr
    assert download().returncode == 2
