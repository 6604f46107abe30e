"""The package as a whole: what importing costs, what the commands print, what the files promise."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, **options) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_ops_is_cheap_and_pulls_in_nothing_large():
    code = """
import sys, time, json, torch
before = set(sys.modules)
started = time.process_time()
import fastvid, fastvid.ops
seconds = time.process_time() - started
print(json.dumps([seconds, sorted(m.split(".")[0] for m in set(sys.modules) - before)]))
"""
    seconds, modules = json.loads(python(code))
    assert seconds < 0.3  # of the processor
    heavy = {"transformers", "timm", "av", "matplotlib", "torchvision", "peft", "numba", "triton", "PIL", "tqdm"}
    assert not heavy & set(modules)
    assert python("import sys, fastvid.ops; print('torch._dynamo' in sys.modules)").strip() == "False"


def test_importing_does_not_start_cuda():
    code = "import torch, fastvid.ops, fastvid.info; print(torch.cuda.is_initialized())"
    assert python(code).strip() == "False"


def test_info_prints_what_a_bug_report_needs():
    code = "import sys, fastvid.info as i; i.main([]); sys.exit(bool({'timm', 'transformers'} & set(sys.modules)))"
    printed = python(code)
    for word in ("torch", "compiler", "instruction set", "gpu", "triton", "decoders", "pyav"):
        assert word in printed


def test_info_has_its_values_in_one_column():
    from fastvid.info import as_text

    assert as_text({"a": {"x": "1"}, "b": {"longer": "2"}}) == "a:\n  x       1\nb:\n  longer  2"


def test_without_the_native_core_everything_still_works():
    """What FASTVID_NATIVE=0 installs: the same package without fastvid/_C."""
    code = """
import importlib.util, sys, warnings
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "fastvid._C" else find(name, *a)
import torch
from fastvid.ops import gather_tokens, gather_tubelets, masked_mse, multiblock_mask
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    visible, masked = multiblock_mask(torch.arange(2), (2, 4, 4), masked=20, visible=12, seed=0, draw=0)
    clip = torch.randint(256, (2, 4, 64, 64, 3), dtype=torch.uint8)
    tokens = gather_tubelets(clip, visible)
    pred = torch.randn(2, 20, 8, requires_grad=True)
    masked_mse(pred, torch.randn(2, 32, 8), masked).backward()
    gather_tokens(tokens, visible % 12)
said = [str(w.message) for w in caught if "fastvid" in str(w.message)]
assert len(said) == 1 and "plain PyTorch on cpu: fastvid has no native core built" in said[0], said
assert pred.grad is not None
try:
    masked_mse(pred, torch.randn(2, 32, 8), masked, backend="native")
except RuntimeError as error:
    assert "no native core built" in str(error)
else:
    sys.exit("backend='native' did not complain")
"""
    python(code)


def test_unknown_commands_are_answered():
    for arguments, words in (
        (["-m", "fastvid.train", "sallt"], "no project 'sallt': choose one of salt"),
        (["-m", "fastvid.data", "pak"], "no command 'pak'"),
        (["-m", "fastvid.report", "/nowhere"], "is not a run directory"),
        (["-m", "fastvid.info", "/nowhere"], "is not a run directory"),
    ):
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert words in done.stderr


def test_the_demo_command_writes_a_data_set(tmp_path):
    command = [
        sys.executable,
        "-m",
        "fastvid.data",
        "demo",
        "--out",
        str(tmp_path / "d"),
        "--train",
        "8",
        "--test",
        "4",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d" / "train" / "train-000000.tar").exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stderr


# What the training process and the child that it started itself say to each other is pickled, by multiprocessing too.
MESSAGES = ("messages.py", "worker.py", "worker_handle.py")


def test_no_file_unpickles():
    """Weights are safetensors and JSON; nothing here runs code from a file it loads. Of a user's ``.pt`` files tensors
    alone are read."""
    offenders = []
    for path in (ROOT / "fastvid").rglob("*.py"):
        text = re.sub(r"torch\.load\([^()]*weights_only=True\)", "", path.read_text())
        words = ["pickle.load(", "torch.load(", "allow_pickle=True"]
        words += [] if path.name in MESSAGES else ["import pickle"]
        offenders += [(path.name, word) for word in words if word in text]
    assert offenders == []


@pytest.mark.parametrize("name", ["pyproject.toml", "setup.py", "CMakeLists.txt", "LICENSE", "README.md", ".ci/run"])
def test_the_top_level_is_as_agreed(name):
    assert (ROOT / name).exists()
