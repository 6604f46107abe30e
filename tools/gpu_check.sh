#!/usr/bin/env bash
# Builds fastvid in place on a machine with a CUDA GPU, nvcc and torch, without network or build isolation, runs the
# tests and benchmarks that need a GPU, and leaves their results as JSON.
#
#   tools/gpu_check.sh RESULTS_FOLDER
#
# Exit code 0 when everything that ran passed.
set -uo pipefail
cd "$(dirname "$0")/.."
results=${1:?usage: tools/gpu_check.sh RESULTS_FOLDER}
mkdir -p "$results"
results=$(cd "$results" && pwd)
python=${PYTHON:-python3}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

"$python" - <<'PY' || exit 1
import importlib.util, shutil, sys
missing = [m for m in ("torch", "setuptools", "pybind11", "pytest", "pytest_benchmark") if not importlib.util.find_spec(m)]
missing += [m for m in ("cmake", "ninja") if not shutil.which(m)]
if missing:
    sys.exit(f"missing: {', '.join(missing)}")
import torch
if not torch.cuda.is_available():
    sys.exit("torch sees no CUDA device")
PY

FASTVID_CUDA=1 "$python" setup.py -q build_ext --inplace >"$results/build.log" 2>&1 || { tail -40 "$results/build.log"; exit 1; }

code=0
"$python" -m pytest tests/gpu tests/ops -q --junitxml="$results/tests.xml" || code=1
"$python" -m pytest benchmarks/bench_gpu.py --benchmark-only -q --benchmark-json="$results/benchmarks.json" || code=1

"$python" - "$results" <<'PY' || code=1
import json, subprocess, sys, xml.etree.ElementTree as xml
from datetime import date
from pathlib import Path

import torch

from fastvid import _native

results = Path(sys.argv[1])
suite = xml.parse(results / "tests.xml").getroot().find("testsuite")
cases = [(f"{c.get('classname')}::{c.get('name')}", c) for c in suite.iter("testcase")]
driver = subprocess.run(
    ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"],
    capture_output=True, text=True,
).stdout.strip().splitlines()
commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
benchmarks = results / "benchmarks.json"
report = {
    "date": date.today().isoformat(),
    "commit": commit,
    "gpu": driver,
    "torch": torch.__version__,
    "build": _native.BUILD_INFO,
    "tests": {
        "passed": sum(c.find("failure") is None and c.find("error") is None and c.find("skipped") is None for _, c in cases),
        "skipped": [name for name, c in cases if c.find("skipped") is not None],
        "failed": [name for name, c in cases if c.find("failure") is not None or c.find("error") is not None],
    },
    "benchmarks": [
        {"name": b["name"], **b["extra_info"]}
        for b in (json.loads(benchmarks.read_text())["benchmarks"] if benchmarks.exists() else [])
    ],
}
(results / "gpu_check.json").write_text(json.dumps(report, indent=1) + "\n")
if not report["tests"]["passed"] or any("tests.gpu" in name for name in report["tests"]["skipped"]):
    sys.exit("tests of the GPU were skipped: nothing is proved")
print(f"{report['tests']['passed']} tests passed, {len(report['tests']['failed'])} failed; {results / 'gpu_check.json'}")
PY
exit $code
